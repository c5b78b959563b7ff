# SPDX-License-Identifier: BSD-3-Clause
"""How well clusters, and the halves of clusters, are separated in a neighbour graph.

Both are measured by one quantity, so that they can be compared: the conductance of a
border, the share of the neighbours of the smaller side that lie on the other side,
where nothing is looked at but the two sides (Shi and Malik, "Normalized cuts and image
segmentation", 2000). Two clusters that are no better separated than the halves of
others may be one; halves that are better separated than clusters may be two.
"""

import numpy as np
from scipy.sparse import diags_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import ArpackError, eigsh

# A half has at least this share of the members: a few stray samples are no half.
_LEAST_SHARE = 0.15
_FEWEST_MEMBERS = 10
# Directions along which halves are looked for, and the size up to which all
# eigenvectors are computed at once.
_N_DIRECTIONS = 4
_SMALL_GRAPH = 600


def cut_pairs(links):
    """Compute the conductance of the border of every two clusters.

    Parameters
    ----------
    links : ndarray of shape (n_clusters, n_clusters)
        The weights of edges between clusters, and within them; symmetric.

    Returns
    -------
    cuts : ndarray of shape (n_clusters, n_clusters)
        From 0, where no neighbours are shared, to 1. NaN where a cluster has no edges,
        and on the diagonal.
    """
    volumes = links + links.diagonal()[:, None]
    smaller = np.minimum(volumes, volumes.T)
    cuts = np.divide(
        links, smaller, out=np.full(links.shape, np.nan), where=smaller > 0
    )
    np.fill_diagonal(cuts, np.nan)
    return cuts


def halve(graph):
    """Find the two halves of some samples that share the fewest neighbours.

    By sweeps along the leading eigenvectors of the graph, and over its pieces.

    Parameters
    ----------
    graph : sparse array of shape (n_members, n_members)
        Symmetric; of the members of a cluster alone.

    Returns
    -------
    cut : float
        The conductance of the border between the halves; NaN for fewer than ten
        members, or members without edges.
    is_first : ndarray of shape (n_members,), dtype bool
        The members of the first half.
    """
    n_members = graph.shape[0]
    best = np.nan, np.zeros(n_members, dtype=bool)
    if n_members < _FEWEST_MEMBERS or graph.nnz == 0:
        return best
    directions = [_rank_pieces(graph), *_find_directions(graph).T]
    for direction in directions:
        order = np.argsort(direction, kind="stable")
        cut, size = _sweep(graph, order)
        if not cut >= best[0]:
            best = cut, np.isin(np.arange(n_members), order[:size])
    return best


def _sweep(graph, order):
    """Return the best cut of members in an order, and the size of its first part."""
    n_members = len(order)
    place = np.empty(n_members, dtype=np.int64)
    place[order] = np.arange(n_members)
    edges = graph.tocoo()
    first, last = place[edges.row], place[edges.col]
    is_forward = first < last
    weights = edges.data[is_forward]
    opened = np.bincount(first[is_forward], weights, minlength=n_members)
    closed = np.bincount(last[is_forward], weights, minlength=n_members)
    crossing = np.cumsum(opened - closed)  # after each place
    volume = np.cumsum(graph.sum(axis=1)[order])
    smaller = np.minimum(volume, volume[-1] - volume)
    least = max(1, round(_LEAST_SHARE * n_members))
    sizes = np.arange(least, n_members - least + 1)
    cuts = crossing[sizes - 1] / np.maximum(smaller[sizes - 1], 1e-12)
    best = int(cuts.argmin())
    return float(cuts[best]), int(sizes[best])


def _rank_pieces(graph):
    """Return for each member the rank of its connected component, the largest first.

    Eigenvectors of a graph in pieces are any mixture of the pieces.
    """
    _, pieces = connected_components(graph, directed=False)
    sizes = np.bincount(pieces)
    rank = np.empty(len(sizes), dtype=np.int64)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    return rank[pieces]


def _find_directions(graph):
    """Return the leading eigenvectors but the first, of the normalised graph."""
    n_members = graph.shape[0]
    degree = graph.sum(axis=1)
    scale = 1 / np.sqrt(np.maximum(degree, 1e-12))
    matrix = diags_array(scale) @ graph @ diags_array(scale)
    n_vectors = min(1 + _N_DIRECTIONS, n_members - 1)
    if n_members <= _SMALL_GRAPH:
        vectors = np.linalg.eigh(matrix.toarray())[1][:, -n_vectors:]
    else:
        start = np.random.default_rng(0).normal(size=n_members)
        try:
            vectors = eigsh(matrix, n_vectors, which="LA", v0=start, tol=1e-3)[1]
        except ArpackError as stopped:  # not all of them converged
            found = getattr(stopped, "eigenvectors", None)
            vectors = start[:, None] if found is None or not found.size else found
    return scale[:, None] * vectors[:, -2::-1] if vectors.shape[1] > 1 else vectors
