# SPDX-License-Identifier: BSD-3-Clause
"""Clusterers that were fitted on a part of the samples, and the other samples."""

from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np

from sklearn_scan import SCANClustering


@dataclass(frozen=True, eq=False)
class HeldOut:
    """A fitted clusterer, with the samples that it has seen and others.

    Attributes
    ----------
    clusterer : SCANClustering
        Fitted on `seen`.
    seen, others : array-like
        Samples.
    y_seen, y_others : ndarray
        Their classes.
    """

    clusterer: SCANClustering
    seen: np.ndarray
    y_seen: np.ndarray
    others: np.ndarray
    y_others: np.ndarray

    def ask(self, temperature=None):
        """Return the probabilities of the seen and of the others.

        At another temperature than that of the clusterer, unless None is given.
        """
        clusterer = self.clusterer
        if temperature is not None:
            clusterer.temperature_ = temperature
        return clusterer.predict_proba(self.seen), clusterer.predict_proba(self.others)


def fit_part(X, y, seed, *, left_out=None, n_fitted=None, n_others=None, path=None):
    """Fit on a random part, by default 70 %, or read what was fitted before.

    Parameters
    ----------
    X, y : ndarray
        Samples and classes.
    seed : int
        Of the part, and of the fit.
    left_out : int or None, default=None
        A class of which all samples are among the others.
    n_fitted, n_others : int or None, default=None
        How many samples; None for 70 %, and for all that are left.
    path : Path or None, default=None
        Where the result is kept.
    """
    if path is not None and Path(path).exists():
        return joblib.load(path)
    is_left_out = y == left_out
    order = np.random.default_rng(seed).permutation(np.flatnonzero(~is_left_out))
    n_fitted = n_fitted or int(0.7 * len(order))
    seen, others = order[:n_fitted], order[n_fitted:][:n_others]
    others = np.concatenate([others, np.flatnonzero(is_left_out)])
    clusterer = SCANClustering(len(np.unique(y[seen])), random_state=seed).fit(X[seen])
    result = HeldOut(clusterer, X[seen], y[seen], X[others], y[others])
    if path is not None:
        joblib.dump(result, path)
    return result
