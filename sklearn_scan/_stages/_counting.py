# SPDX-License-Identifier: BSD-3-Clause
"""How many clusters an embedding has, without labels.

Parts of the rows are partitioned into every number of clusters, by k-means and in the
graph of neighbours, and two criteria say how well each number suits.

*Silhouette* (Rousseeuw, 1987): how much nearer samples are to their own cluster than to
the next. Between numbers of which each splits what is apart, it hardly differs; so the
smallest number counts whose silhouette is nearly the largest. It says nothing where
clusters do not stand out in distances, as in features of a thousand dimensions.

*Modularity* (Newman and Girvan, 2004): how many more of the neighbours, weighted by how
many neighbours they have in common, are of one cluster than would be by chance. It
prefers many small clusters where the embedding is smooth, and needs no distances: it
decides where silhouettes are too small to say anything.

`benchmarks/n_clusters.py` compares this with stability under resampling, with eigengaps
and with merging. They are right less often on the sets on which the rule was made; on
those that had no part in it, stability and merging are right more often.
"""

from dataclasses import dataclass
from typing import Literal

import joblib
import numpy as np
import torch
from scipy.sparse import csr_array, diags_array

from sklearn_scan._stages._partitions import find_eigenvectors, run_kmeans, unit_rows
from sklearn_scan._typing import Labels
from sklearn_scan.neighbors import mine_neighbors

# Numbers that are tried by default: all up to the first, then steps of a tenth; and at
# least so many samples for each cluster.
_MOST_SINGLE, _STEP, _MOST, _LEAST_MEMBERS = 16, 1.1, 40, 10
_LEAST_SAMPLES = 10
# Neighbours in the graph, and at most this share of the rows.
_K, _K_SHARE = 20, 0.05
# Share of the rows in a part of few, and principal components that k-means sees.
_PART, _N_COMPONENTS = 0.8, 50
# The least silhouette that says something, and the share of the largest by which others
# may be smaller. Below 0.25, Kaufman and Rousseeuw ("Finding groups in data", 1990) see
# no substantial structure; in many dimensions all silhouettes are small.
_TELLING, _NEARLY = 0.1, 0.04
# The same share for modularities, where the two criteria are compared.
_NEARLY_MODULAR = 0.02
# Starts of k-means.
_N_INIT = 2
# Parts of the samples, and samples in each, by default.
N_PARTS, MOST_SAMPLES = 5, 1500
# An estimate is doubtful if others differ from it by more than so many, and more than
# such a share.
_DOUBTFUL, _DOUBTFUL_SHARE = 2, 0.5


@dataclass(frozen=True, eq=False)
class NumberOfClusters:
    """An estimate of the number of clusters, and what speaks for it.

    Parameters
    ----------
    numbers : ndarray of shape (n_numbers,), dtype int64
        The numbers of clusters that were tried, increasing.
    silhouettes, modularities : ndarray of shape (n_resamples, n_numbers)
        What each criterion says of each number, in each part of the samples.

    Attributes
    ----------
    n_clusters : int
        The estimate.
    criterion : {"silhouette", "modularity"}
        The one that decided: the silhouette where it says something, above 0.1.
    scores : ndarray of shape (n_numbers,)
        The mean of this criterion over the parts.
    deviations : ndarray of shape (n_numbers,)
        Its standard deviation over the parts.
    interval : tuple of int
        The smallest and the largest number that are nearly as good, or that either
        criterion finds in any part.
    runner_up : int or None
        The number that is found most often, in other parts or by the other criterion,
        among those that differ from the estimate by more than one; None if there is
        none.
    is_doubtful : bool
        Whether the interval reaches farther than 2, and than half of the estimate,
        from the estimate.

    See Also
    --------
    sklearn_scan.model_selection.estimate_n_clusters : Make one.
    sklearn_scan.inspection.NumberOfClustersDisplay : Draw it.
    """

    numbers: Labels
    silhouettes: np.ndarray
    modularities: np.ndarray

    @property
    def n_clusters(self) -> int:
        """The estimate."""
        return self._choose(self.scores)

    @property
    def criterion(self) -> Literal["silhouette", "modularity"]:
        """The criterion that decided."""
        is_telling = self.silhouettes.mean(axis=0).max() >= _TELLING
        return "silhouette" if is_telling else "modularity"

    @property
    def scores(self) -> np.ndarray:
        """The means of the criterion."""
        return self._deciding.mean(axis=0)

    @property
    def deviations(self) -> np.ndarray:
        """The standard deviations of the criterion."""
        return self._deciding.std(axis=0)

    @property
    def interval(self) -> tuple[int, int]:
        """The smallest and the largest number that may be meant."""
        nearly = self.numbers[_is_nearly_best(self.scores, _NEARLY)].tolist()
        found = [self.n_clusters, *nearly, *self._find_in_parts()]
        return min(found), max(found)

    @property
    def runner_up(self) -> int | None:
        """The number that was found second most often."""
        found = np.array(self._find_in_parts())
        others, counts = np.unique(
            found[np.abs(found - self.n_clusters) > 1], return_counts=True
        )
        return int(others[counts.argmax()]) if len(others) else None

    @property
    def is_doubtful(self) -> bool:
        """Whether other numbers are found that differ much."""
        low, high = self.interval
        farthest = max(high - self.n_clusters, self.n_clusters - low)
        return farthest > max(_DOUBTFUL, _DOUBTFUL_SHARE * self.n_clusters)

    def explain_doubt(self) -> str | None:
        """Say what to do where the estimate is doubtful; None where it is not."""
        if not self.is_doubtful:
            return None
        low, high = self.interval
        return (
            f"The number of clusters is doubtful: {self.n_clusters} is estimated, and "
            f"{low} to {high} are nearly as good, or are what parts of the samples or "
            "another criterion say. Look at "
            f"clusters of several numbers, or begin with n_clusters={high} and merge "
            "(sklearn_scan.merge_tree)."
        )

    def list_records(self) -> list[dict[str, float]]:
        """Return a record per number: what both criteria say, on average over parts."""
        columns = self.silhouettes.mean(axis=0), self.modularities.mean(axis=0)
        return [
            {"n_clusters": number, "silhouette": silhouette, "modularity": modularity}
            for number, silhouette, modularity in zip(
                self.numbers.tolist(), *(c.tolist() for c in columns), strict=True
            )
        ]

    @property
    def _deciding(self):
        is_silhouette = self.criterion == "silhouette"
        return self.silhouettes if is_silhouette else self.modularities

    def _choose(self, scores):
        is_silhouette = self.criterion == "silhouette"
        return find_first(self.numbers, scores, _NEARLY if is_silhouette else 0)

    def _find_in_parts(self):
        """Return the numbers that parts and criteria give."""
        found = [self._choose(scores) for scores in self._deciding]
        if self.criterion == "silhouette":
            others, share = self.modularities, _NEARLY_MODULAR
        else:
            others, share = self.silhouettes, _NEARLY
        return found + [find_first(self.numbers, scores, share) for scores in others]


