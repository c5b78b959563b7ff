# SPDX-License-Identifier: BSD-3-Clause
"""Scorers without labels tell better clusters from worse, and say what they need."""

import pickle

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_scan import SCANClustering, TrainingConfig, _criteria
from sklearn_scan.model_selection import (
    head_agreement_scorer,
    make_silhouette_scorer,
    neighbor_consistency_scorer,
    neighbor_modularity_scorer,
    pseudo_label_scorer,
    scan_objective_scorer,
    silhouette_scorer,
    stability_scorer,
)

SCORERS = (
    head_agreement_scorer,
    neighbor_consistency_scorer,
    neighbor_modularity_scorer,
    pseudo_label_scorer,
    scan_objective_scorer,
    silhouette_scorer,
    stability_scorer,
    make_silhouette_scorer(),
)
#: Those that look at labels and samples alone, whatever the clusterer.
OF_LABELS = (
    neighbor_consistency_scorer,
    neighbor_modularity_scorer,
    pseudo_label_scorer,
    silhouette_scorer,
)


def find_name(scorer):
    """Return a name without the address, which differs between processes."""
    return getattr(scorer, "__name__", type(scorer).__name__)


def quick(n_clusters=3, **params):
    return SCANClustering(
        n_clusters,
        n_heads=2,
        head_search=TrainingConfig(epochs=10),
        random_state=0,
        **params,
    )


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    """Let heads that are searched again have few steps, in two rounds."""
    resampling = "sklearn_scan.model_selection._resampling"
    monkeypatch.setattr(f"{resampling}._N_STEPS", 10)
    monkeypatch.setattr(f"{resampling}._N_ROUNDS", 2)
    for name in ("_polishing", "_following"):
        monkeypatch.setattr(f"sklearn_scan._stages.{name}._STEPS", 5)


@pytest.fixture(scope="module")
def fitted(blobs):
    return quick().fit(blobs[0])


class Told(BaseEstimator):
    """Predicts the clusters that it was told."""

    def __init__(self, labels=None):
        self.labels = labels

    def fit(self, X, y=None):
        return self

    def predict(self, X):
        return self.labels

    def transform(self, X):
        return X

    def predict_proba(self, X):
        return np.eye(1 + np.max(self.labels))[self.labels]


class Silent(BaseEstimator):
    """Cannot answer for new samples."""


@pytest.mark.parametrize("scorer", SCORERS, ids=find_name)
def test_a_good_fit_beats_a_spoiled_one(fitted, blobs, scorer):
    X, _ = blobs
    spoiled = pickle.loads(pickle.dumps(fitted))
    linear = spoiled.net_.module_.heads.linear
    linear.weight.data[..., 0] *= -3
    assert (spoiled.predict(X) != fitted.predict(X)).mean() > 0.2
    assert scorer(fitted, X) > scorer(spoiled, X) + 0.1
    assert scorer(fitted, X) == scorer(fitted, X, np.zeros(len(X))), "y is ignored"


@pytest.mark.parametrize("scorer", SCORERS, ids=find_name)
def test_searches_take_scorers(blobs, scorer):
    search = GridSearchCV(
        quick(), {"n_clusters": [2, 3]}, scoring=scorer, cv=2, error_score="raise"
    )
    search.fit(blobs[0])
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_pipelines_and_other_clusterers_are_scored(blobs):
    X, y = blobs
    scoring = {
        "consistency": neighbor_consistency_scorer,
        "stability": stability_scorer,
        "silhouette": make_silhouette_scorer(PCA(1).fit(X)),
    }
    for clusterer in (
        make_pipeline(StandardScaler(), quick()),
        KMeans(3, n_init=1, random_state=0),
    ):
        found = cross_validate(clusterer, X, y, scoring=scoring, error_score="raise")
        assert found["test_consistency"].mean() > 0.6
        assert found["test_stability"].mean() > 0.6


@pytest.mark.parametrize("scorer", OF_LABELS)
@pytest.mark.parametrize("sizes", [(300, 300), (540, 60)], ids=str)
def test_random_clusters_are_worth_nothing_whatever_their_sizes(scorer, sizes):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 5)).astype(np.float32)
    labels = rng.permutation(np.repeat([0, 1], sizes))
    assert abs(scorer(Told(labels).fit(X), X)) < 0.1


