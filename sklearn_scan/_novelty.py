# SPDX-License-Identifier: BSD-3-Clause
"""Whether a sample is like anything that was fitted, by its nearest neighbours there.

A classifier is sure of many things that it has never seen; the distance to what it has
seen tells them apart better. Distances mean different things in different places. The
local outlier factor (Breunig et al., "LOF: Identifying density-based local outliers",
SIGMOD 2000) divides them by what is usual among the neighbours. That makes too much of
groups that are dense by chance: here they are divided by the geometric mean of what is
usual there and what is usual everywhere (see `benchmarks/novelty.py`).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sklearn_scan.neighbors import draw_some

# Neighbours that a sample is compared with.
_K = 5
# A distance below it is a rounding error, and so is one below this share of the usual
# distance: images may be embedded in bfloat16.
_LEAST_SCALE, _LEAST_SHARE = 1e-6, 0.05
# Samples among which they are looked for.
_MOST_ROWS = 20_000


@dataclass(frozen=True, eq=False)
class KnownSamples:
    """What new samples are compared with.

    Attributes
    ----------
    search : NearestNeighbors or None
        Finds the neighbours of rows; None where there is one sample, and nothing to
        compare.
    metric : {"cosine", "euclidean"}
        In which rows are compared.
    scale : ndarray of shape (n_rows,)
        Of each row, what distances to it are divided by.
    scores : ndarray of shape (n_rows,)
        The novelty of each row, as if it were not among them.
    """

    search: Any
    metric: str
    scale: np.ndarray
    scores: np.ndarray

    @classmethod
    def learn(cls, rows, metric):
        """Compare rows (n_rows, n_features) with each other."""
        # Here, as below, because these imports take a while, and few ask for novelty.
        from sklearn.neighbors import NearestNeighbors

        rows = _scale(rows[draw_some(len(rows), _MOST_ROWS)], metric)
        if len(rows) < 2:
            return cls(None, metric, np.zeros(1), np.zeros(1))
        n_neighbors = min(_K, len(rows) - 1)
        search = NearestNeighbors(n_neighbors=n_neighbors, algorithm="brute").fit(rows)
        distances, neighbors = search.kneighbors()
        reach = distances.mean(axis=1)
        # Of duplicates nothing is usual.
        usual = np.median(reach)
        least = max(_LEAST_SCALE, _LEAST_SHARE * usual)
        scale = np.sqrt(reach * usual).clip(min=least)
        return cls(search, metric, scale, reach / scale[neighbors].mean(axis=1))

    def score(self, rows):
        """Return the novelty (n_samples,) of rows that are not among them."""
        if self.search is None:
            return np.zeros(len(rows))
        distances, neighbors = self.search.kneighbors(_scale(rows, self.metric))
        return distances.mean(axis=1) / self.scale[neighbors].mean(axis=1)

    def find_limit(self, rate):
        """Return the novelty that this share of known samples exceeds."""
        return np.quantile(self.scores, 1 - rate)


def _scale(rows, metric):
    from sklearn.preprocessing import normalize

    return normalize(rows) if metric == "cosine" else rows
