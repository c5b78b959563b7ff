# SPDX-License-Identifier: BSD-3-Clause
"""Candidates judged together: every partition in every embedding.

A criterion gives each candidate a value for each sample, so that scores of parts of the
samples, and of bootstrap samples, are means of what is computed once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.stats import rankdata
from sklearn.metrics import pairwise_distances, silhouette_samples

from sklearn_scan import _criteria
from sklearn_scan._typing import Labels
from sklearn_scan.model_selection._reading import find_neighbors

_N_PARTS, _N_BOOTSTRAPS, _SEED = 5, 1000, 0


@dataclass(frozen=True)
class Ranking:
    """Candidates with their pooled scores, and the doubt about them.

    Attributes
    ----------
    scores : ndarray of shape (n_candidates,)
        Higher is better; NaN for a candidate that could not be fitted. Each criterion
        is standardised over the candidates, and the score is the mean over criteria: 0
        is like the mean of all candidates, and 1 is one standard deviation better. They
        compare the candidates of one ranking alone.
    errors : ndarray of shape (n_candidates,)
        The standard error, over samples, of the difference to the best candidate; 0 for
        the best itself.
    p_best : ndarray of shape (n_candidates,)
        The share of bootstrap samples in which a candidate has the highest score; those
        that give the same clusters share it.
    part_scores : ndarray of shape (n_candidates, n_parts)
        The scores in random parts of the samples.
    criteria : dict of str to ndarray of shape (n_candidates,)
        Every criterion in its own unit, averaged over samples and embeddings.

    Examples
    --------
    >>> from sklearn.cluster import KMeans
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn_scan.model_selection import select
    >>> X, _ = make_blobs(150, centers=3, cluster_std=0.5, random_state=0)
    >>> candidates = [KMeans(3, n_init=1, max_iter=m, random_state=1) for m in (1, 50)]
    >>> ranking = select([candidate.fit(X) for candidate in candidates], X)
    >>> ranking.scores.shape, float(ranking.p_best.sum())
    ((2,), 1.0)
    """

    scores: np.ndarray
    errors: np.ndarray
    p_best: np.ndarray
    part_scores: np.ndarray
    criteria: dict[str, np.ndarray]

    @property
    def ranks(self) -> np.ndarray:
        """The rank of each candidate, from 1; equal scores share one."""
        scores = np.where(np.isnan(self.scores), -np.inf, self.scores)
        return rankdata(-scores, method="min").astype(np.int32)

    @property
    def order(self) -> Labels:
        """The numbers of the candidates, the best first; of equal ones, the first."""
        return np.argsort(self.ranks, kind="stable")

    @property
    def best_index(self) -> int:
        """The number of the best candidate; of equal ones, of the first."""
        return int(self.order[0])

    def insert_failed(self, is_fitted: np.ndarray) -> "Ranking":
        """Return a ranking in which candidates that were not fitted have NaN.

        Parameters
        ----------
        is_fitted : ndarray of shape (n_candidates,), dtype bool
            Which of all candidates those of this ranking are.
        """

        def spread(values, missing=np.nan):
            found = np.full((len(is_fitted), *values.shape[1:]), missing)
            found[is_fitted] = values
            return found

        return Ranking(
            spread(self.scores),
            spread(self.errors),
            spread(self.p_best, 0.0),
            spread(self.part_scores),
            {name: spread(values) for name, values in self.criteria.items()},
        )


def rank(
    partitions: Sequence[Labels], spaces: Sequence[np.ndarray], names: Sequence[str]
) -> Ranking:
    """Rank partitions of the same samples.

    Parameters
    ----------
    partitions : sequence of ndarray of shape (n_samples,)
        Clusters, as numbers from 0, of each candidate.
    spaces : sequence of ndarray of shape (n_samples, n_features)
        Embeddings of the samples.
    names : sequence of str
        Criteria, which count alike.

    Returns
    -------
    ranking : Ranking
    """
    seen = Spaces(spaces)
    measured = {name: CRITERIA[name](partitions, seen) for name in names}
    values = np.mean([_standardize(found) for found in measured.values()], axis=0)
    scores = values.mean(axis=1)
    # Rounded, so that candidates with the same clusters are equal.
    scores = scores.round(9)
    differences = values - values[scores.argmax()]
    n_samples = values.shape[1]
    parts = np.array_split(
        np.random.RandomState(_SEED).permutation(n_samples), _N_PARTS
    )
    return Ranking(
        scores,
        differences.std(axis=1) / np.sqrt(n_samples),
        _bootstrap(values),
        np.stack([values[:, part].mean(axis=1) for part in parts], axis=1),
        {name: found.mean(axis=1) for name, found in measured.items()},
    )


def _standardize(values):
    """Let the means of candidates have mean 0 and standard deviation 1."""
    means = values.mean(axis=1)
    return (values - means.mean()) / (means.std() if means.std() > 1e-12 else 1)


def _bootstrap(values):
    """Return how often each candidate is the best of a bootstrap sample."""
    n_candidates, n_samples = values.shape
    random_state = np.random.RandomState(_SEED)
    shares = np.full(n_samples, 1 / n_samples)
    won = np.zeros(n_candidates)
    for _ in range(_N_BOOTSTRAPS):
        scores = values @ random_state.multinomial(n_samples, shares)
        is_best = scores >= scores.max() - 1e-6 * n_samples
        won[is_best] += 1 / is_best.sum()
    return won / _N_BOOTSTRAPS


# --- criteria: a value per candidate and sample ------------------------------------


@dataclass(frozen=True, eq=False)
class Spaces:
    """Embeddings of the same samples.

    Attributes
    ----------
    embeddings : sequence of ndarray of shape (n_samples, n_features)
        The embeddings.
    """

    embeddings: Sequence[np.ndarray]

    @cached_property
    def neighbors(self):
        """The neighbours in each embedding, side by side."""
        return np.hstack([find_neighbors(rows) for rows in self.embeddings])


def measure_information(partitions, spaces):
    """Measure what the cluster of a sample says of its neighbours' clusters.

    Of the neighbours of all embeddings. The values of the samples average to their
    mutual information, in nats.
    """
    return np.array(
        [_criteria.pointwise_information(each, spaces.neighbors) for each in partitions]
    )


def measure_modularity(partitions, spaces):
    """Measure how much more often neighbours are in one cluster than any two samples.

    Of the neighbours of all embeddings.
    """
    return np.array(
        [_criteria.pointwise_modularity(each, spaces.neighbors) for each in partitions]
    )


def measure_consistency(partitions, spaces):
    """Measure the share of neighbours in one cluster, above chance."""
    found = []
    for labels in partitions:
        agreement = _criteria.find_agreement(labels, spaces.neighbors)
        expected = _criteria.expect_agreement(labels)
        rest = 1 - expected
        found.append((agreement - expected) / rest if rest > 0 else 0 * agreement)
    return np.array(found)


def measure_silhouette(partitions, spaces):
    """Measure silhouettes, averaged over embeddings; -1 for a single cluster."""
    found = [_find_silhouettes(partitions, rows) for rows in spaces.embeddings]
    return np.mean(found, axis=0)


def _find_silhouettes(partitions, rows):
    distances = pairwise_distances(rows)
    np.fill_diagonal(distances, 0)
    lowest = np.full(len(rows), -1.0)
    return [
        silhouette_samples(distances, labels, metric="precomputed")
        if 1 < len(np.unique(labels)) < len(labels)
        else lowest
        for labels in partitions
    ]


def measure_resemblance(partitions, spaces):
    """Measure how alike a partition is to those of the other candidates.

    For each sample the Jaccard similarity of its cluster with its cluster in another
    partition, averaged over all others. The embeddings are not looked at.
    """
    n_others = len(partitions) - 1
    found = np.zeros((len(partitions), len(partitions[0])))
    for i, labels in enumerate(partitions):
        for j in range(i):
            alike = _criteria.compare_parts(labels, partitions[j])
            alike = alike[labels, partitions[j]]
            found[i] += alike / n_others
            found[j] += alike / n_others
    return found


CRITERIA = {
    "modularity": measure_modularity,
    "information": measure_information,
    "consistency": measure_consistency,
    "silhouette": measure_silhouette,
    "resemblance": measure_resemblance,
}
