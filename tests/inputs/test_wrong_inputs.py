# SPDX-License-Identifier: BSD-3-Clause
"""What cannot work says what was given, what is needed and what to do."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import Reader
from scipy import sparse
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_scan import SCANClustering, TrainingConfig
from sklearn_scan._engine import Runtime
from sklearn_scan.pretext import SimCLR

RNG = np.random.default_rng(0)
ROWS = RNG.random((30, 6))
IMAGES = RNG.integers(0, 256, (30, 8, 8), dtype=np.uint8)


def with_value(X, value):
    X = X.astype(float)
    X.flat[7] = value
    return X


WRONG_FITS = [
    # (what is wrong, parameters, X, the error, what the message says)
    (
        "missing files",
        {},
        ["a.png", "b.png"],
        ValueError,
        "2 of 2.*a.png: no such file",
    ),
    ("a missing folder", {}, "pictures", ValueError, "no folder 'pictures'"),
    ("rows of strings", {}, [["a", "b"], ["c", "d"]], TypeError, "X holds text"),
    ("None", {}, None, ValueError, "X is None. Accepted"),
    ("a number", {}, 3.0, ValueError, "Expected 2D array"),
    ("one dimension", {}, ROWS[0], ValueError, "Reshape your data"),
    ("five dimensions", {}, np.zeros((3, 2, 2, 2, 2)), ValueError, "Accepted are"),
    ("no sample", {}, ROWS[:0], ValueError, "0 sample"),
    ("no feature", {}, ROWS[:, :0], ValueError, r"0 feature\(s\)"),
    ("no pixel", {}, IMAGES[:, :0], ValueError, "Accepted are"),
    ("one sample", {}, ROWS[:1], ValueError, "minimum of 2 is required"),
    ("one image", {}, IMAGES[:1], ValueError, "minimum of 2 is required"),
    ("NaN in rows", {}, with_value(ROWS, np.nan), ValueError, "NaN"),
    ("NaN in images", {}, with_value(IMAGES, np.nan), ValueError, "NaN"),
    ("infinity", {}, with_value(ROWS, np.inf), ValueError, "infinity"),
    ("beyond float32", {}, with_value(ROWS, -1e300), ValueError, "Scale X"),
    ("too many heads", {"n_heads": 10**30}, ROWS, ValueError, "'n_heads' parameter"),
    ("complex numbers", {}, ROWS + 1j, ValueError, "Complex data"),
    ("objects", {}, np.array([[{}, 1], [2, 3]], dtype=object), TypeError, "argument"),
    ("ragged rows", {}, [[1, 2], [3]], ValueError, "inhomogeneous"),
    ("seven channels", {}, np.zeros((9, 8, 8, 7)), ValueError, "1 to 4 channels"),
    ("clusters > n", {"n_clusters": 31}, ROWS, ValueError, "n_samples=30 should be >="),
    ("no cluster", {"n_clusters": 0}, ROWS, ValueError, "'n_clusters'.*Got 0"),
    ("half clusters", {"n_clusters": 2.5}, ROWS, ValueError, "'n_clusters'.*Got 2.5"),
    ("K below zero", {"K": -1}, ROWS, ValueError, "'K'.*Got -1"),
    ("threshold of zero", {"threshold": 0}, ROWS, ValueError, "'threshold'"),
    ("threshold above 1", {"threshold": 1.5}, ROWS, ValueError, "Got 1.5"),
    ("negative entropy", {"entropy_weight": -1}, ROWS, ValueError, "Got -1"),
    ("no head", {"n_heads": 0}, ROWS, ValueError, "'n_heads'"),
    ("batch of one", {"batch_size": 1}, ROWS, ValueError, "'batch_size'"),
    (
        "negative epochs",
        {"clustering": TrainingConfig(epochs=-1)},
        ROWS,
        ValueError,
        "Got -1",
    ),
    ("unknown pretext", {"pretext": "byol"}, ROWS, ValueError, "'pretext'.*'byol'"),
    (
        "pretext class",
        {"pretext": SimCLR},
        ROWS,
        TypeError,
        "an instance, SimCLR",
    ),
    ("unknown encoder", {"encoder": "vgg"}, IMAGES, ValueError, "'encoder'.*'vgg'"),
    ("unknown views", {"views": "blur"}, IMAGES, ValueError, "'views'.*'blur'"),
    ("unknown device", {"device": "gpu"}, ROWS, ValueError, "'device'.*'gpu'"),
    ("float64", {"precision": "float64"}, ROWS, ValueError, "'precision'"),
    (
        "float16 without a GPU",
        {"precision": "float16", "device": "cpu"},
        ROWS,
        ValueError,
        "needs a CUDA GPU.*'cpu'",
    ),
    (
        "an encoder for images and rows",
        {"encoder": "convnet"},
        ROWS,
        ValueError,
        "rows of 6.*image_shape",
    ),
    (
        "two encoders",
        {"encoder": "mlp", "pretext": SimCLR()},
        ROWS,
        ValueError,
        "Give the encoder to the pretext",
    ),
    (
        "image_shape that does not fit",
        {"image_shape": (3, 3)},
        ROWS,
        ValueError,
        "rows of 6 features.*3 x 3 = 9",
    ),
    (
        "image_shape beside images",
        {"image_shape": (4, 16)},
        IMAGES,
        ValueError,
        "Leave image_shape out",
    ),
    (
        "image_shape of one number",
        {"image_shape": (6,)},
        ROWS,
        ValueError,
        r"image_shape=\(6,\)",
    ),
    (
        "image_shape of text",
        {"image_shape": ("a", "b")},
        ROWS,
        ValueError,
        "image_shape",
    ),
    (
        "vector views of images",
        {"views": "vector"},
        IMAGES,
        ValueError,
        'rows need "vector"',
    ),
    (
        "a pretext that drops samples",
        {"pretext": FunctionTransformer(lambda X: X[:5])},
        ROWS,
        ValueError,
        r"shape \(5, 6\) for 30 samples",
    ),
    ("a pretext that fails", {"pretext": PCA(99)}, ROWS, ValueError, "n_components=99"),
    (
        "an encoder that is no module",
        {"encoder": len},
        IMAGES,
        TypeError,
        "not a torch.nn.Module",
    ),
]


@pytest.mark.parametrize(
    "params, X, error, says",
    [case[1:] for case in WRONG_FITS],
    ids=[case[0] for case in WRONG_FITS],
)
def test_fit_refuses(params, X, error, says):
    clusterer = SCANClustering(**{"n_clusters": 2, "random_state": 0} | params)
    with pytest.raises(error, match=re.compile(says, re.DOTALL)):
        clusterer.fit(X)
    assert not hasattr(clusterer, "labels_")


def objects(*elements):
    """Return a 1-d array of objects."""
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    return array


FRAME = pd.DataFrame({"path": ["a.png", "b.png"], "kind": ["cat", "dog"], "n": [1, 2]})
WRONG_CONTAINERS = [
    # (what is wrong, X, the error, what the message says)
    (
        "objects of several shapes",
        objects(IMAGES[0], IMAGES[1], IMAGES[2, :7]),
        ValueError,
        r"2 shapes: X\[0\] has shape \(8, 8\), and X\[2\] has shape \(7, 8\)\. .* res",
    ),
    (
        "tensors of several shapes",
        [torch.zeros(8, 8), torch.zeros(8, 7)],
        ValueError,
        r"X\[1\] has shape \(8, 7\)",
    ),
    (
        "arrays and None",
        [IMAGES[0], None],
        TypeError,
        r"X holds arrays and other things: X\[1\] is of type NoneType",
    ),
    (
        "a generator",
        (image for image in IMAGES),
        TypeError,
        r"X is of type generator, .* Pass a list of the samples, such as list\(X\)\.",
    ),
    (
        "an iterator",
        iter(IMAGES),
        TypeError,
        r"X is of type \w*iterator, .* list\(X\)\.",
    ),
    ("a map", map(np.sqrt, IMAGES), TypeError, r"X is of type map, .* list\(X\)\."),
    ("a set", {1.0, 2.0}, TypeError, r"X is of type set, .* list\(X\)\."),
    (
        "a Bunch",
        load_digits(),
        TypeError,
        r"X is a Bunch with the keys 'data', .* Pass .*, X\['images'\] or X\['data'\]",
    ),
    (
        "columns",
        {"image": IMAGES, "label": [0] * 30},
        TypeError,
        r"X is a dict with the keys 'image', 'label'\. Pass .*, X\['image'\]\.",
    ),
    (
        "unknown columns",
        dict.fromkeys(range(20), IMAGES),
        TypeError,
        r"keys 0, 1, .* and 12 more\. Pass .*, X\[key\]\.",
    ),
    (
        "rows of columns",
        [{"img": IMAGES[0], "label": 0}] * 3,
        TypeError,
        r"a dict with the keys 'img', 'label'.* alone, \[row\['img'\] for row in X\]",
    ),
    (
        "paths among columns",
        FRAME,
        TypeError,
        r"DataFrame with text in the columns 'path', 'kind'\. .* X\['path'\]",
    ),
    (
        "one column of words",
        FRAME[["kind"]],
        ValueError,
        r"2 of 2 image files cannot be read:\n  cat: no such file",
    ),
]


@pytest.mark.parametrize(
    "X, error, says",
    [case[1:] for case in WRONG_CONTAINERS],
    ids=[case[0] for case in WRONG_CONTAINERS],
)
def test_what_samples_are_wrapped_in_is_named(X, error, says):
    for estimator in (SCANClustering(n_clusters=2), SimCLR()):
        with pytest.raises(error, match=re.compile(says, re.DOTALL)):
            estimator.fit(X)


@pytest.mark.parametrize(
    "gather",
    [
        lambda images: objects(*images),
        lambda images: pd.Series(list(images)),
        lambda images: pd.DataFrame({"image": list(images)}),
        lambda images: [torch.tensor(image) for image in images],
        lambda images: objects(*images).tolist(),
    ],
    ids=["array", "Series", "DataFrame", "tensors", "list"],
)
def test_arrays_in_a_sequence_are_stacked(gather):
    got = Reader().learn(gather(IMAGES))
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, IMAGES)


@pytest.mark.parametrize("format", ["csr", "coo", "dia"])
def test_sparse_arrays_are_named_as_such(format):
    with pytest.raises(TypeError, match="Sparse data was passed"):
        Reader().learn(sparse.eye_array(5, format=format))


@pytest.mark.parametrize("values", [[1, 2, 3], ["1", "2", "3"]])
def test_one_column_of_categories_is_a_row_each(values):
    X = pd.DataFrame({"a": pd.Series(values[:1] * 3 + values).astype("category")})
    if isinstance(values[0], str):
        with pytest.raises(ValueError, match="cannot be read"):
            Reader().learn(X)
    else:
        assert Reader().learn(X).shape == (6, 1)


WRONG_NAMES = [
    # (the clusterer, a parameter that it does not have, what the message says)
    (
        SCANClustering(),
        "pretext__temperature",
        r"pretext='auto' has no parameters.*Pass pretext=SimCLR\(\) first",
    ),
    (
        SCANClustering(),
        "head_search__lr",
        r"head_search='auto' has no .*Pass head_search=TrainingConfig\(\) first",
    ),
    (
        SCANClustering(clustering=None),
        "clustering__lr",
        r"clustering=None has no .*Pass clustering=TrainingConfig\(\) first",
    ),
    (
        SCANClustering(self_labeling=None),
        "self_labeling__views",
        r"self_labeling=None has no .*self_labeling=TrainingConfig\(\) first",
    ),
    (SCANClustering(pretext=SimCLR), "pretext__lr", r"pretext=SimCLR\(\) first"),
    (SCANClustering(), "encoder__depth", r"encoder='auto' has no parameters"),
    (SCANClustering(), "pretence__lr", "Invalid parameter 'pretence'"),
    (SCANClustering(pretext=SimCLR()), "pretext__mood", "Invalid parameter 'mood'"),
]


@pytest.mark.parametrize("clusterer, name, says", WRONG_NAMES)
def test_nested_parameters_need_an_object_that_has_them(clusterer, name, says):
    before = clusterer.get_params()
    with pytest.raises(ValueError, match=says):
        clusterer.set_params(K=5, **{name: 1})
    if "Invalid" not in says:
        assert clusterer.get_params() == before
    with pytest.raises(ValueError, match=says):
        make_pipeline(clusterer).set_params(**{f"scanclustering__{name}": 1})


def test_nested_parameters_are_set_with_their_object():
    clusterer = SCANClustering()
    returned = clusterer.set_params(
        pretext=SimCLR(), pretext__temperature=0.3, clustering=TrainingConfig(), K=7
    )
    assert returned is clusterer.set_params(clustering__lr=0.1).set_params()
    assert (clusterer.pretext.temperature, clusterer.clustering.lr) == (0.3, 0.1)
    assert clusterer.K == 7


@pytest.mark.parametrize("device", ["mps", "cuda", "cuda:9", "xpu"])
def test_a_device_that_is_not_there_is_refused(device, monkeypatch):
    def missing(*args, **kwargs):
        raise NotImplementedError("Could not run 'aten::empty.memory_format'" * 50)

    monkeypatch.setattr(torch, "empty", missing)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    says = (
        f"device='{device}' is not available: torch finds no such device here. Pass "
        'device="auto" .* "cpu"'
    )
    with pytest.raises(ValueError, match=says) as caught:
        Runtime.resolve(device)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("views", [("crop", "blur"), ("smudge", "blur")])
def test_views_that_there_are_not_are_named(views):
    says = r"Unknown views.*: .*'blur'.*Choose from 'affine', 'color', .*'shapes'\."
    with pytest.raises(ValueError, match=says):
        SCANClustering(n_clusters=2, views=views).fit(IMAGES)
    with pytest.raises(ValueError, match=says):
        SCANClustering(n_clusters=2, clustering=TrainingConfig(views=views)).fit(IMAGES)


@pytest.fixture(scope="module")
def on_images():
    return _quick().fit(IMAGES)


@pytest.fixture(scope="module")
def on_rows():
    return SCANClustering(n_clusters=2, random_state=0).fit(ROWS)


def _quick(**params):
    return SCANClustering(
        n_clusters=2,
        pretext=SimCLR(epochs=1),
        clustering=None,
        self_labeling=None,
        random_state=0,
        **params,
    )


@pytest.mark.parametrize("method", ["predict", "predict_proba", "transform", "score"])
@pytest.mark.parametrize(
    "X, says",
    [
        (IMAGES[:, :7], r"samples of shape \(8, 8\)"),
        (IMAGES[..., None], r"must have shape \(n, 8, 8\)"),
        (IMAGES.reshape(30, -1), r"X must have shape \(n, 8, 8\)"),
        (IMAGES / 255, "values from 0 to 1.*range 0 to 255"),
        (IMAGES.astype(float) * 100, "Scale them as the training images"),
        (with_value(IMAGES, np.nan), "NaN"),
        (IMAGES[:0], "0 sample"),
    ],
    ids=["smaller", "4-D", "rows", "rescaled", "too wide", "NaN", "none"],
)
def test_other_images_are_refused(on_images, method, X, says):
    with pytest.raises(ValueError, match=re.compile(says, re.DOTALL)):
        getattr(on_images, method)(X)


@pytest.mark.parametrize(
    "X, says",
    [
        (ROWS[:, :5], "X has 5 features, but SCANClustering is expecting 6"),
        (IMAGES, r"was fitted on samples of shape \(6,\)"),
        (["a", "b"], r"files \(the first is 'a'\), but SCANC.* on rows of 6 features"),
        ([["a", "b"]], "X holds text"),
    ],
    ids=["fewer features", "images", "files", "text"],
)
def test_other_rows_are_refused(on_rows, X, says):
    with pytest.raises((ValueError, TypeError), match=says):
        on_rows.predict(X)


def test_score_needs_a_neighbour(on_rows):
    with pytest.raises(ValueError, match="at least 2 samples"):
        on_rows.score(ROWS[:1])


def test_masks_and_dark_batches_are_not_refused(on_images):
    assert on_images.predict((IMAGES > 128).astype(np.uint8)).shape == (30,)
    assert on_images.predict(np.zeros((1, 8, 8))).shape == (1,)
