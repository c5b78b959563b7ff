# SPDX-License-Identifier: BSD-3-Clause
"""Neighbours for one `fit`, from the cache where they are there."""

import joblib
import numpy as np

from sklearn_scan._world import world
from sklearn_scan.neighbors import mine_neighbors

# Neighbours that are mined of each sample, if not more, and of all samples at most.
_K_TO_SPARE = 50
_MOST_TO_SPARE = 5_000_000


def find_neighbors(rows, K, n_clusters, metric, context):
    """Mine the neighbours of all samples, or fetch them from the cache.

    A smaller K is a slice of a larger: so a search over K mines once. Where there are
    very many samples, neighbours to spare would cost too much.

    Parameters
    ----------
    rows : ndarray of shape (n_samples, n_features)
        What distances are taken in.
    K : int
        Neighbours per sample, where the average cluster has twice as many members;
        half of the average cluster otherwise, as farther ones cannot be of it.
    n_clusters : int
        Clusters that are looked for.
    metric : str
        See `mine_neighbors`.
    context : FitContext
        Has the device and the cache.

    Returns
    -------
    neighbors : ndarray of shape (n_samples, K), dtype int64
    """
    n_samples = len(rows)
    half_a_cluster = max(1, n_samples // (2 * n_clusters))
    K = min(K, half_a_cluster, n_samples - 1)
    if K == 0:
        return np.empty((n_samples, 0), dtype=np.int64)
    n_mined = min(max(K, _K_TO_SPARE), n_samples - 1)
    if n_samples * n_mined > _MOST_TO_SPARE:
        n_mined = K
    with context.progress.console.line("neighbors", n_samples, "sample") as line:
        neighbors = world().once(
            lambda: context.cache.fetch(
                mine_neighbors,
                rows,
                n_mined,
                metric=metric,
                device=context.runtime.device,
                ignore=("device",),
                lock=lambda: f"neighbors-{joblib.hash(rows)}",
            )
        )
        line.advance(n_samples, figures=f"{K} of each")
    return np.ascontiguousarray(neighbors[:, :K])
