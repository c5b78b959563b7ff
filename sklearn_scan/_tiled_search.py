# SPDX-License-Identifier: BSD-3-Clause
"""Exact nearest neighbours by products in bfloat16, on CPUs with tiles for matrices.

All distances are computed in bfloat16, which finds somewhat more candidates than are
wanted; those are compared in float32. What the rounding may have hidden is bounded by
what it did to the candidates: rows with too little room between the last neighbour and
the last candidate are searched for once more in float32.
"""

import numpy as np
import torch

# Distances that are computed at a time, and of how many rows: they stay in the cache.
_BLOCK, _MOST_QUERIES = 2**24, 512
# Numbers of candidates that are gathered at a time, to be compared in float32.
_GATHERED = 2**20
# Sizes of the groups among which the smallest distances are looked for.
_IN_GROUP = (64, 8, 1)
# Candidates beyond those that are wanted: so many, and a share.
_SPARE, _SPARE_SHARE = 11, 1 / 4
# Rounding among the candidates, times this, is what it may have done elsewhere.
_CAUTION = 2
# Where it hides more of the first rows than this, bfloat16 is not fit for the data.
_MOST_HIDDEN = 1 / 4
# Features that a tile holds; to a multiple of them rows are filled up.
_TILE = 32


def search_tiled(rows, n_candidates, metric, search):
    """Return the nearest rows of every row, itself among them.

    Parameters
    ----------
    rows : ndarray of shape (n_samples, n_features), dtype float32
        Of unit length or zero for "cosine"; centred for "euclidean".
    n_candidates : int
        How many are wanted of each.
    metric : {"cosine", "euclidean"}
        What near means.
    search : callable
        ``f(rows, n_candidates, metric, queries)``: the search in float32, for what is
        left.

    Returns
    -------
    nearest : ndarray of shape (n_samples, n_candidates), dtype int64
        Row numbers, nearest first.
    """
    space = _Space(torch.from_numpy(rows), metric, n_candidates)
    nearest = np.empty((len(rows), n_candidates), dtype=np.int64)
    hidden = []
    for first in range(0, len(rows), space.n_queries):
        part = slice(first, min(first + space.n_queries, len(rows)))
        found, is_certain = space.search(part)
        nearest[part] = found.numpy()
        hidden.append(first + np.flatnonzero(~is_certain.numpy()))
        if first == 0 and len(hidden[0]) > _MOST_HIDDEN * len(found):
            return search(rows, n_candidates, metric, rows)
    again = np.concatenate(hidden)
    if len(again):
        nearest[again] = search(rows, n_candidates, metric, rows[again])
    return nearest


class _Space:
    """Rows in both types, and the memory that their search takes.

    Half of a squared distance is ``norm(x) + norm(y) - x @ y``. It is computed as one
    product, of rows with their norms as further features, so that only the distance is
    rounded to bfloat16 and not its parts. The norms are those of the rounded rows, as
    then the distance of rows that are near each other is hardly changed.
    """

    def __init__(self, rows, metric, n_candidates):
        n_samples, n_features = rows.shape
        self.rows = rows - rows.mean(dim=0)
        # A row of zeros has the cosine 0 with everything; the others are of length one.
        is_zero = ~rows.any(dim=1) if metric == "cosine" else rows.new_zeros(len(rows))
        self.norms = _half_squares(self.rows) + is_zero / 2
        self.n_wanted = n_candidates
        spare = max(_SPARE, int(_SPARE_SHARE * n_candidates))
        self.n_compared = min(n_candidates + spare, n_samples)

        rounded = self.rows.bfloat16()
        norms = _split(_half_squares(rounded.float()) + is_zero / 2)
        ones = torch.ones_like(norms)
        n_filled = -(-n_samples // _IN_GROUP[0]) * _IN_GROUP[0]
        width = -(-(n_features + 6) // _TILE) * _TILE
        self.queries = torch.zeros(n_samples, width, dtype=torch.bfloat16)
        self.queries[:, : n_features + 6] = torch.hstack([-rounded, ones, norms])
        keys = torch.zeros(n_filled, width, dtype=torch.bfloat16)
        keys[:n_samples, : n_features + 6] = torch.hstack([rounded, norms, ones])
        # What fills up the last group is far from everything.
        keys[n_samples:, n_features] = 1e30
        self.keys = keys.T.contiguous()

        # A power of two, as other numbers leave tiles half empty.
        most = max(1, min(_BLOCK // n_filled, _MOST_QUERIES))
        self.n_queries = 2 ** int(np.log2(most))
        self._products = torch.empty(self.n_queries, len(keys), dtype=torch.bfloat16)

    def search(self, part):
        """Return the nearest rows of some rows, and which of these are certain."""
        candidates, rounded = self._find_candidates(part)
        distances = self._compare(part, candidates)
        nearest, order = distances.topk(self.n_wanted, largest=False)
        error = (rounded - distances).abs().amax(dim=1)
        room = rounded.amax(dim=1) - nearest[:, -1]
        return candidates.gather(1, order), room >= _CAUTION * error

    def _find_candidates(self, part):
        """Return the nearest rows by rounded distances, in any order, and these."""
        queries = self.queries[part]
        products = self._products[: len(queries)]
        torch.mm(queries, self.keys, out=products)
        # Positive floats have the order of their bits as integers, which are compared
        # faster; what is negative by rounding comes first, as it should.
        order, values = _find_smallest(products.view(torch.int16), self.n_compared)
        return order, values.view(torch.bfloat16).float()

    def _compare(self, part, candidates):
        """Return half of the squared distances to the candidates, in float32."""
        queries, products = self.rows[part], []
        at_a_time = max(1, _GATHERED // (self.n_compared * queries.shape[1]))
        for some, theirs in zip(
            queries.split(at_a_time), candidates.split(at_a_time), strict=True
        ):
            # One number after the other: so rows are copied fastest.
            rows = self.rows[theirs.flatten()].unflatten(0, theirs.shape)
            products.append(torch.bmm(rows, some[:, :, None])[:, :, 0])
        norms = self.norms[part][:, None] + self.norms[candidates]
        return norms - torch.cat(products)


def _find_smallest(values, n):
    """Return the places and values of the `n` smallest of each row, in any order.

    The smallest of a row are in the groups whose smallest are smallest, so most values
    are compared with those of their group alone.
    """
    first = torch.zeros(len(values), 1, dtype=torch.int64)
    width = values.shape[1]
    rows = torch.arange(len(values))[:, None]
    for size in _IN_GROUP:
        groups = values.unflatten(1, (-1, size))
        n_groups, per_parent = groups.shape[1], width // size
        chosen = groups.amin(dim=2).topk(min(n, n_groups), largest=False, sorted=False)
        chosen = chosen.indices
        first = first.gather(1, chosen // per_parent) + size * (chosen % per_parent)
        places = (chosen + n_groups * rows).flatten()
        values = values.reshape(-1, size)[places].view(len(values), -1)
        width = size
    return first, values


def _half_squares(rows):
    return rows.square().sum(dim=1) / 2


def _split(values):
    """Return floats as three columns of bfloat16 that add up to them."""
    columns = []
    for _ in range(3):
        columns.append(values.bfloat16())
        values = values - columns[-1]
    return torch.stack(columns, dim=1)
