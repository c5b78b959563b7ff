# SPDX-License-Identifier: BSD-3-Clause
"""What each number of clusters is worth, on parts of an embedding, without labels.

Every part is partitioned into every number of clusters, by k-means and in the graph of
neighbours, and a subset of the part in its own graph. `_counting` decides by what is
measured of these partitions.
"""

import numpy as np
import torch
from scipy.sparse import csr_array, diags_array

from sklearn_scan._stages._partitions import find_eigenvectors, run_kmeans, unit_rows
from sklearn_scan.neighbors import mine_neighbors

# Numbers that are tried by default: all up to the first, then steps of a tenth; and at
# least so many samples for each cluster.
_MOST_SINGLE, _STEP, _MOST, _LEAST_MEMBERS = 16, 1.1, 40, 10
_LEAST_SAMPLES = 10
# Neighbours in the graph, and at most this share of the rows.
_K, _K_SHARE = 20, 0.05
# Shares: of few rows in a part, and of a part in its subset. Principal components that
# k-means sees.
_PART, _SUBSET, _N_COMPONENTS = 0.8, 0.7, 50
# Starts of k-means.
_N_INIT = 2


def list_numbers(n_samples):
    """Return the numbers of clusters that are tried for so many samples."""
    most = int(np.clip(n_samples * _PART / _LEAST_MEMBERS, 3, _MOST))
    numbers = list(range(2, _MOST_SINGLE + 1))
    while numbers[-1] < _MOST:
        numbers.append(int(numbers[-1] * _STEP))
    return np.array([k for k in numbers if k <= most])


def check_countable(n_samples, numbers):
    """Refuse too few samples for the numbers of clusters that are to be tried."""
    n_drawn = int(int(n_samples * _PART) * _SUBSET)
    if n_samples < _LEAST_SAMPLES or n_drawn <= numbers.max():
        raise ValueError(
            f"n_samples={n_samples} are too few to tell how many clusters there are "
            f"among {numbers.min()} to {numbers.max()}: {_SUBSET:.0%} of parts of "
            f"{_PART:.0%} are looked at, and at least {_LEAST_SAMPLES} samples are "
            "needed. Give n_clusters."
        )


def try_numbers(rows, metric, numbers, n_parts, most_samples, seed):
    """Measure how well each number of clusters suits parts of an embedding.

    Parameters
    ----------
    rows : ndarray of shape (n_samples, n_features)
        What distances are taken in.
    metric : {"cosine", "euclidean"}
        See `mine_neighbors`.
    numbers : ndarray of shape (n_numbers,)
        Of clusters, increasing.
    n_parts : int
        Parts that are drawn.
    most_samples : int
        Rows in a part at most; four fifths of all, where these are fewer.
    seed : int
        Determines the parts.

    Returns
    -------
    curves : dict of ndarray of shape (n_parts, n_numbers)
        "silhouettes", the mean of those of both partitions; "kmeans_silhouettes";
        "modularities" and "strengths", of the partition of the graph.
    """
    random = np.random.default_rng(seed)
    n_drawn = min(most_samples, int(len(rows) * _PART))
    measured = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for _ in range(n_parts):
            part = _draw(random, len(rows), n_drawn)
            measured.append(_try_part(rows[part], metric, numbers, random))
    return {name: np.array([each[name] for each in measured]) for name in measured[0]}


def _try_part(rows, metric, numbers, random):
    """Return the curves (n_numbers,) of some rows."""
    points = unit_rows(rows) if metric == "cosine" else rows
    subset = _draw(random, len(rows), int(_SUBSET * len(rows)))
    graph = _link(rows, metric)
    most = int(numbers.max())
    spectra = find_eigenvectors(graph, most)
    subset_spectra = find_eigenvectors(_link(rows[subset], metric), most)
    distances, narrow = _measure_distances(points), _project(points)
    records = []
    for number in numbers.tolist():
        seed = int(random.integers(2**31 - 1))
        of_graph = _partition_graph(spectra, number, seed)
        of_subset = _partition_graph(subset_spectra, number, seed)
        of_rows = run_kmeans(narrow, number, _N_INIT, seed)
        pair = [_silhouette(distances, labels) for labels in (of_graph, of_rows)]
        records.append(
            {
                "silhouettes": np.mean(pair),
                "kmeans_silhouettes": pair[1],
                "modularities": measure_modularity(graph, of_graph),
                "strengths": measure_strength(of_graph[subset], of_subset),
            }
        )
    return {name: [each[name] for each in records] for name in records[0]}


def _draw(random, n_samples, n_drawn):
    return np.sort(random.choice(n_samples, n_drawn, replace=False))


def _link(rows, metric):
    K = min(_K, max(3, int(_K_SHARE * len(rows))), len(rows) - 1)
    return weigh_graph(mine_neighbors(rows, K, metric=metric))


def _partition_graph(spectra, number, seed):
    return run_kmeans(unit_rows(spectra[:, -number:]), number, _N_INIT, seed)


def weigh_graph(neighbors):
    """Return the symmetric graph of neighbours, weighted by those that two share.

    The weight is the Jaccard similarity of the two sets of neighbours, each with the
    sample itself, as in PhenoGraph (Levine et al., Cell 2015).
    """
    n_samples, K = neighbors.shape
    members = np.column_stack([np.arange(n_samples), neighbors]).ravel()
    starts = np.arange(0, len(members) + 1, K + 1)
    sets = csr_array((np.ones(len(members)), members, starts))
    is_edge = ((sets + sets.T) > 0).astype(float)
    shared = csr_array((sets @ sets.T).multiply(is_edge))
    shared.data /= 2 * (K + 1) - shared.data
    return csr_array(shared - diags_array(shared.diagonal()))


def measure_modularity(graph, labels):
    """Compute the modularity of a partition of a weighted graph."""
    degrees = np.asarray(graph.sum(axis=1)).ravel()
    edges = graph.tocoo()
    is_within = labels[edges.coords[0]] == labels[edges.coords[1]]
    shares = np.bincount(labels, degrees) / degrees.sum()
    return edges.data[is_within].sum() / degrees.sum() - (shares**2).sum()


def measure_strength(labels, found):
    """Compute the prediction strength of a partition (Tibshirani and Walther, 2005).

    Parameters
    ----------
    labels : ndarray of shape (n_samples,)
        Clusters of the partition.
    found : ndarray of shape (n_samples,)
        Those of another partition that should predict them.

    Returns
    -------
    strength : float
        Of the cluster in which it is least, the share of the pairs of members that
        are of one cluster by `found` as well. Clusters of one member have no pairs.
    """
    counts = np.zeros((found.max() + 1, labels.max() + 1))
    np.add.at(counts, (found, labels), 1)
    sizes = counts.sum(axis=0)
    has_pairs = sizes > 1
    n_together = (counts * (counts - 1)).sum(axis=0)[has_pairs]
    return np.min(n_together / (sizes * (sizes - 1))[has_pairs], initial=1)


def _silhouette(distances, labels):
    from sklearn.metrics import silhouette_score

    n_found = len(np.unique(labels))
    if not 1 < n_found < len(labels):
        return 0.0
    return float(silhouette_score(distances, labels, metric="precomputed"))


def _measure_distances(rows):
    from sklearn.metrics import pairwise_distances

    distances = pairwise_distances(rows)
    np.fill_diagonal(distances, 0)
    return distances


def _project(rows):
    from sklearn.decomposition import PCA

    if min(rows.shape) <= _N_COMPONENTS:
        return rows
    return PCA(_N_COMPONENTS, random_state=0).fit_transform(rows)
