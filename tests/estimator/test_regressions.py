# SPDX-License-Identifier: BSD-3-Clause
"""What once went wrong."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import FunctionTransformer

from sklearn_scan import SCANClustering, TrainingConfig
from sklearn_scan._backbone import transform_rows
from sklearn_scan.pretext import SimCLR

pytestmark = pytest.mark.filterwarnings(
    "default::sklearn.exceptions.ConvergenceWarning"
)


def quick(**params):
    params = {"n_clusters": 3, "n_heads": 2, "pretext": SimCLR(epochs=2)} | params
    return SCANClustering(
        head_search=TrainingConfig(epochs=3),
        clustering=params.pop("clustering", None),
        self_labeling=None,
        random_state=0,
        **params,
    )


@pytest.fixture
def images(digits):
    return digits[0][:100]


class StopPretext:
    """A callback that ends the pretext after one epoch."""

    def setup(self, estimator, context): ...

    def on_fit_task_begin(self, estimator, context): ...

    def on_fit_task_end(self, estimator, context):
        return context.task_name == "epoch" and context.parent.task_name == "pretext"

    def teardown(self, estimator, context): ...


def test_a_stopped_pretext_is_not_cached(images, tmp_path):
    stopped = quick(memory=tmp_path).set_callbacks(StopPretext()).fit(images)
    assert len(stopped.history_["pretext"]) == 1
    assert len(quick(memory=tmp_path).fit(images).history_["pretext"]) == 2


def test_precisions_are_cached_apart(images, tmp_path):
    half = quick(memory=tmp_path, precision="bfloat16").fit(images)
    full = quick(memory=tmp_path, precision="float32").fit(images)
    assert not np.array_equal(half.embedding_, full.embedding_)


def test_the_cache_is_announced(images, tmp_path, capsys):
    quick(memory=tmp_path).fit(images)
    quick(memory=tmp_path, verbose=1).fit(images)
    assert "pretext taken from the cache" in capsys.readouterr().out


@pytest.mark.parametrize("integer", [np.int64, np.uint8])
def test_numpy_integers_are_integers(images, integer):
    clusterer = quick(
        n_clusters=integer(20),
        n_heads=integer(20),
        K=integer(5),
        clustering=TrainingConfig(epochs=integer(2)),
        batch_size=integer(64),
        pretext=SimCLR(epochs=integer(1), batch_size=integer(50)),
    ).fit(images)
    assert clusterer.predict_proba(images).shape == (100, 20)


def test_a_network_that_diverged_is_not_kept(images, monkeypatch):
    def diverge(network, *args):
        with torch.no_grad():
            network.heads.linear.weight.fill_(torch.nan)
        return network

    import copy

    monkeypatch.setattr(
        "sklearn_scan._scan.cluster", lambda net, *a, **k: diverge(copy.deepcopy(net))
    )
    clusterer = quick(clustering=TrainingConfig(epochs=1)).fit(images)
    assert np.isfinite(clusterer.confidence_).all()
    assert [note["kept"] for note in clusterer.history_["selection"]] == [True, False]


def test_a_pretext_that_diverged_says_so(images):
    with pytest.raises(ValueError, match=r"diverged.*learning rate \(lr=1e\+30\)"):
        quick(pretext=SimCLR(epochs=3, lr=1e30)).fit(images)


def test_lists_of_pictures(images):
    pictures = [Image.fromarray((image * 15).astype(np.uint8)) for image in images]
    clusterer = quick().fit(pictures)
    np.testing.assert_array_equal(clusterer.predict(pictures), clusterer.labels_)
    with pytest.raises(ValueError, match=r"2 sizes.*image_shape"):
        quick().fit([*pictures, pictures[0].resize((9, 9))])


@pytest.mark.parametrize("parameter", ["encoder", "views"])
def test_module_instances_are_refused(images, parameter):
    pretext = SimCLR(epochs=1, **{parameter: torch.nn.Flatten()})
    with pytest.raises(TypeError, match="is the module Flatten; pass a class"):
        quick(pretext=pretext).fit(images)


def test_a_module_that_a_factory_shares_is_left_alone(images):
    shared = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 8))
    before = shared[1].weight.detach().clone()
    first = quick(pretext=SimCLR(encoder=lambda shape: shared, epochs=1)).fit(images)
    again = quick(pretext=SimCLR(encoder=lambda shape: shared, epochs=1)).fit(images)
    assert torch.equal(shared[1].weight, before)
    np.testing.assert_array_equal(first.embedding_, again.embedding_)


def test_the_defaults_of_torch_may_be_others(images):
    expected = quick().fit(images).labels_
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        clusterer = quick().fit(images)
        labels = clusterer.predict(images)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    np.testing.assert_array_equal(labels, expected)


def test_after_a_fit_that_failed_nothing_is_fitted(images):
    clusterer = quick().fit(images)
    with pytest.raises(ValueError, match="NaN"):
        clusterer.fit(np.full((9, 4), np.nan))
    with pytest.raises(NotFittedError):
        clusterer.predict(images)


def test_parameters_set_after_fit_wait_for_the_next(images):
    rows = images.reshape(100, -1)
    clusterer = quick(image_shape=(8, 8)).fit(rows)
    clusterer.set_params(image_shape=None, pretext="auto")
    np.testing.assert_array_equal(clusterer.predict(rows), clusterer.labels_)


@pytest.mark.parametrize("pretext", ["auto", FunctionTransformer()])
def test_the_embedding_is_not_the_memory_of_X(blobs, pretext):
    X = blobs[0].copy()
    clusterer = SCANClustering(
        3, pretext=pretext, head_search=TrainingConfig(epochs=3), random_state=0
    ).fit(X)
    embedding, probabilities = clusterer.transform(X), clusterer.predict_proba(X)
    assert not np.shares_memory(clusterer.embedding_, X)
    assert not np.shares_memory(embedding, X)
    kept = X.copy()
    X[:] = 0
    np.testing.assert_array_equal(clusterer.embedding_, kept)
    np.testing.assert_array_equal(embedding, kept)
    np.testing.assert_array_equal(clusterer.predict_proba(kept), probabilities)


def test_an_embedding_of_its_own_is_not_copied():
    made = np.ones((4, 2), dtype=np.float32)
    rows = np.zeros((4, 2), dtype=np.float32)
    assert transform_rows(rows, FunctionTransformer(lambda X: made)) is made
    assert transform_rows(rows, FunctionTransformer()) is not rows


def test_every_dependency_is_imported():
    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    names = {"scikit-learn": "sklearn", "faiss-cpu": "faiss", "pillow": "PIL"}
    code = "\n".join(f.read_text() for f in root.glob("sklearn_scan/**/*.py"))
    imported = set(re.findall(r"^\s*(?:import|from) (\w+)", code, re.MULTILINE))
    needed = [re.match(r"[\w-]+", line)[0] for line in project["dependencies"]]
    assert {names.get(name, name) for name in needed} - imported == set()
