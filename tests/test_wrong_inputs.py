# SPDX-License-Identifier: BSD-3-Clause
"""What cannot work says what was given, what is needed and what to do."""

import re

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import FunctionTransformer

from sklearn_scan import SCANClustering, Training
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
        {"fine_tuning": Training(epochs=-1)},
        ROWS,
        ValueError,
        "Got -1",
    ),
    ("unknown pretext", {"pretext": "byol"}, ROWS, ValueError, "'pretext'.*'byol'"),
    ("pretext class", {"pretext": SimCLR}, ROWS, TypeError, r"needed: SimCLR\(\)"),
    ("unknown encoder", {"encoder": "vgg"}, IMAGES, ValueError, "'encoder'.*'vgg'"),
    ("unknown views", {"views": "blur"}, IMAGES, ValueError, "'views'.*'blur'"),
    ("unknown device", {"device": "gpu"}, ROWS, ValueError, "'device'.*'gpu'"),
    ("float16", {"precision": "float16"}, ROWS, ValueError, "'precision'"),
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
        fine_tuning=None,
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
