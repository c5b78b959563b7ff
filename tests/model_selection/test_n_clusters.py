# SPDX-License-Identifier: BSD-3-Clause
"""The number of clusters that stand apart is found, and doubt is said."""

import itertools
import pickle
import warnings

import matplotlib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris, make_blobs, make_moons
from sklearn.exceptions import NotFittedError

from sklearn_scan import SCANClustering, TrainingConfig
from sklearn_scan._stages._trials import (
    measure_modularity,
    measure_strength,
    weigh_graph,
)
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


def test_modularity_votes_where_distances_say_nothing():
    """In many dimensions of noise every silhouette is small."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(4), 150)
    X = 5 * np.eye(4, 300)[y] + rng.normal(size=(600, 300))
    estimate = estimate_n_clusters(X, n_resamples=2, random_state=0)
    assert estimate.silhouettes.max() < 0.1
    assert (estimate.n_clusters, estimate.criterion) == (4, "modularity")
    assert set(estimate.votes) == {
        "modularity",
        "prediction strength",
        "k-means silhouette",
    }


def make_estimate(silhouette=4, strength=4, kmeans=4, modularity=4, n_parts=2):
    """Return an estimate of which each criterion is for one number, in all parts."""
    numbers = np.arange(2, 10)
    curves = [
        np.tile(np.where(numbers == best, 0.9, 0.3), (n_parts, 1))
        for best in (silhouette, modularity, strength, kmeans)
    ]
    return NumberOfClusters(numbers, *curves)


@pytest.mark.parametrize("numbers", [(4, 7, 5), (4, 2, 7), (5, 5, 3)])
def test_the_estimate_is_the_first_of_three_votes(numbers):
    estimate = make_estimate(*numbers)
    assert list(estimate.votes.values()) == list(numbers)
    assert (estimate.n_clusters, estimate.criterion) == (numbers[0], "silhouette")
    assert estimate.numbers[estimate.scores.argmax()] == numbers[0]
    assert estimate.interval == (min(numbers), max(numbers))


def test_parts_count_by_their_medians():
    """One vote that is far off in a single part makes no doubt."""
    estimate = make_estimate(n_parts=9)
    estimate.kmeans_silhouettes[0] = estimate.kmeans_silhouettes[0, ::-1]
    assert estimate.interval == (4, 4)
    assert estimate.runner_up == 7


def test_the_votes_are_for_what_was_measured_of_each():
    numbers = np.array([2, 3, 4, 5])
    silhouettes = np.array([[0.3, 0.485, 0.49, 0.5]])  # 3 is within 4 % of 5
    strengths = np.array([[0.9, 0.7, 0.81, 0.8]])  # 4 is the last above 0.8
    kmeans = np.array([[0.3, 0.485, 0.49, 0.5]])
    modularities = np.array([[0.1, 0.2, 0.59, 0.6]])
    curves = modularities, strengths, kmeans
    estimate = NumberOfClusters(numbers, silhouettes, *curves)
    assert list(estimate.votes.items()) == [
        ("silhouette", 3),
        ("prediction strength", 4),
        ("k-means silhouette", 5),
    ]
    quiet = NumberOfClusters(numbers, silhouettes / 10, *curves)
    assert quiet.votes["modularity"] == 5
    nothing = NumberOfClusters(
        numbers, silhouettes, modularities, 0 * strengths, kmeans
    )
    assert nothing.votes["prediction strength"] == 2


def test_doubt_is_that_of_parts_and_criteria():
    agreed = make_estimate()
    assert (agreed.n_clusters, agreed.interval, agreed.runner_up) == (4, (4, 4), None)
    assert not agreed.is_doubtful
    assert agreed.explain_doubt() is None
    split = make_estimate(kmeans=8)
    assert (split.n_clusters, split.interval, split.runner_up) == (4, (4, 8), 8)
    assert split.is_doubtful
    assert "n_clusters=8" in split.explain_doubt()
    assert "4 by silhouette" in split.explain_doubt()
    assert "8 by k-means silhouette" in split.explain_doubt()


def test_what_is_not_stable_is_doubtful():
    agreed = make_estimate(2, 2, 2, 2)
    curves = agreed.silhouettes, agreed.modularities, agreed.strengths * 0.8
    unstable = NumberOfClusters(agreed.numbers, *curves, agreed.kmeans_silhouettes)
    assert unstable.interval == (2, 2)
    assert unstable.is_doubtful and not agreed.is_doubtful
    assert "stable" in unstable.explain_doubt()
    assert "stable" not in make_estimate(kmeans=8).explain_doubt()


def test_doubt_is_that_of_parts():
    """All criteria agree on average, and in one part on another number."""
    usual, other = make_estimate(n_parts=9), make_estimate(6, 6, 6, n_parts=1)
    names = "silhouettes", "modularities", "strengths", "kmeans_silhouettes"
    curves = {
        name: np.concatenate([getattr(usual, name), getattr(other, name)])
        for name in names
    }
    parts = NumberOfClusters(usual.numbers, **curves)
    assert set(parts.votes.values()) == {4}
    assert parts.interval == (4, 6)
    assert parts.runner_up == 6


def test_the_seed_determines_the_estimate(seven):
    X = seven[0]
    first, second, third = (
        estimate_n_clusters(X, n_resamples=1, numbers=[3, 7], random_state=seed)
        for seed in (1, 1, 2)
    )
    for name in ("silhouettes", "modularities", "strengths", "kmeans_silhouettes"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
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


def test_prediction_strength_is_that_of_the_definition():
    """Of the least stable cluster, the share of pairs that stay together."""
    rng = np.random.default_rng(0)
    labels, found = rng.integers(0, 3, (2, 40))
    shares = []
    for cluster in range(3):
        members = np.flatnonzero(labels == cluster)
        pairs = list(itertools.combinations(members, 2))
        shares.append(np.mean([found[i] == found[j] for i, j in pairs]))
    assert measure_strength(labels, found) == pytest.approx(min(shares))


def test_prediction_strength_of_partitions_that_agree():
    labels = np.array([0, 0, 1, 1, 1, 2])
    assert measure_strength(labels, np.array([2, 2, 0, 0, 0, 1])) == 1
    # Of three pairs in the second cluster, one stays together.
    assert measure_strength(labels, np.array([2, 2, 0, 0, 1, 1])) == pytest.approx(
        1 / 3
    )
    # One member makes no pair.
    assert measure_strength(np.arange(4), np.zeros(4, dtype=int)) == 1


def test_what_is_measured_speaks_for_the_groups(seven):
    """Each curve alone does: no criterion has the partitions of another."""
    estimate = estimate_n_clusters(seven[0], n_resamples=2, random_state=0)
    position = estimate.numbers.tolist().index(7)
    assert estimate.silhouettes.argmax(axis=1).tolist() == [position] * 2
    assert estimate.kmeans_silhouettes.argmax(axis=1).tolist() == [position] * 2
    assert (estimate.strengths[:, position] > 0.95).all()
    assert (estimate.strengths[:, position + 1 :] < 0.9).all()
    assert not np.array_equal(estimate.silhouettes, estimate.kmeans_silhouettes)


def test_the_silhouette_of_kmeans_is_that_of_kmeans():
    """It cuts moons straight through; the graph does not, and is less compact."""
    X, _ = make_moons(300, noise=0.05, random_state=0)
    estimate = estimate_n_clusters(X, numbers=[2, 3], n_resamples=2, random_state=0)
    assert (estimate.kmeans_silhouettes[:, 0] > estimate.silhouettes[:, 0] + 0.01).all()


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
    for criterion in ("silhouette", "kmeans_silhouette"):
        assert max(records, key=lambda each: each[criterion])["n_clusters"] == 7
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
    votes = display.ax_.get_lines()[-1].get_xdata()
    assert list(votes) == list(estimate.votes.values())
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
