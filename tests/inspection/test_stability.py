# SPDX-License-Identifier: BSD-3-Clause
"""Clusters that are there are stable, and those that are not are not."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.metrics import jaccard_score

from sklearn_scan import SCANClustering
from sklearn_scan.inspection import StabilityDisplay, cluster_stability
from sklearn_scan.inspection._stability import compare_clusters


@pytest.fixture(scope="module")
def cut():
    """Return a clusterer with six clusters for five blobs, and the blobs."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(5), [80, 80, 80, 80, 240])
    X = (
        20 * np.eye(5, 8)[y]
        + rng.normal(size=(len(y), 8)) * np.where(y < 4, 1, 2)[:, None]
    )
    return SCANClustering(6, random_state=0).fit(X), y


def test_whole_blobs_are_stable_and_halves_are_not(cut):
    clusterer, y = cut
    halves = np.unique(clusterer.labels_[y == 4])
    assert len(halves) == 2
    stability = cluster_stability(clusterer, n_resamples=5, random_state=0)
    is_half = np.isin(np.arange(6), halves)
    assert stability[~is_half].min() > 0.95
    assert stability[is_half].mean() < 0.75
    assert stability[is_half].max() < 0.85


def test_the_seed_determines_the_stability(cut):
    clusterer, _ = cut
    before = clusterer.labels_.copy()
    first, second, third = (
        StabilityDisplay.from_estimator(
            clusterer, n_resamples=1, max_samples=200, random_state=seed
        ).similarities
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, third)
    np.testing.assert_array_equal(clusterer.labels_, before)


def test_similarities_are_those_of_jaccard():
    rng = np.random.default_rng(0)
    labels, found = rng.integers(0, 5, 200), rng.integers(0, 7, 200)
    labels[labels == 3] = 2
    similarity = compare_clusters(labels, found, 6)
    for cluster in (0, 1, 2, 4):
        scores = [jaccard_score(labels == cluster, found == k) for k in range(7)]
        assert similarity[cluster] == pytest.approx(max(scores))
    assert np.isnan(similarity[[3, 5]]).all()
    np.testing.assert_array_equal(compare_clusters(found, (found + 3) % 7, 7), 1)


def test_parts_are_as_large_as_asked_for(cut, monkeypatch):
    sizes = []
    fit = SCANClustering.fit

    def count(self, X):
        sizes.append(len(np.unique(X, axis=0)))
        return fit(self, X)

    monkeypatch.setattr(SCANClustering, "fit", count)
    cluster_stability(cut[0], n_resamples=1, random_state=0)
    cluster_stability(cut[0], n_resamples=1, max_samples=0.25, random_state=0)
    cluster_stability(cut[0], n_resamples=1, max_samples=60, random_state=0)
    assert sizes == [280, 140, 60]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"max_samples": 5}, "parts of 5 samples.* clusters, 6"),
        ({"max_samples": 0.001}, "parts of 0 samples"),
        ({"max_samples": 561}, "at most all 560"),
        ({"n_resamples": 0}, "n_resamples must be at least 1"),
    ],
)
def test_wrong_parameters_are_explained(cut, change, says):
    with pytest.raises(ValueError, match=says):
        cluster_stability(cut[0], **change)
    with pytest.raises(NotFittedError):
        cluster_stability(SCANClustering())
