# SPDX-License-Identifier: BSD-3-Clause
"""What the page shows of a clustering: which samples, which clusters are near."""

import hashlib
from dataclasses import dataclass

import numpy as np

from sklearn_scan._criteria import count_links
from sklearn_scan.inspection._map import arrange, project

# Per sample: the clusters of highest probability, and neighbours.
_N_CHOICES = 5
_N_NEIGHBORS = 8
# Per cluster: clusters that it might be merged with.
_N_NEAR = 4


@dataclass(frozen=True, eq=False)
class Content:
    """What is shown of a clustering.

    Attributes
    ----------
    labels, confidence : ndarray of shape (n_samples,)
        As the estimator has them.
    choices, chances : ndarray of shape (n_samples, n_choices)
        The clusters of highest probability, and these probabilities. The first is the
        cluster of the sample.
    neighbors : ndarray of shape (n_samples, n_neighbors)
        The nearest samples; -1 for none.
    maps : dict of str to ndarray of shape (n_samples, 2)
        Coordinates in [0, 1], by what they are computed from.
    prototypes : ndarray of shape (n_clusters,)
        The sample that shows a cluster best; -1 where there is none.
    near, links : ndarray of shape (n_clusters, n_near)
        The clusters nearest to each, and the share of the neighbours of its members
        that are in them.
    core, borderline, random : list of ndarray
        For each cluster its most and its least confident members, and members drawn at
        random.
    """

    labels: np.ndarray
    confidence: np.ndarray
    choices: np.ndarray
    chances: np.ndarray
    neighbors: np.ndarray
    maps: dict
    prototypes: np.ndarray
    near: np.ndarray
    links: np.ndarray
    core: list
    borderline: list
    random: list

    @property
    def n_clusters(self):
        """The number of clusters, empty ones among them."""
        return len(self.prototypes)


def find_content(estimator, X, *, n_core, n_borderline, n_random, random_state):
    """Find what is shown of a fitted estimator.

    Parameters
    ----------
    estimator : SCANClustering
        Fitted.
    X : array-like
        What it was fitted on; looked at where its network reads images.
    n_core, n_borderline, n_random : int
        How many members of each cluster are shown.
    random_state : RandomState
        Determines the random members.

    Returns
    -------
    content : Content
    """
    labels = np.asarray(estimator.labels_)
    confidence = np.asarray(estimator.confidence_)
    probabilities = estimator._predict_proba_fitted(X)
    choices, chances = rank_clusters(probabilities, labels)
    near, links = find_near(labels, estimator.neighbors_, probabilities)
    members = [np.flatnonzero(labels == k) for k in range(probabilities.shape[1])]
    ordered = [m[np.argsort(-confidence[m], kind="stable")] for m in members]
    return Content(
        labels=labels,
        confidence=confidence,
        choices=choices,
        chances=chances,
        neighbors=np.asarray(estimator.neighbors_)[:, :_N_NEIGHBORS],
        maps={
            "clusters": arrange(probabilities, labels, estimator.embedding_),
            "embedding": project(estimator.embedding_),
        },
        prototypes=np.asarray(estimator.prototypes_),
        near=near,
        links=links,
        core=[m[:n_core] for m in ordered],
        # Of a small cluster, no image is both core and borderline.
        borderline=[m[n_core:][::-1][:n_borderline] for m in ordered],
        random=[random_state.permutation(m)[:n_random] for m in members],
    )


def rank_clusters(probabilities, labels):
    """Return for each sample its cluster and the next ones, and their probabilities."""
    n_samples, n_clusters = probabilities.shape
    rows = np.arange(n_samples)[:, None]
    n_choices = min(_N_CHOICES, n_clusters)
    ranks = probabilities.copy()
    ranks[rows[:, 0], labels] = np.inf
    top = np.argpartition(-ranks, n_choices - 1, axis=1)[:, :n_choices]
    choices = top[rows, np.argsort(-ranks[rows, top], axis=1, kind="stable")]
    return choices, probabilities[rows, choices]


def find_near(labels, neighbors, probabilities):
    """Find the clusters nearest to each cluster.

    Nearest is the cluster in which the largest share of the neighbours lies; among
    those with the same share, the one that members think the most probable.

    Returns
    -------
    near : ndarray of shape (n_clusters, n_near), dtype int64
    links : ndarray of shape (n_clusters, n_near)
        The shares; 0 where samples have no neighbours.
    """
    n_clusters = probabilities.shape[1]
    sizes = np.bincount(labels, minlength=n_clusters)
    second = np.zeros((n_clusters, n_clusters))
    np.add.at(second, labels, probabilities)
    second /= np.maximum(sizes, 1)[:, None]
    counts = count_links(labels, np.asarray(neighbors), n_clusters)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    # No cluster is near to itself, and an empty one is near to none.
    is_other = (sizes > 0) & ~np.eye(n_clusters, dtype=bool)
    order = np.lexsort((-second, -shares, ~is_other), axis=1)
    near = order[:, : max(0, min(_N_NEAR, n_clusters - 1))]
    rows = np.arange(n_clusters)[:, None]
    links = shares[rows, near]
    return np.where(is_other[rows, near], near, -1), links


def digest_labels(labels, n_clusters):
    """Return what a clustering is known by, as text."""
    found = hashlib.blake2b(f"{n_clusters} {len(labels)} ".encode(), digest_size=16)
    found.update(np.asarray(labels, dtype="<i8").tobytes())
    return found.hexdigest()
