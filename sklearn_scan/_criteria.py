# SPDX-License-Identifier: BSD-3-Clause
"""Criteria by which a partition is judged without labels; higher is better.

Each compares a partition with one space: rows, or who is near to whom among them. They
are corrected for chance: a partition at random is worth about 0, whatever the number
and the sizes of its clusters, and so is one into a single cluster.
"""

import warnings

import numpy as np

from sklearn_scan._typing import Floats, Labels

# Of the probabilities that are compared, so that their logarithm is finite.
_LEAST_AGREEMENT = 1e-12
# Clusters smaller than this are left out of the cross-validation of a classifier.
_N_FOLDS = 5
# Principal components of wider rows that a classifier is given.
_MOST_FEATURES = 64


def neighbor_consistency(labels: Labels, neighbors: Labels) -> float:
    """Compute the share of neighbours in the cluster of their sample, above chance.

    Parameters
    ----------
    labels : ndarray of shape (n_samples,)
        Clusters.
    neighbors : ndarray of shape (n_samples, K)
        Row numbers; -1 stands for none.

    Returns
    -------
    consistency : float
        With a the share, and e that of pairs of samples drawn at random,
        ``(a - e) / (1 - e)``; 0 where all samples are in one cluster.
    """
    is_edge = neighbors >= 0
    agrees = labels[neighbors] == labels[:, None]
    return _above_chance(agrees[is_edge].mean(), expect_agreement(labels))


def neighbor_modularity(labels: Labels, neighbors: Labels) -> float:
    """Compute how much more often neighbours are in one cluster than any two samples.

    The modularity of Newman and Girvan of the graph of neighbours. Unlike
    `neighbor_consistency`, it is not divided by what is left above chance, so that it
    is small where nearly all samples are in one cluster.

    Parameters
    ----------
    labels : ndarray of shape (n_samples,)
        Clusters, as numbers from 0.
    neighbors : ndarray of shape (n_samples, K)
        Row numbers; -1 stands for none.

    Returns
    -------
    modularity : float
        At most ``1 - 1 / n_clusters``.
    """
    return float(pointwise_modularity(labels, neighbors).mean())


def pointwise_modularity(labels: Labels, neighbors: Labels) -> np.ndarray:
    """Compute the modularity of each sample.

    Parameters
    ----------
    labels : ndarray of shape (n_samples,)
        Clusters, as numbers from 0.
    neighbors : ndarray of shape (n_samples, K)
        Row numbers; -1 stands for none.

    Returns
    -------
    modularity : ndarray of shape (n_samples,)
        The share of its neighbours that are in its cluster, minus that of all samples;
        0 for a sample without neighbours.
    """
    agreement = find_agreement(labels, neighbors)
    shares = (np.bincount(labels) / len(labels))[labels]
    return np.where(np.isnan(agreement), 0, agreement - shares)


def neighbor_information(labels: Labels, neighbors: Labels) -> float:
    """Compute what the cluster of a sample says of those of its neighbours.

    Parameters
    ----------
    labels : ndarray of shape (n_samples,)
        Clusters, as numbers from 0.
    neighbors : ndarray of shape (n_samples, K)
        Row numbers; -1 stands for none.

    Returns
    -------
    information : float
        Their mutual information, in nats: 0 to ``log(n_clusters)``.
    """
    return float(pointwise_information(labels, neighbors).mean())


def pointwise_information(labels: Labels, neighbors: Labels) -> np.ndarray:
    """Compute the share of each sample in the information of `neighbor_information`.

    Parameters
    ----------
    labels : ndarray of shape (n_samples,)
        Clusters, as numbers from 0.
    neighbors : ndarray of shape (n_samples, K)
        Row numbers; -1 stands for none.

    Returns
    -------
    information : ndarray of shape (n_samples,)
        Of which the mean is the mutual information; 0 without neighbours at all.
    """
    n_samples, n_clusters = len(labels), int(labels.max()) + 1
    rows, columns = np.nonzero(neighbors >= 0)
    if len(rows) == 0:
        return np.zeros(n_samples)
    one, other = labels[rows], labels[neighbors[rows, columns]]
    joint = count_links(labels, neighbors, n_clusters) / len(rows)
    # Being near is mutual here, so that a sample that is everyone's neighbour counts
    # as often from either side.
    joint = (joint + joint.T) / 2
    marginal = joint.sum(axis=0)
    surprise = np.log(joint[one, other] / (marginal[one] * marginal[other]))
    return np.bincount(rows, surprise, n_samples) * n_samples / len(rows)


