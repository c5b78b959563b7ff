# SPDX-License-Identifier: BSD-3-Clause
"""Mining: the nearest neighbours of every sample in an embedding.

SCAN's prior is that a sample and its neighbours show the same thing (Van Gansbeke et
al., ECCV 2020, section 2.1). Neighbours are mined once, after the pretext task.
"""

import sys

import numpy as np
from sklearn.utils import check_array

__all__ = ["check_neighbors", "mine_neighbors"]

# Entries of the distance matrix that torch holds at a time (one gigabyte).
_BLOCK = 2**28


def mine_neighbors(embedding, K=20, *, metric="cosine", device="cpu"):
    """Find the `K` nearest neighbours of every sample among all others, exactly.

    Parameters
    ----------
    embedding : array-like of shape (n_samples, n_features)
        One row per sample.
    K : int, default=20
        Neighbours per sample, at most ``n_samples - 1``.
    metric : {"cosine", "euclidean"}, default="cosine"
        What near means. Rows of zeros have the cosine 0 with everything.
    device : str or torch.device, default="cpu"
        Where to search: on the CPU by faiss, elsewhere by torch, block by block.

    Returns
    -------
    neighbors : ndarray of shape (n_samples, K), dtype int64
        Row numbers, nearest first. No row is its own neighbour, also where there are
        duplicates.

    Raises
    ------
    ValueError
        If `K` is not between 1 and ``n_samples - 1``, or `metric` is unknown.

    See Also
    --------
    sklearn_scan.metrics.neighbor_purity_score : How many of them are of one class.

    Examples
    --------
    >>> from sklearn_scan.neighbors import mine_neighbors
    >>> mine_neighbors([[0.0], [0.1], [5.0], [5.1]], K=1, metric="euclidean")
    array([[1],
           [0],
           [3],
           [2]])
    """
    rows = check_array(embedding, dtype=np.float32, order="C", ensure_min_samples=2)
    if not 1 <= K < len(rows):
        raise ValueError(
            f"K={K} neighbours were asked for among {len(rows)} samples; K must be "
            f"between 1 and {len(rows) - 1}."
        )
    if metric not in ("cosine", "euclidean"):
        raise ValueError(
            f'metric must be "cosine" or "euclidean". Got {metric!r} instead.'
        )
    rows = _unit_rows(rows) if metric == "cosine" else _unit_scale(rows)
    # On macOS torch and faiss bring an OpenMP runtime each, and the second to start
    # ends the process; so faiss is not imported there.
    if str(device).startswith("cpu") and sys.platform != "darwin":
        candidates = _search_faiss(rows, K + 1, metric)
    else:
        candidates = _search_torch(rows, K + 1, metric, device)
    return _drop_self(candidates, K)


def check_neighbors(neighbors, n_samples):
    """Validate neighbours that were not mined here.

    Parameters
    ----------
    neighbors : array-like of shape (n_samples, k)
        Row numbers; -1 stands for none.
    n_samples : int
        How many rows there are.

    Returns
    -------
    neighbors : ndarray of shape (n_samples, k), dtype int64
        A sample among its own neighbours, as scikit-learn's searches give it, has
        become -1.

    Raises
    ------
    ValueError
        If there is not one row per sample, or an entry is neither -1 nor a row number.
    """
    neighbors = check_array(neighbors, dtype=None, ensure_min_features=0)
    given = f"neighbors has shape {neighbors.shape} and type {neighbors.dtype}"
    if neighbors.dtype.kind not in "iu" or len(neighbors) != n_samples:
        raise ValueError(
            f"{given}; needed are integers of shape ({n_samples}, k): for each sample "
            "the row numbers of its neighbours."
        )
    if neighbors.size and (neighbors.min() < -1 or neighbors.max() >= n_samples):
        raise ValueError(
            f"neighbors has entries from {neighbors.min()} to {neighbors.max()}; "
            f"needed are row numbers from 0 to {n_samples - 1}, or -1 for none."
        )
    neighbors = neighbors.astype(np.int64)
    neighbors[neighbors == np.arange(n_samples)[:, None]] = -1
    return neighbors


def _unit_rows(rows):
    """Scale every row to length one; zeros stay zeros."""
    # By the largest entry first: squares of huge or tiny entries are not floats.
    largest = np.abs(rows).max(axis=1, keepdims=True)
    rows = rows / np.where(largest > 0, largest, 1)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)


def _unit_scale(rows):
    """Centre the rows, which keeps distances exact, and scale them as a whole."""
    rows = rows - rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    largest = np.abs(rows).max()
    return rows / largest if largest > 0 else rows


def _search_faiss(rows, n_candidates, metric):
    import faiss

    if metric == "euclidean":
        index = faiss.IndexFlatL2(rows.shape[1])
        index.add(rows)
    else:
        index = faiss.IndexFlatIP(rows.shape[1])
        # What all rows have in common adds the same to every product with a query, so
        # the order stays; without it the products differ in digits that floats keep.
        index.add(rows - rows.mean(axis=0))
    return index.search(rows, n_candidates)[1]


def _search_torch(rows, n_candidates, metric, device):
    import torch

    rows = torch.from_numpy(rows).to(device)
    if metric == "euclidean":
        # ||x - y||² without ||x||², which is the same for a whole row.
        offset, targets = -rows.square().sum(dim=1) / 2, rows.T
    else:
        offset, targets = torch.zeros(len(rows), device=device), (rows - rows.mean(0)).T
    found = [
        torch.addmm(offset, block, targets).topk(n_candidates).indices
        for block in rows.split(max(1, _BLOCK // len(rows)))
    ]
    return torch.cat(found).cpu().numpy()


def _drop_self(candidates, K):
    """Keep K of K + 1 candidates, without the sample itself.

    With duplicates a sample need not be the first of its own candidates, nor among
    them at all.
    """
    is_other = candidates != np.arange(len(candidates))[:, None]
    is_other &= is_other.cumsum(axis=1) <= K
    return candidates[is_other].reshape(len(candidates), K).astype(np.int64)
