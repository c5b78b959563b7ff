# SPDX-License-Identifier: BSD-3-Clause
"""Nearest neighbours by products in bfloat16, on CPUs with tiles for matrices (AMX).

All distances are computed in bfloat16, which finds somewhat more candidates than are
wanted; these are compared in float32. Where rounding may have kept a neighbour from
being a candidate, the row is searched for once more in float32, so that the neighbours
are those of a search in float32.
"""

import numpy as np
import torch
from sklearn.utils import gen_batches

# Distances that are computed at a time, and of how many rows: they stay in the cache.
_BLOCK, _MOST_QUERIES = 2**24, 512
# Numbers of candidates that are gathered at a time, to be compared in float32.
_GATHERED = 2**20
# Rows that are rounded at a time.
_ROUNDED = 2**13
# Sizes of the groups among which the smallest distances are looked for.
_IN_GROUP = (128, 16, 1)
# Candidates beyond those that are wanted: at least so many, and a share.
_SPARE, _SPARE_SHARE = 11, 1 / 4
# Where the check fails for more of the first rows, which are drawn at random, bfloat16
# does not suit the data.
_MOST_UNCERTAIN = 1 / 4
# Features that a tile holds; rows are filled up to a multiple of them.
_TILE = 32
# Relative error of a number that is rounded to bfloat16, and to float32.
_BFLOAT16, _FLOAT32 = 2.0**-9, 2.0**-24


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
        ``f(rows, n_candidates, metric, queries)``: the search in float32, for the rows
        that are left.

    Returns
    -------
    nearest : ndarray of shape (n_samples, n_candidates), dtype int64
        Row numbers, nearest first.
    """
    # The user may have begun an autocast, in which products are rounded.
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        nearest, uncertain = _search_rounded(rows, n_candidates, metric)
    if len(uncertain):
        nearest[uncertain] = search(rows, n_candidates, metric, rows[uncertain])
    return nearest


def _search_rounded(rows, n_candidates, metric):
    """Return the nearest rows, and the numbers of those to search for again.

    These are all where bfloat16 does not suit the data.
    """
    space = _Space(torch.from_numpy(rows), metric, n_candidates)
    nearest = np.empty((len(rows), n_candidates), dtype=np.int64)
    order = np.random.default_rng(0).permutation(len(rows))
    uncertain = []
    for first in range(0, len(rows), space.n_queries):
        part = order[first : first + space.n_queries]
        found, is_certain = space.search(torch.from_numpy(part))
        nearest[part] = found.numpy()
        uncertain.append(part[~is_certain.numpy()])
        if first == 0 and len(uncertain[0]) > _MOST_UNCERTAIN * len(part):
            return nearest, order
    return nearest, np.concatenate(uncertain)


class _Space:
    """Rows in both types, and the memory that their search takes.

    Half of a squared distance is ``norm(x) + norm(y) - x @ y``, `norm` being half of a
    squared length. It is computed as one product, of rows with their norms as further
    features, so that only the distance is rounded to bfloat16 and not its parts. The
    norms are those of the rounded rows, so that rows near each other stay so.
    """

    def __init__(self, rows, metric, n_candidates):
        n_samples = len(rows)
        self.n_wanted = n_candidates
        spare = max(_SPARE, int(_SPARE_SHARE * n_candidates))
        self.n_compared = min(n_candidates + spare, n_samples)
        # A row of zeros has the cosine 0 with everything; the others have length one.
        is_zero = ~rows.any(dim=1) if metric == "cosine" else rows.new_zeros(n_samples)
        self.rows = rows - rows.mean(dim=0)
        self.norms = _half_squares(self.rows) + is_zero / 2
        self._round(is_zero)

        n_keys = self.keys.shape[1]
        # A power of two, as other numbers leave tiles half empty.
        self.n_queries = 2 ** int(np.log2(max(1, min(_BLOCK // n_keys, _MOST_QUERIES))))
        self._products = self.keys.new_empty(self.n_queries, n_keys)

    def _round(self, is_zero):
        """Round the rows, as the two factors of products; keep by how much."""
        n_samples, n_features = self.rows.shape
        n_keys = -(-n_samples // _IN_GROUP[0]) * _IN_GROUP[0]
        width = -(-(n_features + 6) // _TILE) * _TILE
        make = {"dtype": torch.bfloat16, "device": self.rows.device}
        self.queries = torch.zeros(n_samples, width, **make)
        self.keys = torch.zeros(width, n_keys, **make)
        self.errors = torch.empty_like(self.norms)
        for part in gen_batches(n_samples, _ROUNDED):
            exact = self.rows[part]
            rounded = exact.bfloat16()
            self.errors[part] = (exact - rounded).norm(dim=1)
            norms = _split(_half_squares(rounded.float()) + is_zero[part] / 2)
            ones = torch.ones_like(norms)
            used = slice(n_features + 6)
            self.queries[part, used] = torch.hstack([-rounded, ones, norms])
            self.keys[used, part] = torch.hstack([rounded, norms, ones]).T
        # What fills up the last group is far from everything.
        self.keys[n_features, n_samples:] = 1e30

    def search(self, part):
        """Return the nearest rows of some rows, and which searches are certain."""
        candidates, rounded = self._find_candidates(part)
        distances = self._compare(part, candidates)
        nearest, order = distances.topk(self.n_wanted, largest=False)
        is_certain = self._check(part, nearest[:, -1], rounded.amax(dim=1))
        return candidates.gather(1, order), is_certain

    def _find_candidates(self, part):
        """Return the nearest rows by rounded distances, in any order, and these."""
        products = self._products[: len(part)]
        torch.mm(self.queries[part], self.keys, out=products)
        # Positive floats have the order of their bits as integers, which are compared
        # faster. Negative ones, which are zeros but for rounding, come first.
        places, values = _find_smallest(products.view(torch.int16), self.n_compared)
        return places, values.view(torch.bfloat16).float()

    def _compare(self, part, candidates):
        """Return half of the squared distances to the candidates, in float32."""
        queries, products = self.rows[part], []
        at_a_time = max(1, _GATHERED // (self.n_compared * queries.shape[1]))
        for some, theirs in zip(
            queries.split(at_a_time), candidates.split(at_a_time), strict=True
        ):
            # Which copies rows faster than an index in brackets.
            rows = self.rows.index_select(0, theirs.flatten())
            rows = rows.unflatten(0, theirs.shape)
            products.append(torch.bmm(rows, some[:, :, None])[:, :, 0])
        norms = self.norms[part][:, None] + self.norms[candidates]
        return norms - torch.cat(products)

    def _check(self, part, last, least):
        """Say which rows can have no neighbour that is no candidate.

        Parameters
        ----------
        part : Tensor of shape (b,)
            Numbers of the rows.
        last : Tensor of shape (b,)
            Half of the squared distance to the last of the neighbours, in float32.
        least : Tensor of shape (b,)
            What the others have at least, rounded.

        Returns
        -------
        is_certain : Tensor of shape (b,), dtype bool
            Two rows that are as near as `last` are, when rounded, farther by no more
            than each has been moved; and are nearer than the others have been found.
        """
        reach = (2 * last.clamp(min=0)).sqrt()
        # Who is within reach is no longer than this, and has been moved by so much.
        longest = (2 * self.norms[part]).sqrt() + reach
        moved = self.errors[part] + (_BFLOAT16 * longest).clamp(max=self.errors.max())
        summed = 2 * len(self.keys) * _FLOAT32 * longest.square()
        least = least * (1 - 2 * _BFLOAT16) - summed
        return least >= (reach + moved).square() / 2


def _find_smallest(values, n):
    """Return the places and values of the `n` smallest of each row, in any order.

    The smallest of a row are in the groups whose smallest are smallest, so most values
    are compared with those of their group alone.
    """
    rows = torch.arange(len(values), device=values.device)[:, None]
    first, width = torch.zeros_like(rows), values.shape[1]
    for size in _IN_GROUP:
        groups = values.unflatten(1, (-1, size))
        n_groups, per_parent = groups.shape[1], width // size
        smallest = groups.amin(dim=2)
        chosen = smallest.topk(min(n, n_groups), largest=False, sorted=False).indices
        first = first.gather(1, chosen // per_parent) + size * (chosen % per_parent)
        places = (chosen + n_groups * rows).flatten()
        members = values.reshape(-1, size).index_select(0, places)
        values = members.view(len(values), -1)
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
