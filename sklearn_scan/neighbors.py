# SPDX-License-Identifier: BSD-3-Clause
"""Mining: the nearest neighbours of every sample in an embedding.

SCAN's prior is that a sample and its neighbours show the same thing (Van Gansbeke et
al., ECCV 2020, section 2.1). Neighbours are mined once, after the pretext task.
"""

import sys
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array

from sklearn_scan._devices import has_tiles
from sklearn_scan._tiled_search import search_tiled
from sklearn_scan._typing import Device, Labels

__all__ = ["check_neighbors", "mine_neighbors"]

# Entries of the distance matrix that torch holds at a time (one gigabyte).
_BLOCK = 2**28

# Up to this many rows "auto" compares every row with every other.
_MOST_FOR_BRUTE = 40_000
# From so many rows on, and so many per neighbour, tiles for matrices are faster.
_FEWEST_FOR_TILES, _ROWS_PER_NEIGHBOR = 20_000, 400
# Rows that are brought to unit length, and searched for, at a time.
_ROWS_AT_A_TIME = 16_384
# Rows per cell from which the centres of the cells are learned.
_ROWS_PER_CELL = 64
# Rows whose true neighbours say how many cells must be looked into, or which metric
# suits; and rows among which the latter are looked for.
_N_PROBES = 256
_N_COMPARED = 10_000
# Neighbours by which partitions are compared.
_MOST_COMPARED = 10
# Share of the distance to the centre beyond which neighbours are as far as anybody.
_FAR = 0.85


