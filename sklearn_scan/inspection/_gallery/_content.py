# SPDX-License-Identifier: BSD-3-Clause
"""What the page shows of a clustering: which samples, which clusters are near."""

import hashlib
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA

from sklearn_scan._engine import infer

# Per sample: the clusters of highest probability, and neighbours.
_N_CHOICES = 5
_N_NEIGHBORS = 8
# Per cluster: clusters that it might be merged with.
_N_NEAR = 4
# Above, the covariance takes longer than a randomized decomposition.
_MOST_FEATURES = 512

# The map by clusters: width by height, and how much of its cell a cluster fills.
_ASPECT, _FILLED = 1.6, 0.75

# Clusters of samples that are predicted again may differ where two are equally likely.
_LEAST_AGREEMENT = 0.98


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
    probabilities = find_probabilities(estimator, X)
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


def find_probabilities(estimator, X):
    """Return the cluster probabilities of the training samples.

    Heads on a fixed embedding read it where it is; an encoder reads `X` again.
    """
    backbone = estimator._backbone
    if backbone.learns:
        probabilities = estimator.predict_proba(X)
    else:
        runtime = estimator._resolve_runtime()
        source = backbone.open(None, estimator.embedding_, runtime)
        network = estimator._network(runtime)
        probabilities = infer(network.probabilities, source).numpy()
    name, n_samples = type(estimator).__name__, len(estimator.labels_)
    if len(probabilities) != n_samples:
        raise ValueError(
            f"X has {len(probabilities)} samples, but {name} was fitted on "
            f"{n_samples}. Pass what it was fitted on."
        )
    agreement = np.mean(probabilities.argmax(axis=1) == estimator.labels_)
    if agreement < _LEAST_AGREEMENT:
        raise ValueError(
            f"{agreement:.0%} of the samples in X are in the cluster in which {name} "
            "put them in fit. Pass what it was fitted on, in the same order."
        )
    return probabilities


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
    shares = _count_links(labels, np.asarray(neighbors), n_clusters)
    shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1)
    # No cluster is near to itself, and an empty one is near to none.
    is_other = (sizes > 0) & ~np.eye(n_clusters, dtype=bool)
    order = np.lexsort((-second, -shares, ~is_other), axis=1)
    near = order[:, : max(0, min(_N_NEAR, n_clusters - 1))]
    rows = np.arange(n_clusters)[:, None]
    links = shares[rows, near]
    return np.where(is_other[rows, near], near, -1), links


def _count_links(labels, neighbors, n_clusters):
    """Count the neighbours of the members of each cluster, by their cluster."""
    starts = np.repeat(labels, neighbors.shape[1])
    ends = neighbors.ravel()
    is_there = ends >= 0
    pairs = starts[is_there] * n_clusters + labels[ends[is_there]]
    counts = np.bincount(pairs, minlength=n_clusters**2)
    return counts.reshape(n_clusters, n_clusters).astype(float)


def project(rows):
    """Return the first two principal components of rows, in [0, 1].

    Both have one scale, and a thousandth at each end lies on the border: a few rows far
    away do not push all others together.
    """
    rows = np.asarray(rows, dtype=np.float32)
    places = np.zeros((len(rows), 2), dtype=np.float32)
    n_components = min(2, rows.shape[1], len(rows))
    if n_components and np.ptp(rows, axis=0).max() > 0:
        is_narrow = rows.shape[1] <= _MOST_FEATURES
        solver = "covariance_eigh" if is_narrow else "randomized"
        pca = PCA(n_components, svd_solver=solver, random_state=0)
        places[:, :n_components] = pca.fit_transform(rows)
    low, high = np.quantile(places, [0.001, 0.999], axis=0)
    span = max((high - low).max(), np.finfo(np.float32).tiny)
    return ((places - (low + high) / 2) / span + 0.5).clip(0, 1)


def arrange(probabilities, labels, embedding):
    """Return places at which clusters lie apart, in [0, 1].

    Each cluster has a cell of a grid, such that clusters near to each other in the
    embedding have cells near to each other. A sample lies at the mean of the cells of
    all clusters, weighted by its probabilities: in doubt, between them. Around this
    point, the members of a cluster spread as their principal components do.
    """
    n_clusters = probabilities.shape[1]
    n_columns = int(np.ceil(np.sqrt(_ASPECT * n_clusters)))
    n_rows = -(-n_clusters // n_columns)
    cells = np.stack(np.divmod(np.arange(n_rows * n_columns), n_columns)[::-1], axis=1)
    cells = cells - (np.array([n_columns, n_rows]) - 1) / 2
    centers = np.zeros((n_clusters, embedding.shape[1]))
    places = np.empty((len(labels), 2))
    for cluster in np.unique(labels):
        members = labels == cluster
        centers[cluster] = embedding[members].mean(axis=0)
        places[members] = _FILLED * (project(embedding[members]) - 0.5)
    spread = (project(centers) - 0.5) * [n_columns, n_rows]
    _, chosen = linear_sum_assignment(cdist(spread, cells, "sqeuclidean"))
    places += probabilities @ cells[chosen]
    return (places / max(n_columns, n_rows) + 0.5).clip(0, 1)


def digest_labels(labels, n_clusters):
    """Return what a clustering is known by, as text."""
    found = hashlib.blake2b(f"{n_clusters} {len(labels)} ".encode(), digest_size=16)
    found.update(np.asarray(labels, dtype="<i8").tobytes())
    return found.hexdigest()
