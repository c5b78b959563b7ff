# SPDX-License-Identifier: BSD-3-Clause
"""Searches, cross-validation and the cache of the pretext."""

import warnings

import joblib
import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    StratifiedKFold,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_scan import SCANClustering, TrainingConfig
from sklearn_scan._engine import Trainer
from sklearn_scan.metrics import hungarian_accuracy_scorer, majority_accuracy_scorer
from sklearn_scan.pretext import SimCLR

# Two epochs are enough to count with, and not to find ten clusters with.
pytestmark = [
    pytest.mark.filterwarnings("default::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.usefixtures("few_steps"),
]

GRID = {"K": [2, 4], "threshold": [0.9, 0.99], "n_clusters": [3, 4]}


@pytest.fixture
def counting_simclr(tmp_path):
    """Return a SimCLR factory and a function that counts its trainings.

    Trainings are counted in a file, because with `n_jobs=2` they happen in other
    processes.
    """
    log = tmp_path / "trainings.txt"
    log.touch()
    pretext = SimCLR(encoder="convnet", views=LoggingViews(str(log)), epochs=2)
    return pretext, lambda: len(log.read_text().split())


class LoggingViews:
    """A factory of views that writes a line whenever a net in training draws first."""

    def __init__(self, path):
        self.path = path

    def __call__(self, shape):
        return _LoggingView(self.path)


def quick(**params):
    """Return a clusterer whose heads learn little."""
    params = {"n_heads": 2, "head_search": TrainingConfig(epochs=1)} | params
    return SCANClustering(3, random_state=0, **params)


def _make_logging_view():
    from torch import nn

    class LoggingView(nn.Module):
        def __init__(self, path):
            super().__init__()
            self.path = path
            self.was_used = False

        def forward(self, batch):
            if not self.was_used:
                self.was_used = True
                with open(self.path, "a") as file:
                    file.write("trained\n")
            return batch.flip(-1)

    return LoggingView


_LoggingView = _make_logging_view()


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_grid_trains_the_pretext_once_per_fold(
    digits, tmp_path, counting_simclr, n_jobs
):
    X, y = (part[:80] for part in digits)
    pretext, count = counting_simclr
    clusterer = SCANClustering(
        n_heads=2,
        pretext=pretext,
        head_search=TrainingConfig(epochs=1),
        clustering=TrainingConfig(epochs=1),
        self_labeling=TrainingConfig(epochs=1),
        views="affine",
        memory=str(tmp_path / "cache"),
        random_state=0,
    )
    search = GridSearchCV(
        clusterer,
        GRID,
        scoring=hungarian_accuracy_scorer,
        cv=StratifiedKFold(2, shuffle=True, random_state=0),
        n_jobs=n_jobs,
        error_score="raise",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        search.fit(X, y)
    assert len(search.cv_results_["params"]) == 8
    assert count() == 3
    assert search.best_estimator_.labels_.shape == (len(X),)


def test_searches_work_without_labels(digits, tmp_path):
    X = digits[0][:200]
    clusterer = SCANClustering(
        n_heads=2,
        pretext=SimCLR(epochs=1),
        head_search=TrainingConfig(epochs=5),
        clustering=None,
        self_labeling=None,
        memory=str(tmp_path),
        random_state=0,
    )
    search = GridSearchCV(
        clusterer, {"K": [5, 20]}, cv=KFold(2, shuffle=True, random_state=0)
    ).fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_clusterers_are_compared_under_the_same_scorers(digits):
    X, y = digits
    scoring = {
        "accuracy": hungarian_accuracy_scorer,
        "majority": majority_accuracy_scorer,
        "nmi": "normalized_mutual_info_score",
    }
    flatten = FunctionTransformer(flatten_images)
    candidates = [
        SCANClustering(
            n_heads=4,
            pretext=SimCLR(epochs=5),
            head_search=TrainingConfig(epochs=20),
            clustering=TrainingConfig(epochs=1),
            self_labeling=None,
            random_state=0,
        ),
        make_pipeline(SimCLR(epochs=5, random_state=0), KMeans(10, random_state=0)),
        make_pipeline(flatten, KMeans(10, random_state=0)),
    ]
    cv = StratifiedKFold(2, shuffle=True, random_state=0)
    for candidate in candidates:
        results = cross_validate(
            candidate, X, y, scoring=scoring, cv=cv, error_score="raise"
        )
        assert (results["test_accuracy"] > 0.3).all(), candidate
        assert (results["test_majority"] >= results["test_accuracy"]).all()


def flatten_images(X):
    return X.reshape(len(X), -1)


def test_the_cache_gives_what_training_gives(digits, tmp_path):
    X = digits[0][:200]
    params = {
        "n_heads": 2,
        "pretext": SimCLR(epochs=2),
        "head_search": TrainingConfig(epochs=5),
        "clustering": TrainingConfig(epochs=1),
        "self_labeling": None,
        "random_state": 0,
    }
    plain = SCANClustering(**params).fit(X)
    first = SCANClustering(**params, memory=str(tmp_path)).fit(X)
    again = SCANClustering(**params, memory=joblib.Memory(str(tmp_path), verbose=0))
    again.fit(X)
    for other in (first, again):
        np.testing.assert_array_equal(other.embedding_, plain.embedding_)
        np.testing.assert_array_equal(other.labels_, plain.labels_)
        np.testing.assert_array_equal(other.transform(X), plain.transform(X))
    assert again.history_["pretext"] == first.history_["pretext"]


@pytest.mark.parametrize(
    "change",
    [
        {"random_state": 1},
        {"pretext__temperature": 0.2},
        {"pretext__epochs": 2},
    ],
    ids=str,
)
def test_the_cache_tells_pretexts_apart(digits, tmp_path, change):
    clusterer = SCANClustering(
        n_heads=2,
        pretext=SimCLR(epochs=1),
        head_search=TrainingConfig(epochs=1),
        clustering=None,
        self_labeling=None,
        memory=str(tmp_path),
        random_state=0,
    )
    X = digits[0][:100]
    before = clusterer.fit(X).embedding_
    after = clusterer.set_params(**change).fit(X).embedding_
    assert not np.array_equal(before, after)


def test_other_pretexts_are_cached_as_well(digits, tmp_path):
    X = digits[0][:100]
    memory = joblib.Memory(tmp_path, verbose=0)
    clusterer = quick(pretext=PCA(5), memory=memory)
    first = clusterer.fit(X)
    labels, embedding = first.labels_, first.embedding_
    again = clusterer.fit(X)
    np.testing.assert_array_equal(again.embedding_, embedding)
    np.testing.assert_array_equal(again.labels_, labels)
    np.testing.assert_array_equal(again.predict(X), labels)


def count_calls(monkeypatch, owner, name):
    """Write down the first arguments with which a function is called."""
    calls, function = [], getattr(owner, name)

    def counted(*args, **kwargs):
        calls.append(args)
        return function(*args, **kwargs)

    monkeypatch.setattr(owner, name, counted)
    return calls


def test_a_smaller_K_is_a_slice_of_a_larger(digits, tmp_path):
    rows = digits[0][:200].reshape(200, -1)
    fits = [quick(K=K, memory=str(tmp_path)).fit(rows) for K in (7, 3, 12)]
    plain = quick(K=12).fit(rows)
    for clusterer in fits:
        K = clusterer.neighbors_.shape[1]
        assert np.array_equal(clusterer.neighbors_, plain.neighbors_[:, :K])
    assert [clusterer.neighbors_.shape[1] for clusterer in fits] == [7, 3, 12]
    mined = list(tmp_path.glob("joblib/sklearn_scan/neighbors/mine_neighbors/*/*.pkl"))
    assert len(mined) == 1, "they were mined once"


def test_a_search_over_the_threshold_repeats_self_labelling_alone(
    digits, tmp_path, monkeypatch
):
    X = digits[0][:200]
    trained = count_calls(monkeypatch, Trainer, "train")
    once = TrainingConfig(epochs=1)
    for threshold in (0.3, 0.4, 0.3):
        SCANClustering(
            3,
            threshold=threshold,
            n_heads=2,
            pretext=SimCLR(epochs=1),
            head_search=once,
            clustering=once,
            self_labeling=once,
            keep="last",
            memory=str(tmp_path),
            random_state=0,
        ).fit(X)
    stages = [stage.name for _, stage, _ in trained]
    assert stages == [
        "pretext",
        "head_search",
        "clustering",
        "self_labeling",
        "self_labeling",
    ]


def test_a_stage_from_the_cache_is_the_stage_that_was_trained(digits, tmp_path):
    X = digits[0][:200]
    once = TrainingConfig(epochs=2)
    fits = [
        SCANClustering(
            3,
            n_heads=2,
            pretext=SimCLR(epochs=1),
            head_search=once,
            clustering=once,
            self_labeling=once,
            threshold=0.3,
            memory=memory,
            random_state=0,
        ).fit(X)
        for memory in (None, str(tmp_path), str(tmp_path))
    ]
    for other in fits[1:]:
        for name in ("labels_", "confidence_", "embedding_", "prototypes_"):
            assert np.array_equal(getattr(fits[0], name), getattr(other, name)), name
        for stage, records in fits[0].history_.items():
            told = [{k: v for k, v in r.items() if k != "seconds"} for r in records]
            again = other.history_[stage]
            assert told == [
                {k: v for k, v in r.items() if k != "seconds"} for r in again
            ]


def test_the_cache_gives_the_same_neighbours_among_duplicates(tmp_path):
    X = np.repeat(np.eye(6, dtype=np.float32), 20, axis=0)
    plain, cached = (
        quick(K=4, memory=memory).fit(X).neighbors_ for memory in (None, str(tmp_path))
    )
    assert np.array_equal(plain, cached)
