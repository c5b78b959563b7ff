# SPDX-License-Identifier: BSD-3-Clause
"""From many clusters to few, after the fit."""

import copy
from collections.abc import Sequence
from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform
from sklearn.utils.validation import check_is_fitted

from sklearn_scan._criteria import count_links
from sklearn_scan._nets import ClusterNetwork, MergedHeads
from sklearn_scan._predict import find_labels
from sklearn_scan._scan import SCANClustering
from sklearn_scan._stages import find_prototypes, make_net
from sklearn_scan._typing import Floats, SamplesLike


def merge(
    estimator: SCANClustering,
    groups: Sequence[Sequence[int]] | ArrayLike,
    X: SamplesLike | None = None,
) -> SCANClustering:
    """Merge clusters of a fitted estimator, without training anything.

    The probability of a merged cluster is the sum of those of its parts, for the
    training samples as for new ones. So a sample may change to a merged cluster whose
    parts were each less likely than its own.

    Parameters
    ----------
    estimator : SCANClustering
        Fitted; it is not changed.
    groups : sequence of sequences of int, or array-like of shape (n_clusters,)
        The clusters that become one: ``[[0, 3], [1, 5, 6]]`` makes one of 0 and 3, and
        one of 1, 5 and 6, and leaves the others as they are. Or for each cluster the
        number of its group, as :func:`scipy.cluster.hierarchy.cut_tree` gives it.
        Merged clusters are numbered by the smallest of their parts.
    X : array-like, default=None
        What the estimator was fitted on. Needed if its encoder was trained on in `fit`,
        to compute the probabilities of the samples, and not looked at otherwise.

    Returns
    -------
    merged : SCANClustering
        A fitted copy. `labels_`, `confidence_`, `prototypes_`, `n_clusters_`, `net_`
        and all that it predicts are those of the merged clusters; it shares the other
        attributes, and has the same parameters.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    ValueError
        If `groups` names a cluster twice or one that is not there, has not one number
        per cluster, or if `X` is needed and not what the estimator was fitted on.

    See Also
    --------
    merge_tree : Which clusters to merge first.
    sklearn_scan.inspection.write_gallery : Look at the clusters before.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn_scan import SCANClustering, merge
    >>> X, _ = make_blobs(n_samples=90, centers=3, random_state=0, cluster_std=0.5)
    >>> clusterer = SCANClustering(n_clusters=3, random_state=0).fit(X)
    >>> merged = merge(clusterer, [[0, 2]])
    >>> merged.n_clusters_, merged.predict_proba(X[:4]).shape
    (2, (4, 2))
    """
    check_is_fitted(estimator, "prototypes_")
    groups = _number_groups(groups, len(estimator.prototypes_))
    merged = copy.copy(estimator)
    merged.labels_, merged.confidence_ = _merge_labels(estimator, groups, X)
    merged.n_clusters_ = int(groups.max()) + 1
    merged.prototypes_ = find_prototypes(
        merged.labels_, merged.confidence_, estimator.embedding_, merged.n_clusters_
    )
    # Sums of calibrated probabilities are calibrated.
    merged.net_ = _merge_net(estimator, groups)
    merged.temperature_ = 1.0
    return merged


