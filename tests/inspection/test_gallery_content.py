# SPDX-License-Identifier: BSD-3-Clause
"""What the page shows: which samples, which clusters are near, and where on the map."""

import numpy as np

from sklearn_scan.inspection._gallery import _group
from sklearn_scan.inspection._gallery._content import (
    digest_labels,
    find_content,
    find_near,
    rank_clusters,
)
from sklearn_scan.inspection._map import arrange, project


def find(clusterer, X, n=6):
    return find_content(
        clusterer,
        X,
        n_core=n,
        n_borderline=n,
        n_random=n,
        random_state=np.random.RandomState(0),
    )


def test_core_borderline_and_random_members(clusterer, X):
    content = find(clusterer, X)
    for cluster in range(5):
        members = np.flatnonzero(clusterer.labels_ == cluster)
        ordered = np.sort(clusterer.confidence_[members])
        confidence = clusterer.confidence_
        np.testing.assert_array_equal(
            confidence[content.core[cluster]], ordered[::-1][:6]
        )
        np.testing.assert_array_equal(
            confidence[content.borderline[cluster]], ordered[:6]
        )
        chosen = content.random[cluster]
        assert len(set(chosen)) == 6
        assert set(chosen) <= set(members)
        assert list(chosen) != list(members[:6])


def test_no_image_of_a_small_cluster_is_core_and_borderline(clusterer, X):
    content = find(clusterer, X, n=200)
    for core, borderline in zip(content.core, content.borderline, strict=True):
        assert len(borderline) == 0
        assert len(core) == len(set(core))


def test_probabilities_are_those_of_the_estimator(clusterer, X):
    np.testing.assert_allclose(
        clusterer._predict_proba_fitted(X), clusterer.predict_proba(X), atol=1e-5
    )


def test_the_first_choice_is_the_cluster_and_the_others_follow():
    probabilities = np.array([[0.1, 0.2, 0.7], [0.4, 0.4, 0.2]])
    choices, chances = rank_clusters(probabilities, np.array([2, 1]))
    assert choices.tolist() == [[2, 1, 0], [1, 0, 2]]
    assert chances.tolist() == [[0.7, 0.2, 0.1], [0.4, 0.4, 0.2]]


def test_the_nearest_cluster_has_most_neighbours():
    labels = np.array([0, 0, 1, 1, 2])
    neighbors = np.array([[1, 2, 2], [0, 4, -1], [3, 0, 3], [2, 2, 2], [3, 3, 0]])
    near, links = find_near(labels, neighbors, np.full((5, 4), 0.25))
    # Of the five neighbours of cluster 0, two are in it, two in 1 and one in 2.
    assert near[:3, 0].tolist() == [1, 0, 1]
    np.testing.assert_allclose(links[:3, 0], [2 / 5, 1 / 6, 2 / 3])
    assert near[0].tolist() == [1, 2, -1]  # the last cluster is empty
    assert (links[3] == 0).all()


def test_without_neighbours_the_second_choice_is_nearest():
    labels = np.array([0, 1, 2])
    probabilities = np.array([[0.6, 0.1, 0.3], [0.0, 0.8, 0.2], [0.3, 0.2, 0.5]])
    near, links = find_near(labels, np.empty((3, 0), dtype=int), probabilities)
    assert near[:, 0].tolist() == [2, 2, 0]
    assert not links.any()


def test_the_map_keeps_distances_and_its_frame(clusterer):
    rows = np.concatenate([np.eye(3), 2 * np.eye(3)])
    places = project(rows)
    assert places.shape == (6, 2)
    assert places.min() >= 0
    assert places.max() <= 1
    assert np.ptp(project(clusterer.embedding_), axis=0).max() > 0.99
    assert np.isfinite(project(np.ones((4, 3)))).all()
    assert (project(np.arange(5.0)[:, None])[:, 1] == 0.5).all()


def test_a_map_by_clusters_keeps_them_apart():
    rng = np.random.default_rng(0)
    centers = np.array([[0.0, 0], [10, 0], [20, 0], [30, 0], [40, 0], [50, 0]])
    labels = np.arange(60) % 6
    rows = centers[labels] + rng.normal(size=(60, 2))
    places = arrange(np.eye(7)[labels], labels, rows)
    means = np.array([places[labels == k].mean(axis=0) for k in range(6)])
    far = np.linalg.norm(means[:, None] - means, axis=2) + np.eye(6)
    spread = max(np.ptp(places[labels == k], axis=0).max() for k in range(6))
    assert spread < far.min()
    assert far[0, 1] < far[0, 5]
    assert places.min() >= 0
    assert places.max() <= 1


def test_on_the_map_doubt_lies_between_clusters():
    labels = np.array([0] * 5 + [1] * 5)
    probabilities = np.eye(2)[labels]
    probabilities[0] = [0.5, 0.5]
    places = arrange(probabilities, labels, np.ones((10, 3)))
    np.testing.assert_allclose(places[0], (places[1] + places[-1]) / 2)
    assert np.linalg.norm(places[1] - places[-1]) > 0.3


def test_all_is_drawn_once(clusterer, X):
    content = find(clusterer, X)
    first, others = _group(content)
    drawn = np.concatenate(first + others)
    assert len(drawn) == len(set(drawn)) == len(X)
    shown = [*content.core, *content.borderline, *content.random]
    assert set(np.concatenate(shown)) <= set(np.concatenate(first))


def test_the_digest_depends_on_labels_and_on_their_number():
    digests = {digest_labels(np.array([0, 1]), n) for n in (2, 3)}
    digests.add(digest_labels(np.array([1, 0]), 2))
    assert len(digests) == 3
    assert digest_labels(np.array([0, 1], dtype=np.int32), 2) in digests
