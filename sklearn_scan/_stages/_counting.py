# SPDX-License-Identifier: BSD-3-Clause
"""How many clusters an embedding has, without labels, and how doubtful that is.

*Silhouette* (Rousseeuw, 1987): how much nearer samples are to their own cluster than to
the next. Between numbers of which each splits what is apart, it hardly differs; so the
smallest number counts whose silhouette is nearly the largest. It says nothing where
clusters do not stand out in distances, as in features of a thousand dimensions. There
*modularity* (Newman and Girvan, 2004) takes its place: how many more of the neighbours,
weighted by how many neighbours they have in common, are of one cluster than would be by
chance. It needs no distances, and prefers many small clusters where the embedding is
smooth.

That is the estimate. Two other criteria say when to doubt it:

*Prediction strength* (Tibshirani and Walther, 2005): whether samples that are together
in a partition of all are together in a partition of fewer as well. The largest number
counts that is stable in this way. It errs towards few.

*Silhouette of k-means* alone: the largest, as in textbooks. It errs towards many.

Where the three agree, the first is right more often. Their median is right no more
often than the first alone. `benchmarks/n_clusters.py` compares it with each, and with
other routes.
"""

from dataclasses import dataclass

import joblib
import numpy as np

from sklearn_scan._stages._trials import list_numbers, try_numbers
from sklearn_scan._typing import Labels