def find_first(numbers, scores, share):
    """Return the smallest number whose score is nearly the largest."""
    return int(numbers[np.argmax(_is_nearly_best(scores, share))])


def _is_nearly_best(scores, share):
    return scores >= scores.max() - share * abs(scores.max())


def count_clusters(rows, metric, context):
    """Estimate how many clusters an embedding has, or fetch it from the cache.

    Parameters
    ----------
    rows : ndarray of shape (n_samples, n_features)
        What distances are taken in.
    metric : str
        See `mine_neighbors`.
    context : FitContext
        Has the cache and the seed.

    Returns
    -------
    estimate : NumberOfClusters
    """
    numbers = list_numbers(len(rows))
    with context.progress.console.line("counting", N_PARTS, "part") as line:
        measured = context.cache.fetch(
            try_numbers,
            rows,
            metric,
            numbers,
            N_PARTS,
            MOST_SAMPLES,
            context.seeds["counting"],
            lock=lambda: f"counting-{joblib.hash(rows)}",
        )
        estimate = NumberOfClusters(numbers, *measured)
        line.advance(N_PARTS, figures=f"{estimate.n_clusters} clusters")
    return estimate


def list_numbers(n_samples):
    """Return the numbers of clusters that are tried for so many samples."""
    most = int(np.clip(n_samples * _PART / _LEAST_MEMBERS, 3, _MOST))
    numbers = list(range(2, _MOST_SINGLE + 1))
    while numbers[-1] < _MOST:
        numbers.append(int(numbers[-1] * _STEP))
    return np.array([k for k in numbers if k <= most])


def check_countable(n_samples, numbers):
    """Refuse too few samples for the numbers of clusters that are to be tried."""
    n_drawn = int(n_samples * _PART)
    if n_samples < _LEAST_SAMPLES or n_drawn <= numbers.max():
        raise ValueError(
            f"n_samples={n_samples} are too few to tell how many clusters there are "
            f"among {numbers.min()} to {numbers.max()}: parts of {_PART:.0%} of them "
            f"are looked at, and at least {_LEAST_SAMPLES} are needed. Give n_clusters."
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
    silhouettes, modularities : ndarray of shape (n_parts, n_numbers)
    """
    random = np.random.default_rng(seed)
    n_drawn = min(most_samples, int(len(rows) * _PART))
    measured = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for _ in range(n_parts):
            part = np.sort(random.choice(len(rows), n_drawn, replace=False))
            measured.append(_try_part(rows[part], metric, numbers, random))
    silhouettes, modularities = zip(*measured, strict=True)
    return np.array(silhouettes), np.array(modularities)


def _try_part(rows, metric, numbers, random):
    """Return silhouettes and modularities (n_numbers,) of some rows."""
    K = min(_K, max(3, int(_K_SHARE * len(rows))), len(rows) - 1)
    graph = weigh_graph(mine_neighbors(rows, K, metric=metric))
    leading = find_eigenvectors(graph, int(numbers.max()))
    points = unit_rows(rows) if metric == "cosine" else rows
    distances = _measure_distances(points)
    narrow = _project(points)
    silhouettes, modularities = [], []
    for number in numbers.tolist():
        seed = int(random.integers(2**31 - 1))
        of_graph = run_kmeans(unit_rows(leading[:, -number:]), number, _N_INIT, seed)
        of_rows = run_kmeans(narrow, number, _N_INIT, seed)
        pair = [_silhouette(distances, labels) for labels in (of_graph, of_rows)]
        silhouettes.append(np.mean(pair))
        modularities.append(measure_modularity(graph, of_graph))
    return silhouettes, modularities


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
