# SPDX-License-Identifier: BSD-3-Clause
"""Samples in two dimensions."""

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA

# Above, the covariance takes longer than a randomized decomposition.
_MOST_FEATURES = 512

# The map by clusters: width by height, and how much of its cell a cluster fills.
_ASPECT, _FILLED = 1.6, 0.75


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
