# SPDX-License-Identifier: BSD-3-Clause
"""Partitions of an embedding that need no training: where heads begin.

Spectral clustering of the graph of neighbours (Ng, Jordan and Weiss, "On spectral
clustering", 2001) and k-means, and the normalised cut (Shi and Malik, "Normalized cuts
and image segmentation", 2000) by which partitions are compared.
"""

import warnings

import numpy as np
import torch
from scipy.sparse import csr_array, diags_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, eigsh
from sklearn.exceptions import ConvergenceWarning

# Eigenvectors of the graph, and the size up to which all are computed at once.
_MOST_EIGENVECTORS = 128
_SMALL_GRAPH = 500
# Runs of k-means for the first partition of each kind; the others are single runs.
_N_INIT = 3
# Weight of what the entropy of the sizes of clusters, in nats, lacks to its maximum.
_IMBALANCE = 0.1


def find_partitions(rows, neighbors, n_clusters, n_partitions):
    """Partition rows by their graph of neighbours and by k-means, in turn.

    Parameters
    ----------
    rows : ndarray of shape (n_samples, n_features)
        The embedding.
    neighbors : ndarray of shape (n_samples, K)
        Of every row; -1 stands for none.
    n_clusters, n_partitions : int
        Parts of each partition, and partitions, each from its own random start.

    Returns
    -------
    partitions : list of ndarray of shape (n_samples,)
        Numbers of clusters. Where there are no neighbours, all are of k-means.
    """
    spaces = [rows]
    if has_edges(neighbors):
        spaces.insert(0, embed_graph(neighbors, n_clusters))
    partitions = []
    for k in range(n_partitions):
        seed = int(torch.randint(2**31 - 1, ()))
        n_init = 1 if k > 1 else _N_INIT
        partitions.append(run_kmeans(spaces[k % len(spaces)], n_clusters, n_init, seed))
    return partitions


def run_kmeans(rows, n_clusters, n_init, seed):
    """Return the clusters of k-means, without a warning of empty ones."""
    # Here, because this import takes a quarter of a second.
    from sklearn.cluster import KMeans

    kmeans = KMeans(n_clusters, n_init=n_init, random_state=seed)
    with warnings.catch_warnings():
        # Duplicates leave clusters empty, of which `fit` warns in the end.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return kmeans.fit_predict(rows)


def embed_graph(neighbors, n_clusters):
    """Return the spectral embedding (n_samples, n_vectors) of a graph of neighbours.

    The leading eigenvectors of the normalised adjacency matrix, each row scaled to
    length one.
    """
    return unit_rows(find_eigenvectors(make_graph(neighbors), n_clusters))


def unit_rows(rows):
    """Return rows of length one; zeros stay zeros."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


def find_eigenvectors(graph, n_vectors):
    """Return the leading eigenvectors of a normalised adjacency matrix.

    Parameters
    ----------
    graph : sparse array of shape (n_samples, n_samples)
        Symmetric, of weights.
    n_vectors : int
        How many; fewer of a small graph, and 128 at most.

    Returns
    -------
    vectors : ndarray of shape (n_samples, n_vectors)
        The leading one comes last.
    """
    degree = np.asarray(graph.sum(axis=1)).ravel()
    scale = diags_array(1 / np.sqrt(np.maximum(degree, 1e-12)))
    n_vectors = min(n_vectors, _MOST_EIGENVECTORS, len(degree))
    return _leading_eigenvectors(scale @ graph @ scale, n_vectors)


def make_graph(neighbors):
    """Return the symmetric graph of who is a neighbour of whom; -1 is nobody."""
    anchors, columns = np.nonzero(neighbors >= 0)
    edges = (anchors, neighbors[anchors, columns])
    n_samples = len(neighbors)
    graph = csr_array((np.ones(len(anchors)), edges), shape=(n_samples, n_samples))
    return (graph + graph.T) / 2


def _leading_eigenvectors(matrix, n_vectors):
    n_samples = matrix.shape[0]
    if n_samples <= max(_SMALL_GRAPH, 2 * n_vectors):
        return np.linalg.eigh(matrix.toarray())[1][:, -n_vectors:]
    start = torch.randn(n_samples, dtype=torch.float64).numpy()
    try:
        # Not to the last digit: these are starts.
        return eigsh(matrix, n_vectors, which="LA", v0=start, tol=1e-3)[1]
    except ArpackNoConvergence as stopped:
        return stopped.eigenvectors if stopped.eigenvectors.size else start[:, None]
    except ArpackError:
        return start[:, None]


def has_edges(neighbors):
    """Return whether any sample has a neighbour."""
    return bool((neighbors >= 0).any())


def find_pieces(neighbors):
    """Return the connected components of a graph of neighbours.

    Parameters
    ----------
    neighbors : ndarray of shape (n_samples, K)
        Of every row; -1 stands for none.

    Returns
    -------
    n_pieces : int
        The number of components.
    pieces : ndarray of shape (n_samples,)
        The component of each row.
    """
    return connected_components(make_graph(neighbors), directed=False)


def measure_cut(labels, neighbors, n_clusters):
    """Compute the normalised cut of a partition, and add a little for unequal sizes.

    A small cluster counts as much as a large one, so that nothing is gained by
    splitting a large cluster and merging two small ones. Unequal sizes count a little,
    so that no cluster is made of a few stray samples, and an empty cluster counts more
    than any cut: where most neighbours are of other clusters, the others would gain by
    leaving one empty.

    Parameters
    ----------
    labels : ndarray of shape (n_samples,)
        Numbers of clusters.
    neighbors : ndarray of shape (n_samples, K)
        Of every sample; -1 stands for none.
    n_clusters : int
        A cluster whose members have no neighbours counts as cut off entirely.

    Returns
    -------
    cut : float
        The mean over clusters of the share of their neighbours that are of another
        cluster, plus a tenth of what the entropy of the sizes lacks to its maximum,
        plus the number of empty clusters.
    """
    is_edge = neighbors >= 0
    is_cut = is_edge & (labels[neighbors] != labels[:, None])
    n_edges, n_cut = (
        np.bincount(labels, edges.sum(axis=1), minlength=n_clusters)
        for edges in (is_edge, is_cut)
    )
    shares = np.where(n_edges > 0, n_cut / np.maximum(n_edges, 1), 1)
    filled = np.bincount(labels) / len(labels)
    filled = filled[filled > 0]
    lacking = np.log(n_clusters) + (filled * np.log(filled)).sum()
    return shares.mean() + _IMBALANCE * lacking + (n_clusters - len(filled))