def merge_tree(estimator: SCANClustering) -> Floats:
    """Say in which order clusters are to be merged, by the neighbours that they share.

    Two clusters are as close as the neighbours that members of one have in the other
    are frequent, among all neighbours of the smaller one. Groups are as close as their
    clusters are on average (average linkage).

    Parameters
    ----------
    estimator : SCANClustering
        Fitted, with neighbours and at least two clusters.

    Returns
    -------
    tree : ndarray of shape (n_clusters - 1, 4)
        In the format of :func:`scipy.cluster.hierarchy.linkage`: the row of a merge has
        the two groups, their distance and their clusters. Distances are between 0 and
        1, which is that of clusters that share no neighbours. Clusters without a member
        are merged first.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    ValueError
        If it has a single cluster, or no neighbours.

    See Also
    --------
    merge : Merge them.
    scipy.cluster.hierarchy.dendrogram : Draw the tree.

    Examples
    --------
    >>> from scipy.cluster.hierarchy import cut_tree
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn_scan import SCANClustering, merge, merge_tree
    >>> X, _ = make_blobs(n_samples=120, centers=4, random_state=0, cluster_std=0.5)
    >>> clusterer = SCANClustering(n_clusters=4, random_state=0).fit(X)
    >>> merge(clusterer, cut_tree(merge_tree(clusterer), 2)).n_clusters_
    2
    """
    check_is_fitted(estimator, "prototypes_")
    n_clusters, neighbors = len(estimator.prototypes_), estimator.neighbors_
    if n_clusters < 2 or not (neighbors >= 0).any():
        raise ValueError(
            "merge_tree needs at least two clusters, and neighbours. Got "
            f"{n_clusters} clusters and neighbors_ of shape {neighbors.shape}."
        )
    distance = 1 - _measure_closeness(estimator.labels_, neighbors, n_clusters)
    return linkage(squareform(distance, checks=False), "average")


def _number_groups(groups, n_clusters):
    """Return for each cluster the number of its group, by the first cluster in it."""
    if isinstance(groups, np.ndarray):
        groups = groups.ravel()  # scipy's cut_tree has a column
    if len(groups) and all(isinstance(k, Integral) for k in groups):
        groups = np.asarray(groups)
        if len(groups) != n_clusters:
            raise ValueError(
                f"groups has {len(groups)} numbers for {n_clusters} clusters. Give one "
                "for each, or the lists of those that become one, as in [[0, 3]]."
            )
    else:
        groups = _join(groups, n_clusters)
    _, first, number = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[number]


def _join(lists, n_clusters):
    """Return for each cluster the first one of its list."""
    groups, named = np.arange(n_clusters), [k for one in lists for k in one]
    unknown = sorted(set(named) - set(range(n_clusters)))
    if unknown or len(set(named)) < len(named):
        fault = f"{unknown}, which are not there" if unknown else "one of them twice"
        raise ValueError(
            f"groups names {fault}. Clusters are 0 to {n_clusters - 1}, and each is in "
            f"one list at most. Got {lists!r}."
        )
    for one in lists:
        groups[list(one)] = min(one, default=0)
    return groups


def _merge_labels(estimator, groups, X):
    """Return labels and confidence of the training samples, in merged clusters."""
    if X is None and estimator._backbone.learns:
        raise ValueError(
            "The encoder was trained on in fit, so that merge must compute the "
            "probabilities of the samples again. Pass X, what it was fitted on."
        )
    probabilities = estimator._predict_proba_fitted(X)
    merged = np.zeros((len(probabilities), groups.max() + 1), dtype=np.float32)
    for cluster, group in enumerate(groups):
        merged[:, group] += probabilities[:, cluster]
    return find_labels(merged), merged.max(axis=1).clip(max=1)


def _merge_net(estimator, groups):
    """Return a net with the same encoder and merged clusters."""
    net = estimator.net_
    old = net.module_
    device = old.heads.linear.weight.device
    heads = MergedHeads(old.heads, groups, estimator.temperature_).to(device)
    network = ClusterNetwork(old.encoder, heads, old.views).eval()
    return make_net(network, estimator.entropy_weight, net.runtime)


def _measure_closeness(labels, neighbors, n_clusters):
    """Return the share of neighbours that two clusters have in each other.

    Returns
    -------
    closeness : ndarray of shape (n_clusters, n_clusters)
        Symmetric, in [0, 1]; an empty cluster is as close as the largest one.
    """
    links = count_links(labels, neighbors, n_clusters)
    n_links = links.sum(axis=1)
    least = np.minimum.outer(n_links, n_links).clip(1)
    shares = ((links + links.T) / 2 / least).clip(max=1)
    np.fill_diagonal(shares, 1)
    # An empty cluster stands where the largest does, and is merged with it first.
    standing = np.where(n_links > 0, np.arange(n_clusters), n_links.argmax())
    return shares[standing][:, standing]
