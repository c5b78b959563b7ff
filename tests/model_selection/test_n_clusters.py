# SPDX-License-Identifier: BSD-3-Clause
"""The number of clusters that stand apart is found, and doubt is said."""

import pickle
import warnings

import matplotlib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris, make_blobs
from sklearn.exceptions import NotFittedError

from sklearn_scan import SCANClustering, TrainingConfig
from sklearn_scan._stages._counting import measure_modularity, weigh_graph
from sklearn_scan.inspection import (
    ClusterSizesDisplay,
    NumberOfClustersDisplay,
    TrainingCurvesDisplay,
)
from sklearn_scan.model_selection import NumberOfClusters, estimate_n_clusters
from sklearn_scan.pretext import SimCLR

matplotlib.use("Agg")
QUICK = TrainingConfig(epochs=2)


@pytest.fixture(scope="module")
def seven():
    """Return rows of seven groups, and their classes."""
    return make_blobs(210, 10, centers=7, random_state=0)


@pytest.mark.parametrize("n_groups", [2, 5, 12])
def test_groups_that_stand_apart_are_counted(n_groups):
    X, _ = make_blobs(40 * n_groups, 8, centers=n_groups, random_state=n_groups)
    estimate = estimate_n_clusters(X, n_resamples=2, random_state=0)
    assert estimate.n_clusters == n_groups
    assert estimate.criterion == "silhouette"


def test_digits_are_about_ten():
    X = load_digits().data[:1000]
    estimate = estimate_n_clusters(X, n_resamples=2, max_samples=700, random_state=0)
    assert 9 <= estimate.n_clusters <= 11


