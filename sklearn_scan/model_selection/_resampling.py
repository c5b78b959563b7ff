# SPDX-License-Identifier: BSD-3-Clause
"""Clusterings that are made anew, to see whether they come out the same."""

import warnings

import numpy as np
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score
from sklearn.utils import _safe_indexing

from sklearn_scan._config import TrainingConfig
from sklearn_scan._scan import SCANClustering
from sklearn_scan.model_selection._reading import (
    draw,
    find_last_step,
    read_embedding,
    read_labels,
)

# Heads begin at partitions, so that a short training of a few finds nearly what the
# full one does; see `sklearn_scan.inspection.cluster_stability`.
_N_STEPS, _N_ROUNDS, _SEED = 100, 5, 0


def make_quick_clusterer(estimator, n_clusters, n_samples, n_heads, seed):
    """Return a clusterer of rows with the settings of another one, and few steps."""
    n_steps_per_epoch = -(-n_samples // estimator.batch_size)
    return SCANClustering(
        n_clusters,
        K=estimator.K,
        entropy_weight=estimator.entropy_weight,
        n_heads=n_heads,
        head_search=TrainingConfig(epochs=-(-_N_STEPS // n_steps_per_epoch)),
        batch_size=estimator.batch_size,
        device=estimator.device,
        random_state=seed,
    )


def compare_with_heads(estimator, X, scorer, n_heads, share):
    """Return the mean agreement of an estimator with heads that are searched anew.

    They are searched on its embedding of `X`, or on parts of it, drawn without
    replacement, and then answer for all.

    Parameters
    ----------
    estimator : SCANClustering, or a pipeline that ends with one
        Fitted.
    X : array-like
        Samples.
    scorer : str
        Who asks.
    n_heads : int
        Of which the best answers.
    share : float
        Of the samples that are in a part.

    Returns
    -------
    agreement : float
        The adjusted Rand index.
    """
    labels = read_labels(estimator, X, scorer)
    kept = draw(len(labels))
    rows = read_embedding(estimator, X, scorer)[kept]
    clusterer = find_last_step(estimator)
    n_clusters = len(clusterer.prototypes_)

    def cluster(part, seed):
        quick = make_quick_clusterer(clusterer, n_clusters, len(part), n_heads, seed)
        return quick.fit(rows[part]).predict(rows)

    return _average(labels[kept], cluster, share, n_clusters, scorer)


def compare_with_refits(estimator, X, scorer, share):
    """Return the mean agreement of an estimator with itself, fitted to parts of `X`."""
    labels = read_labels(estimator, X, scorer)

    def cluster(part, _):
        return clone(estimator).fit(_safe_indexing(X, part)).predict(X)

    return _average(labels, cluster, share, labels.max() + 1, scorer)


def _average(labels, cluster, share, n_clusters, scorer):
    n_drawn = int(share * len(labels))
    if n_drawn < max(2, n_clusters):
        raise ValueError(
            f"{scorer} clusters parts of the samples, and {share:.0%} of "
            f"{len(labels)} samples are fewer than the {n_clusters} clusters. Pass "
            "more samples."
        )
    random_state = np.random.RandomState(_SEED)
    found = []
    with warnings.catch_warnings():
        # Of a part, clusters may well be empty.
        warnings.simplefilter("ignore")
        for seed in range(_N_ROUNDS):
            part = random_state.permutation(len(labels))[:n_drawn]
            found.append(adjusted_rand_score(labels, cluster(part, seed)))
    return float(np.mean(found))