def mine_neighbors(
    embedding: ArrayLike,
    K: int = 20,
    *,
    metric: Literal["cosine", "euclidean"] = "cosine",
    algorithm: Literal["auto", "brute", "ivf"] = "auto",
    recall: float = 0.97,
    device: Device = "cpu",
) -> Labels:
    """Find the `K` nearest neighbours of every sample among all others.

    Parameters
    ----------
    embedding : array-like of shape (n_samples, n_features)
        One row per sample.
    K : int, default=20
        Neighbours per sample, at most ``n_samples - 1``.
    metric : {"cosine", "euclidean"}, default="cosine"
        What near means. Rows of zeros have the cosine 0 with everything; for "ivf" they
        are as near as rows with the cosine 1/2.
    algorithm : {"auto", "brute", "ivf"}, default="auto"
        "brute" compares every row with every other, which is exact, and takes time that
        grows with the square of `n_samples`. "ivf", on the CPU alone, divides the space
        into cells (an inverted file, as in faiss) and looks into the nearest of them;
        it keeps rows in half precision. "auto" is "ivf" for more than 40,000 rows on
        the CPU, but on macOS, where there is no faiss.
    recall : float, default=0.97
        The share of the true neighbours, or of rows as near, that "ivf" is to find, in
        (0, 1]. For 256 of the rows they are computed, and the number of cells to look
        into is doubled until that share is found; at the most, all are.
    device : str or torch.device, default="cpu"
        Where to search: on the CPU by faiss, elsewhere by torch, block by block. CPUs
        with tiles for matrices (AMX) compute the distances of 20,000 rows or more, and
        400 per neighbour, in bfloat16, and compare the nearest in float32.

    Returns
    -------
    neighbors : ndarray of shape (n_samples, K), dtype int64
        Row numbers, nearest first. No row is its own neighbour, also where there are
        duplicates. Beside the embedding, "ivf" holds half of its size and the result.

    Raises
    ------
    ValueError
        If `K` is not between 1 and ``n_samples - 1``, or `metric`, `algorithm` or
        `recall` is not one of the above.

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
    if not 0 < recall <= 1:
        raise ValueError(f"recall must be in (0, 1]. Got {recall!r} instead.")
    # On macOS torch and faiss bring an OpenMP runtime each, and the second to start
    # ends the process; so faiss is not imported there.
    has_faiss = str(device).startswith("cpu") and sys.platform != "darwin"
    if _choose_algorithm(algorithm, len(rows), has_faiss) == "ivf":
        return _search_cells(rows, K, _HalfPrecision(rows, metric), recall)
    rows = _unit_rows(rows) if metric == "cosine" else _unit_scale(rows)
    search = _choose_search(len(rows), K, has_faiss, device)
    return _drop_self(search(rows, K + 1, metric), K)


def _choose_algorithm(algorithm, n_samples, has_faiss):
    if algorithm == "auto":
        return "ivf" if has_faiss and n_samples > _MOST_FOR_BRUTE else "brute"
    if algorithm not in ("brute", "ivf"):
        raise ValueError(
            f'algorithm must be "auto", "brute" or "ivf". Got {algorithm!r} instead.'
        )
    if algorithm == "ivf" and not has_faiss:
        raise ValueError(
            'algorithm="ivf" needs faiss and the CPU. Leave algorithm at "auto".'
        )
    return algorithm


def _choose_search(n_samples, K, has_faiss, device):
    """Return the fastest of the searches that compare every row with every other."""
    if not has_faiss:
        return partial(_search_torch, device=device)
    is_large = n_samples >= max(_FEWEST_FOR_TILES, _ROWS_PER_NEIGHBOR * K)
    return _search_in_tiles if is_large and has_tiles() else _search_faiss


def count_compared(n_samples: int) -> int:
    """Return how many neighbours of each sample partitions are compared by.

    Ten, or fewer where there are few samples; at least one. Not the `K` of a clusterer,
    so that all are measured alike.
    """
    return min(_MOST_COMPARED, max(1, n_samples // 20))


def choose_metric(rows: NDArray[Any]) -> str:
    """Choose the metric in which rows of unknown origin are compared.

    Where neighbours are hardly nearer than rows are to the centre of all, as in
    features of a thousand dimensions, rows near the centre are neighbours of everyone
    (hubs), and only directions from the centre tell rows apart. Where neighbours are
    near, how far out a row lies says something, too.

    Parameters
    ----------
    rows : ndarray of shape (n_samples, n_features)
        Like those that will be searched.

    Returns
    -------
    metric : {"cosine", "euclidean"}
        "cosine" is meant of rows from which the mean of all is subtracted.
    """
    some = np.asarray(rows[draw_some(len(rows), _N_COMPARED)], dtype=np.float32)
    some = _unit_scale(some)
    probes = some[draw_some(len(some), _N_PROBES)]
    # Of few rows, not even the twentieth is near.
    rank = min(20, 1 + len(some) // 20)
    squares = (some**2).sum(axis=1) - 2 * probes @ some.T
    squares = np.partition(squares, rank, axis=1)[:, rank]
    reach = np.median(np.sqrt((squares + (probes**2).sum(axis=1)).clip(0)))
    # Not the median of the distances to the centre: most rows may lie there.
    spread = np.sqrt((some**2).sum(axis=1).mean())
    return "cosine" if reach > _FAR * spread else "euclidean"


def check_neighbors(neighbors: ArrayLike, n_samples: int) -> Labels:
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
            f"{given}; expected integers of shape ({n_samples}, k): for each sample "
            "the row numbers of its neighbours."
        )
    if neighbors.size and (neighbors.min() < -1 or neighbors.max() >= n_samples):
        raise ValueError(
            f"neighbors has entries from {neighbors.min()} to {neighbors.max()}; "
            f"expected row numbers from 0 to {n_samples - 1}, or -1 for none."
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


class _HalfPrecision:
    """Makes rows fit for half precision, so that distances keep their order.

    They are centred, and scaled by their median spread: neither what all rows have in
    common nor a single huge one takes the digits that tell rows apart. What is 60,000
    times farther out than that is cut off there.
    """

    def __init__(self, rows, metric):
        self.is_cosine = metric == "cosine"
        some = rows[draw_some(len(rows), _ROWS_AT_A_TIME)]
        some = _unit_rows(some) if self.is_cosine else some
        self.center = some.mean(axis=0, dtype=np.float64).astype(np.float32)
        spread = np.median(np.abs(some - self.center).max(axis=1))
        self.scale = spread if spread > 0 else np.float32(1)

    def __call__(self, rows):
        rows = _unit_rows(rows) if self.is_cosine else rows
        return ((rows - self.center) / self.scale).clip(-60_000, 60_000)


def draw_some(n_rows, n_drawn):
    """Return the sorted numbers of some rows at random; the same for the same size."""
    random = np.random.default_rng(0)
    return np.sort(random.choice(n_rows, min(n_rows, n_drawn), replace=False))


def _split(rows):
    """Yield consecutive parts of the rows, with the number of the first of each."""
    for first in range(0, len(rows), _ROWS_AT_A_TIME):
        yield first, rows[first : first + _ROWS_AT_A_TIME]


def _search_in_tiles(rows, n_candidates, metric):
    return search_tiled(rows, n_candidates, metric, _search_faiss)


def _search_faiss(rows, n_candidates, metric, queries=None):
    import faiss

    if metric == "euclidean":
        index = faiss.IndexFlatL2(rows.shape[1])
        index.add(rows)
    else:
        index = faiss.IndexFlatIP(rows.shape[1])
        # What all rows have in common adds the same to every product with a query, so
        # the order stays; without it the products differ in digits that floats keep.
        index.add(rows - rows.mean(axis=0))
    return index.search(rows if queries is None else queries, n_candidates)[1]


def _search_torch(rows, n_candidates, metric, device):
    rows = torch.from_numpy(rows).to(device)
    return _find_nearest(rows, n_candidates, metric).cpu().numpy()


def _find_nearest(rows, n_candidates, metric):
    """Return the row numbers (n, n_candidates) nearest to each row, on its device."""
    if metric == "euclidean":
        # ||x - y||² without ||x||², which is the same for a whole row.
        offset, targets = -rows.square().sum(dim=1) / 2, rows.T
    else:
        offset, targets = rows.new_zeros(len(rows)), (rows - rows.mean(0)).T
    found = [
        torch.addmm(offset, block, targets).topk(n_candidates).indices
        for block in rows.split(max(1, _BLOCK // len(rows)))
    ]
    return torch.cat(found)


def _search_cells(rows, K, prepare, recall):
    """Search an inverted file, as deep as the recall takes.

    By distances in any case: between unit rows their order is that of the cosine.
    """
    index = _build_cells(rows, prepare)
    index.nprobe = 4
    queries = prepare(rows[draw_some(len(rows), _N_PROBES)])
    farthest = _find_radius(queries, rows, K + 1, prepare)
    while index.nprobe < index.nlist:
        # By distance, not by number: among rows alike any is a neighbour.
        distances = index.search(queries, K + 1)[0]
        if (distances <= farthest).mean() >= recall:
            break
        index.nprobe = min(2 * index.nprobe, index.nlist)
    neighbors = np.empty((len(rows), K), dtype=np.int64)
    for first, part in _split(rows):
        found = _search_all_found(index, prepare(part), K + 1)
        neighbors[first : first + len(part)] = _drop_self(found, K, first)
    return neighbors


def _build_cells(rows, prepare):
    import faiss

    n_cells = int(np.sqrt(len(rows)))
    index = faiss.index_factory(rows.shape[1], f"IVF{n_cells},SQfp16")
    # Few rows are no reason to complain.
    index.cp.min_points_per_centroid = 1
    index.train(prepare(rows[draw_some(len(rows), n_cells * _ROWS_PER_CELL)]))
    for _, part in _split(rows):
        index.add(prepare(part))
    return index


def _search_all_found(index, queries, n_candidates):
    """Search; where the cells hold too few rows, search all of them."""
    import faiss

    found = index.search(queries, n_candidates)[1]
    is_short = (found < 0).any(axis=1)
    if is_short.any():
        everywhere = faiss.SearchParametersIVF(nprobe=index.nlist)
        found[is_short] = index.search(
            queries[is_short], n_candidates, params=everywhere
        )[1]
    return found


def _find_radius(queries, rows, n_candidates, prepare):
    """Return the squared distance (n_queries, 1) within which the true neighbours are.

    By comparing with all rows; a hundredth more, for the rounding of the rows.
    """
    import faiss

    distances = [
        faiss.knn(queries, prepare(part), min(n_candidates, len(part)))[0]
        for _, part in _split(rows)
    ]
    nearest = np.sort(np.hstack(distances), axis=1)[:, :n_candidates]
    return 1.01 * nearest.max(axis=1, keepdims=True).clip(1e-6)


def _drop_self(candidates, K, first=0):
    """Keep K of K + 1 candidates, without the sample itself.

    The candidates are those of consecutive samples, of which `first` is the number of
    the first.

    With duplicates a sample need not be the first of its own candidates, nor among
    them at all.
    """
    is_other = candidates != first + np.arange(len(candidates))[:, None]
    is_other &= is_other.cumsum(axis=1) <= K
    return candidates[is_other].reshape(len(candidates), K).astype(np.int64)