# The least silhouette that says something, and the share of the largest by which others
# may be smaller. Below 0.25, Kaufman and Rousseeuw ("Finding groups in data", 1990) see
# no substantial structure; in many dimensions all silhouettes are small.
_TELLING, _NEARLY = 0.1, 0.04
# Tibshirani and Walther: 0.8 to 0.9 for clusters that are well separated.
_STABLE = 0.8
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
    silhouettes : ndarray of shape (n_resamples, n_numbers)
        For each part of the samples and each number, the mean of the silhouettes of two
        partitions, one by k-means and one of the graph of neighbours.
    modularities, strengths : ndarray of shape (n_resamples, n_numbers)
        The modularity and the prediction strength of that of the graph.
    kmeans_silhouettes : ndarray of shape (n_resamples, n_numbers)
        The silhouette of that by k-means.

    Attributes
    ----------
    n_clusters : int
        The estimate: the first of the votes.
    votes : dict of int
        What each of three criteria says: "silhouette", or "modularity" where no
        silhouette reaches 0.1; "prediction strength"; and "k-means silhouette".
    criterion : str
        The first of these, which decides: "silhouette" or "modularity".
    scores : ndarray of shape (n_numbers,)
        The mean of this criterion over the parts.
    deviations : ndarray of shape (n_numbers,)
        Its standard deviation over the parts.
    interval : tuple of int
        The smallest and the largest of the votes, and of the medians in single parts.
    runner_up : int or None
        The number that is voted for most often, by any criterion in any part, among
        those that differ from the estimate by more than one; None if there is none.
    is_doubtful : bool
        Whether the interval reaches farther than 2, and than half of the estimate,
        from the estimate; or no number has a prediction strength above 0.8.

    See Also
    --------
    sklearn_scan.model_selection.estimate_n_clusters : Make one.
    sklearn_scan.inspection.NumberOfClustersDisplay : Draw it.
    """

    numbers: Labels
    silhouettes: np.ndarray
    modularities: np.ndarray
    strengths: np.ndarray
    kmeans_silhouettes: np.ndarray

    @property
    def n_clusters(self) -> int:
        """The estimate."""
        return self.votes[self.criterion]

    @property
    def votes(self) -> dict[str, int]:
        """What each criterion says, on average over the parts."""
        return self._vote({k: c.mean(axis=0) for k, c in self._curves.items()})

    @property
    def criterion(self) -> str:
        """The criterion that decided."""
        return next(iter(self._curves))

    @property
    def scores(self) -> np.ndarray:
        """The means of the criterion."""
        return self._curves[self.criterion].mean(axis=0)

    @property
    def deviations(self) -> np.ndarray:
        """The standard deviations of the criterion."""
        return self._curves[self.criterion].std(axis=0)

    @property
    def interval(self) -> tuple[int, int]:
        """The smallest and the largest number that may be meant."""
        medians = [_median(votes) for votes in self._list_votes()]
        found = [*self.votes.values(), *medians]
        return min(found), max(found)

    @property
    def runner_up(self) -> int | None:
        """The other number that is voted for most often."""
        found = np.array([list(votes.values()) for votes in self._list_votes()])
        is_other = np.abs(found - self.n_clusters) > 1
        others, counts = np.unique(found[is_other], return_counts=True)
        return int(others[counts.argmax()]) if len(others) else None

    @property
    def is_doubtful(self) -> bool:
        """Whether other numbers are found that differ much, or nothing is stable."""
        low, high = self.interval
        farthest = max(high - self.n_clusters, self.n_clusters - low)
        is_far = farthest > max(_DOUBTFUL, _DOUBTFUL_SHARE * self.n_clusters)
        return is_far or not self._is_stable

    def explain_doubt(self) -> str | None:
        """Say what to do where the estimate is doubtful; None where it is not."""
        if not self.is_doubtful:
            return None
        low, high = self.interval
        votes = ", ".join(f"{number} by {name}" for name, number in self.votes.items())
        return (
            f"The number of clusters is doubtful: it is {votes}, and with parts of "
            f"the samples {low} to {high}. "
            + ("" if self._is_stable else "No number gives clusters that are stable. ")
            + "Look at clusters of several numbers, or begin with "
            f"n_clusters={high} and merge (sklearn_scan.merge_tree)."
        )

    def list_records(self) -> list[dict[str, float]]:
        """Return a record per number: what the criteria say, on average over parts."""
        means = {
            "silhouette": self.silhouettes.mean(axis=0),
            "modularity": self.modularities.mean(axis=0),
            "prediction_strength": self.strengths.mean(axis=0),
            "kmeans_silhouette": self.kmeans_silhouettes.mean(axis=0),
        }
        return [
            {"n_clusters": number} | {name: float(c[k]) for name, c in means.items()}
            for k, number in enumerate(self.numbers.tolist())
        ]

    @property
    def _is_stable(self):
        return bool(self.strengths.mean(axis=0).max() > _STABLE)

    @property
    def _curves(self):
        """Return what the three criteria measured, by name."""
        if self.silhouettes.mean(axis=0).max() >= _TELLING:
            first = {"silhouette": self.silhouettes}
        else:
            first = {"modularity": self.modularities}
        return first | {
            "prediction strength": self.strengths,
            "k-means silhouette": self.kmeans_silhouettes,
        }

    def _list_votes(self):
        """Return the votes in each part."""
        parts = range(len(self.silhouettes))
        return [self._vote({k: c[i] for k, c in self._curves.items()}) for i in parts]

    def _vote(self, curves):
        return {
            name: int(self.numbers[_RULES[name](curve)])
            for name, curve in curves.items()
        }


def _find_first(scores):
    """Return the first position at which scores are nearly the largest."""
    return np.argmax(scores >= scores.max() - _NEARLY * abs(scores.max()))


def _find_last(strengths):
    """Return the last position at which partitions are stable, or the first of all."""
    return np.flatnonzero(strengths > _STABLE).max(initial=0)


# The position that each criterion takes, of its curve.
_RULES = {
    "silhouette": _find_first,
    "modularity": np.argmax,
    "prediction strength": _find_last,
    "k-means silhouette": np.argmax,
}


def _median(votes):
    return sorted(votes.values())[len(votes) // 2]


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
        curves = context.cache.fetch(
            try_numbers,
            rows,
            metric,
            numbers,
            N_PARTS,
            MOST_SAMPLES,
            context.seeds["counting"],
            lock=lambda: f"counting-{joblib.hash(rows)}",
        )
        estimate = NumberOfClusters(numbers, **curves)
        line.advance(N_PARTS, figures=f"{estimate.n_clusters} clusters")
    return estimate