def test_modularity_decides_where_distances_say_nothing():
    """In many dimensions of noise every silhouette is small."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(4), 150)
    X = 5 * np.eye(4, 300)[y] + rng.normal(size=(600, 300))
    estimate = estimate_n_clusters(X, n_resamples=2, random_state=0)
    assert estimate.silhouettes.max() < 0.1
    assert (estimate.n_clusters, estimate.criterion) == (4, "modularity")


def test_doubt_is_that_of_parts_and_criteria():
    numbers = np.array([2, 3, 4, 5, 6, 7, 8])
    sure = np.array([[0.2, 0.3, 0.5, 0.3, 0.2, 0.1, 0.1]] * 2)
    other = np.array([[0.2, 0.3, 0.3, 0.3, 0.3, 0.3, 0.6]] * 2)
    agreed = NumberOfClusters(numbers, sure, sure)
    assert (agreed.n_clusters, agreed.interval, agreed.runner_up) == (4, (4, 4), None)
    assert not agreed.is_doubtful
    assert agreed.explain_doubt() is None
    split = NumberOfClusters(numbers, sure, other)
    assert (split.n_clusters, split.interval, split.runner_up) == (4, (4, 8), 8)
    assert split.is_doubtful
    assert "n_clusters=8" in split.explain_doubt()
    parts = NumberOfClusters(numbers, np.stack([sure[0], sure[0][::-1]]), sure)
    assert parts.interval == (4, 6)


def test_nearly_equal_silhouettes_speak_for_the_smallest():
    numbers = np.array([3, 4, 5])
    flat = NumberOfClusters(numbers, np.array([[0.2, 0.49, 0.5]]), np.zeros((1, 3)))
    assert flat.n_clusters == 4
    steep = NumberOfClusters(numbers, np.array([[0.2, 0.45, 0.5]]), np.zeros((1, 3)))
    assert steep.n_clusters == 5


def test_the_seed_determines_the_estimate(seven):
    X = seven[0]
    first, second, third = (
        estimate_n_clusters(X, n_resamples=1, numbers=[3, 7], random_state=seed)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.silhouettes, second.silhouettes)
    np.testing.assert_array_equal(first.modularities, second.modularities)
    assert not np.array_equal(first.silhouettes, third.silhouettes)


def test_modularity_is_that_of_the_definition():
    rng = np.random.default_rng(0)
    neighbors = np.array([rng.choice(30, 4, replace=False) for _ in range(30)])
    neighbors[neighbors == np.arange(30)[:, None]] = 3
    labels = rng.integers(0, 3, 30)
    weights = weigh_graph(neighbors).toarray()
    degrees, total = weights.sum(axis=1), weights.sum()
    expected = weights - np.outer(degrees, degrees) / total
    is_same = labels[:, None] == labels
    assert measure_modularity(weigh_graph(neighbors), labels) == pytest.approx(
        expected[is_same].sum() / total
    )


def test_weights_are_shares_of_common_neighbors():
    neighbors = np.array([[1, 2], [0, 2], [0, 3], [2, 1]])
    weights = weigh_graph(neighbors).toarray()
    # {0, 1, 2} and {0, 1, 2}; {0, 1, 2} and {0, 2, 3}; 0 and 3 are no neighbours.
    assert weights[0, 1] == 1
    assert weights[0, 2] == pytest.approx(2 / 4)
    assert weights[0, 3] == 0
    np.testing.assert_array_equal(weights, weights.T)


# --- in the estimator --------------------------------------------------------------


def test_auto_is_the_number_that_was_found(seven):
    X, _ = seven
    auto = SCANClustering("auto", n_heads=2, random_state=0).fit(X)
    given = SCANClustering(7, n_heads=2, random_state=0).fit(X)
    assert auto.n_clusters_ == 7
    np.testing.assert_array_equal(auto.labels_, given.labels_)
    assert auto.predict_proba(X[:5]).shape == (5, 7)
    assert auto.get_params()["n_clusters"] == clone(auto).n_clusters == "auto"
    records = auto.history_["counting"]
    assert max(records, key=lambda each: each["silhouette"])["n_clusters"] == 7
    assert "counting" not in given.history_
    again = pickle.loads(pickle.dumps(auto))
    np.testing.assert_array_equal(again.predict(X), auto.labels_)
    assert len(ClusterSizesDisplay.from_estimator(auto).sizes) == 7
    TrainingCurvesDisplay.from_estimator(auto)
    matplotlib.pyplot.close("all")


def test_a_fitted_clusterer_is_counted_in_its_embedding(seven):
    clusterer = SCANClustering(3, n_heads=4, random_state=0).fit(seven[0])
    estimate = estimate_n_clusters(clusterer, n_resamples=1, random_state=0)
    assert estimate.n_clusters == 7
    assert clusterer.n_clusters_ == 3
    with pytest.raises(NotFittedError):
        estimate_n_clusters(SCANClustering())


def test_auto_warns_of_doubt():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    clusterer = SCANClustering("auto", n_heads=2, random_state=0)
    with pytest.warns(UserWarning, match="number of clusters is doubtful"):
        clusterer.fit(X)
    assert clusterer.n_clusters_ == len(clusterer.prototypes_)


def test_auto_after_a_pretext_with_a_cache_and_a_checkpoint(digits, tmp_path):
    X = digits[0][:150]
    clusterer = SCANClustering(
        "auto",
        pretext=SimCLR(epochs=2),
        head_search=QUICK,
        clustering=QUICK,
        self_labeling=None,
        memory=str(tmp_path / "memory"),
        checkpoint=tmp_path / "checkpoint",
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first = clone(clusterer).fit(X)
        second = clone(clusterer).fit(X)
    assert first.n_clusters_ == second.n_clusters_ == first.predict_proba(X).shape[1]
    assert first.history_["counting"] == second.history_["counting"]
    np.testing.assert_array_equal(first.labels_, second.labels_)


# --- the display -------------------------------------------------------------------


def test_the_display_shows_the_estimate(seven):
    display = NumberOfClustersDisplay.from_estimator(
        seven[0], n_resamples=2, random_state=0
    )
    estimate = display.estimate
    curve = display.ax_.get_lines()[0]
    np.testing.assert_array_equal(curve.get_xdata(), estimate.numbers)
    np.testing.assert_array_equal(curve.get_ydata(), estimate.scores)
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert f"estimate: {estimate.n_clusters}" in texts
    _, ax = matplotlib.pyplot.subplots()
    assert NumberOfClustersDisplay.from_estimate(estimate, ax=ax).ax_ is ax
    matplotlib.pyplot.close("all")


# --- what is wrong -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"numbers": [1, 2]}, "integers from 2"),
        ({"numbers": [2.5]}, "integers from 2"),
        ({"numbers": [2, 140]}, "n_samples=150 are too few"),
        ({"n_resamples": 0}, "at least 1"),
        ({"max_samples": 10}, "more than the largest number"),
    ],
)
def test_wrong_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        estimate_n_clusters(load_iris().data, **parameters)


@pytest.mark.parametrize("n_samples", [2, 9])
def test_few_samples_are_not_counted(n_samples):
    X = np.arange(2.0 * n_samples).reshape(-1, 2)
    with pytest.raises(ValueError, match=f"n_samples={n_samples}.* Give n_clusters"):
        SCANClustering("auto").fit(X)


def test_rows_that_are_all_alike_have_the_fewest():
    assert estimate_n_clusters(np.ones((60, 3)), n_resamples=1).n_clusters == 2
