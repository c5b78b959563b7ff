# SPDX-License-Identifier: BSD-3-Clause
"""Merged clusters are the sums of their parts, in everything that they answer."""

import copy
import pickle

import numpy as np
import pytest
from scipy.cluster.hierarchy import cut_tree, is_valid_linkage
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_scan import SCANClustering, TrainingConfig, merge, merge_tree
from sklearn_scan.inspection import ClusterSizesDisplay, write_gallery
from sklearn_scan.pretext import SimCLR

QUICK = TrainingConfig(epochs=1)


@pytest.fixture(scope="module")
def split():
    """Return a clusterer with eight clusters for four blobs, the blobs and classes."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(4), 80)
    X = 12 * np.eye(4, 6)[y] + rng.normal(size=(len(y), 6))
    return SCANClustering(8, n_heads=4, random_state=0).fit(X), X, y


def test_probabilities_are_summed(split):
    clusterer, X, _ = split
    merged = merge(clusterer, [[6, 1, 3], [0, 7]])
    before = clusterer.predict_proba(X)
    parts = [[0, 7], [1, 3, 6], [2], [4], [5]]
    sums = np.stack([before[:, part].sum(axis=1) for part in parts], axis=1)
    np.testing.assert_allclose(merged.predict_proba(X), sums, atol=1e-6)
    np.testing.assert_array_equal(merged.predict(X), sums.argmax(axis=1))
    np.testing.assert_array_equal(merged.labels_, sums.argmax(axis=1))
    np.testing.assert_allclose(merged.confidence_, sums.max(axis=1), atol=1e-6)
    assert merged.n_clusters_ == 5
    for cluster, prototype in enumerate(merged.prototypes_):
        assert merged.labels_[prototype] == cluster


def test_the_estimator_is_not_changed(split):
    clusterer, X, _ = split
    before = pickle.dumps((clusterer.labels_, clusterer.predict_proba(X)))
    merge(clusterer, np.zeros(8, dtype=int))
    assert pickle.dumps((clusterer.labels_, clusterer.predict_proba(X))) == before
    assert clusterer.n_clusters_ == 8


def test_numbers_of_groups_and_lists_say_the_same(split):
    clusterer, X, _ = split
    lists = merge(clusterer, [[0, 3], [1, 2, 5]])
    numbers = merge(clusterer, [9, 4, 4, 9, 1, 4, 2, 8])
    np.testing.assert_array_equal(lists.predict_proba(X), numbers.predict_proba(X))


def test_what_is_merged_twice_is_merged_once(split):
    clusterer, X, _ = split
    twice = merge(merge(clusterer, [[0, 1]]), [[0, 1]])
    once = merge(clusterer, [[0, 1, 2]])
    np.testing.assert_allclose(twice.predict_proba(X), once.predict_proba(X), atol=1e-6)


def test_the_tree_finds_the_blobs_again(split):
    clusterer, _, y = split
    tree = merge_tree(clusterer)
    assert is_valid_linkage(tree)
    assert adjusted_rand_score(y, clusterer.labels_) < 0.95
    merged = merge(clusterer, cut_tree(tree, 4))
    assert adjusted_rand_score(y, merged.labels_) == 1
    # Blobs have no neighbours in each other: the last three merges say so.
    assert (tree[:, 2] > 0.99).sum() == 3


def test_empty_clusters_are_merged_first(split):
    clusterer, _, _ = split
    wider = copy.copy(clusterer)
    wider.prototypes_ = np.append(clusterer.prototypes_, [-1, -1])
    tree, wide = merge_tree(clusterer), merge_tree(wider)
    np.testing.assert_array_equal(wide[:2, 2], 0)
    groups, expected = (cut_tree(each, 4).ravel()[:8] for each in (wide, tree))
    assert adjusted_rand_score(expected, groups) == 1


def test_a_merged_estimator_is_one_like_others(split, tmp_path):
    clusterer, X, _ = split
    merged = merge(clusterer, [[0, 1], [2, 3]])
    again = pickle.loads(pickle.dumps(merged))
    np.testing.assert_array_equal(again.predict_proba(X), merged.predict_proba(X))
    assert clone(merged).get_params()["n_clusters"] == 8
    assert np.isfinite(merged.score(X))
    assert len(ClusterSizesDisplay.from_estimator(merged).sizes) == 6
    assert write_gallery(merged, X, tmp_path / "page.html").exists()


def test_a_trained_encoder_needs_the_samples(digits):
    X = digits[0][:120]
    clusterer = SCANClustering(
        4,
        pretext=SimCLR(epochs=1),
        head_search=QUICK,
        clustering=QUICK,
        self_labeling=None,
        random_state=0,
    ).fit(X)
    with pytest.raises(ValueError, match="Pass X"):
        merge(clusterer, [[0, 1]])
    with pytest.raises(ValueError, match="Pass what it was fitted on"):
        merge(clusterer, [[0, 1]], X[:100])
    merged = merge(clusterer, [[0, 1]], X)
    before = clusterer.predict_proba(X)
    np.testing.assert_allclose(
        merged.predict_proba(X)[:, 0], before[:, :2].sum(axis=1), atol=1e-6
    )
    np.testing.assert_array_equal(merged.predict(X), merged.labels_)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([[0, 8]], r"\[8\], which are not there"),
        ([[0, 1], [1, 2]], "one of them twice"),
        ([0, 1, 1], "3 numbers for 8 clusters"),
    ],
)
def test_wrong_groups(split, groups, message):
    with pytest.raises(ValueError, match=message):
        merge(split[0], groups)


def test_a_tree_needs_neighbours(split):
    alone = SCANClustering(1, random_state=0).fit(split[1])
    with pytest.raises(ValueError, match="at least two clusters"):
        merge_tree(alone)


def test_works_on_the_last_step_of_a_pipeline(split):
    _, X, y = split
    pipeline = make_pipeline(StandardScaler(), SCANClustering(6, random_state=0))
    pipeline.fit(X)
    groups = cut_tree(merge_tree(pipeline[-1]), 4)
    merged = merge(pipeline[-1], groups)
    assert adjusted_rand_score(y, merged.predict(pipeline[:-1].transform(X))) == 1