def scan_objective(probabilities: Floats, neighbors: Labels) -> float:
    """Compute the SCAN loss with its sign changed, and entropy weight 1.

    Parameters
    ----------
    probabilities : ndarray of shape (n_samples, n_clusters)
        Of the clusters of each sample.
    neighbors : ndarray of shape (n_samples, K)
        Row numbers; -1 stands for none.

    Returns
    -------
    objective : float
        In nats, at most ``log(n_clusters)``.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    rows, columns = np.nonzero(neighbors >= 0)
    agreement = np.einsum("nc,nc->n", p[rows], p[neighbors[rows, columns]])
    marginal = p.mean(axis=0)
    marginal = marginal[marginal > 0]
    entropy = -(marginal * np.log(marginal)).sum()
    return float(np.log(agreement.clip(_LEAST_AGREEMENT)).mean() + entropy)


def label_generalization(labels: Labels, rows: Floats) -> float:
    """Compute how well a linear classifier predicts the clusters of held-out rows.

    Linear discriminant analysis with a shrunken covariance, in cross-validation.

    Parameters
    ----------
    labels : ndarray of shape (n_samples,)
        Clusters.
    rows : ndarray of shape (n_samples, n_features)
        The embedding.

    Returns
    -------
    generalization : float
        Cohen's kappa of clusters and predictions, at most 1. Members of clusters that
        are too small to be in every fold count as predicted wrongly.
    """
    # Here, as below, because these imports take a while.
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.metrics import cohen_kappa_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    labels = np.unique(labels, return_inverse=True)[1]
    is_known = np.bincount(labels)[labels] >= _N_FOLDS
    if len(np.unique(labels[is_known])) < 2:
        return 0.0
    rows = reduce_width(rows)
    found = np.full(len(labels), -1)
    with warnings.catch_warnings():
        # Features without variance, such as the border of digits.
        warnings.simplefilter("ignore")
        found[is_known] = cross_val_predict(
            LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
            rows[is_known],
            labels[is_known],
            cv=StratifiedKFold(_N_FOLDS, shuffle=True, random_state=0),
        )
    return float(cohen_kappa_score(labels, found))


def reduce_width(rows: Floats) -> Floats:
    """Return wide rows as their leading principal components, others as they are."""
    from sklearn.decomposition import PCA

    if rows.shape[1] <= _MOST_FEATURES:
        return rows
    n_components = min(_MOST_FEATURES, len(rows))
    return PCA(n_components, svd_solver="randomized", random_state=0).fit_transform(
        rows
    )


def silhouette(labels: Labels, rows: Floats, metric: str = "euclidean") -> float:
    """Compute the mean silhouette; -1 where it is not defined.

    Parameters
    ----------
    labels : ndarray of shape (n_samples,)
        Clusters.
    rows : ndarray of shape (n_samples, n_features)
        The space.
    metric : str, default="euclidean"
        As in :func:`~sklearn.metrics.silhouette_score`.

    Returns
    -------
    silhouette : float
        Between -1 and 1; -1 for a single cluster, and where every sample is one.
    """
    from sklearn.metrics import silhouette_score

    if not 1 < len(np.unique(labels)) < len(labels):
        return -1.0
    return float(silhouette_score(rows, labels, metric=metric))


def find_agreement(labels, neighbors):
    """Return for each sample the share of its neighbours in its cluster; NaN for none.

    Parameters
    ----------
    labels : ndarray of shape (n_samples,)
        Clusters.
    neighbors : ndarray of shape (n_samples, K)
        Row numbers; -1 stands for none.
    """
    is_edge = neighbors >= 0
    n_edges = is_edge.sum(axis=1)
    n_agreeing = (is_edge & (labels[neighbors] == labels[:, None])).sum(axis=1)
    return np.where(n_edges > 0, n_agreeing / np.maximum(n_edges, 1), np.nan)


def count_links(labels, neighbors, n_clusters):
    """Count the neighbours of the members of each cluster, by their cluster.

    Parameters
    ----------
    labels : ndarray of shape (n_samples,)
        Clusters, as numbers from 0. One without neighbours may have -1.
    neighbors : ndarray of shape (n_samples, K)
        Row numbers; -1 stands for none.
    n_clusters : int
        How many there are.

    Returns
    -------
    links : ndarray of shape (n_clusters, n_clusters), dtype int64
        Rows are the clusters of samples, columns those of their neighbours.
    """
    rows, columns = np.nonzero(neighbors >= 0)
    pairs = labels[rows] * n_clusters + labels[neighbors[rows, columns]]
    links = np.bincount(pairs, minlength=n_clusters**2)
    return links.reshape(n_clusters, n_clusters)


def compare_parts(labels, others):
    """Compare the clusters of two clusterings of the same samples.

    Parameters
    ----------
    labels, others : ndarray of shape (n_samples,)
        Clusters.

    Returns
    -------
    similarity : ndarray of shape (n_found, n_others)
        The Jaccard similarity of every two clusters that have members, in the order of
        their numbers.
    """
    from sklearn.metrics.cluster import contingency_matrix

    both = contingency_matrix(labels, others)
    either = both.sum(axis=1, keepdims=True) + both.sum(axis=0) - both
    return both / either


def expect_agreement(labels):
    """Return the share of pairs of samples, drawn at random, in one cluster."""
    shares = np.unique(labels, return_counts=True)[1] / len(labels)
    return (shares**2).sum()


def _above_chance(agreement, expected):
    return float((agreement - expected) / (1 - expected)) if expected < 1 else 0.0