def test_an_estimator_that_finds_something_else_each_time_is_not_stable():
    X = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    assert abs(stability_scorer(Shuffled().fit(X), X)) < 0.1


class Shuffled(Told):
    """Predicts other clusters at every call."""

    def fit(self, X, y=None):
        self.random_ = np.random.default_rng(len(X))
        return self

    def predict(self, X):
        return self.random_.integers(2, size=len(X))


@pytest.mark.parametrize("scorer", OF_LABELS)
def test_a_single_cluster_has_the_lowest_score(blobs, scorer):
    X, y = blobs
    assert scorer(Told(np.zeros(len(X), int)), X) <= 0 < scorer(Told(y), X)


def test_the_number_of_a_cluster_may_be_anything(blobs):
    X, y = blobs
    for scorer in OF_LABELS:
        assert scorer(Told(y), X) == scorer(Told(np.array([7, -1, 3])[y]), X)


def test_the_scan_objective_is_its_formula(blobs):
    X, _ = blobs
    neighbors = np.random.default_rng(0).integers(len(X), size=(len(X), 3))
    p = np.random.default_rng(1).dirichlet(np.ones(4), size=len(X))
    pairs = [np.log(p[i] @ p[j]) for i in range(len(X)) for j in neighbors[i]]
    mean = p.mean(axis=0)
    expected = np.mean(pairs) - (mean * np.log(mean)).sum()
    assert _criteria.scan_objective(p, neighbors) == pytest.approx(expected)


def test_information_is_the_mutual_information_of_pairs():
    from sklearn.metrics import mutual_info_score

    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=50)
    neighbors = np.stack([np.roll(np.arange(50), k) for k in (1, -1)], axis=1)
    neighbors[:5] = -1
    rows, columns = np.nonzero(neighbors >= 0)
    one, other = labels[rows], labels[neighbors[rows, columns]]
    # From both sides, as being near is mutual.
    expected = mutual_info_score(np.append(one, other), np.append(other, one))
    found = _criteria.neighbor_information(labels, neighbors)
    assert found == pytest.approx(expected)


def test_consistency_is_the_share_above_chance():
    labels = np.array([0, 0, 1, 1])
    neighbors = np.array([[1, 2], [0, -1], [3, 0], [2, -1]])
    # Four of six agree, and one half does by chance.
    found = _criteria.neighbor_consistency(labels, neighbors)
    assert found == pytest.approx((4 / 6 - 1 / 2) / (1 / 2))


def test_modularity_is_that_of_the_graph():
    import networkx

    rng = np.random.default_rng(0)
    labels = np.sort(rng.integers(3, size=60))
    near = np.stack([np.roll(np.arange(60), k) for k in (-2, -1, 1, 2)], axis=1)
    graph = networkx.Graph((i, j) for i in range(60) for j in near[i].tolist())
    parts = [np.flatnonzero(labels == c).tolist() for c in range(3)]
    expected = networkx.community.modularity(graph, parts)
    found = _criteria.neighbor_modularity(labels, near)
    assert found == pytest.approx(expected)


def test_a_fixed_space_is_that_of_the_transformer(blobs):
    X, y = blobs
    wide = np.hstack([X, 50 * np.random.default_rng(0).normal(size=(len(X), 1))])
    raw = make_silhouette_scorer()(Told(y), wide)
    told = make_silhouette_scorer(OnlyFirst())(Told(y), wide)
    assert told > raw + 0.3


class OnlyFirst:
    def transform(self, X):
        return X[:, :2]


@pytest.mark.parametrize(
    ("scorer", "method"),
    [
        (neighbor_consistency_scorer, "predict"),
        (scan_objective_scorer, "predict_proba"),
        (stability_scorer, "predict"),
    ],
)
def test_what_is_missing_is_named(blobs, scorer, method):
    with pytest.raises(TypeError, match=f"{scorer.__name__} needs .* with {method}"):
        scorer(Silent(), blobs[0])


def test_other_errors_say_what_to_do(fitted, blobs):
    X, _ = blobs
    with pytest.raises(TypeError, match=r"KMeans, which has none; take stability"):
        head_agreement_scorer(KMeans(3, n_init=1).fit(X), X)
    with pytest.raises(ValueError, match=r"50% of 4 samples .* Pass more samples"):
        stability_scorer(fitted, X[:4])
    with pytest.raises(TypeError, match="fitted estimator with transform"):
        make_silhouette_scorer(3)
