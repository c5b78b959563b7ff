# SPDX-License-Identifier: BSD-3-Clause
"""One report on a clustering: what is wrong with it, and what to change."""

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from sklearn_scan._scan import SCANClustering
from sklearn_scan._typing import RandomState, SamplesLike
from sklearn_scan.inspection._diagnosis._findings import Finding, find_all
from sklearn_scan.inspection._diagnosis._measures import measure
from sklearn_scan.inspection._diagnosis._report import Diagnosis
from sklearn_scan.inspection._diagnosis._shown import choose_rows
from sklearn_scan.inspection._diagnosis._views import measure_views
from sklearn_scan.inspection._pictures import open_pictures
from sklearn_scan.inspection._readable import keep_readable, take_readable
from sklearn_scan.inspection._stability import cluster_stability

__all__ = ["Diagnosis", "Finding", "diagnose"]

# Parts of the samples in which clusters are looked for again.
_N_RESAMPLES = 10
_MOST_RESAMPLED = 2500


def diagnose(
    estimator: SCANClustering,
    X: SamplesLike | None = None,
    *,
    images: SamplesLike | None = None,
    stability: bool | np.ndarray = False,
    random_state: RandomState = 0,
) -> Diagnosis:
    """Say what is wrong with a clustering, and which parameter to change.

    Nothing is known of the classes: everything is measured on the neighbours, the
    probabilities, the embedding and, where `X` is given, on random views. What is
    looked for, by the code of the finding:

    - "neighbors": neighbours that are no nearer than anybody else, as where those that
      `fit` was given are in another order than `X`;
    - "views": random views that change what images show (needs `X`);
    - "empty", "tiny": clusters without members, or with fewer than `K`;
    - "merge": clusters that are no better separated than the halves of others. The
      measure is the conductance: the neighbours that are on the other side, as a share
      of those of the smaller side;
    - "split": clusters whose halves are better separated than other clusters are;
    - "structure": neighbours that are seldom in one cluster;
    - "disagreeing": samples that are confident of a cluster in which most of their
      neighbours are not;
    - "coverage": few samples above `threshold`;
    - "stability": clusters that are not found again (where asked for);
    - "pretext", "loss", "discarded": what the histories of the stages say.

    Parameters
    ----------
    estimator : SCANClustering
        Fitted; it is not changed.
    X : array-like, folder, sequence of paths or None, default=None
        What it was fitted on. Needed for pictures, and to measure the views.
    images : array-like, folder, sequence of paths or of pictures, default=None
        What is shown in place of `X`, one for each sample; for rows.
    stability : bool or ndarray of shape (n_clusters,), default=False
        Whether to measure how well clusters are found again, which takes seconds; or
        what `cluster_stability` has returned.
    random_state : int, RandomState instance or None, default=0
        Determines which members are shown, and the parts of the samples for the
        stability.

    Returns
    -------
    report : Diagnosis
        Print it, or see its `findings`; `report.plot()` shows likely merges and splits.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    ValueError
        If `X` or `images` are not those of the samples that it was fitted on.

    See Also
    --------
    sklearn_scan.inspection.cluster_stability : How well clusters are found again.
    sklearn_scan.inspection.write_gallery : A page on which to look, and to merge.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn_scan import SCANClustering, diagnose
    >>> X, _ = make_blobs(300, centers=5, cluster_std=0.5, random_state=2)
    >>> report = diagnose(SCANClustering(4, random_state=0).fit(X))
    >>> worst = report.findings[0]
    >>> worst.code, worst.severity, worst.parameter, worst.value
    ('split', 'problem', 'n_clusters', 5)
    """
    check_is_fitted(estimator, "prototypes_")
    random_state = check_random_state(random_state)
    X, images = take_readable(estimator, X), take_readable(estimator, images)
    estimator = keep_readable(estimator)
    pictures = None
    if X is not None or images is not None:
        pictures, _ = open_pictures(estimator, X, images)
    views = [] if X is None else measure_views(estimator, X)
    if stability is True:
        n_samples = len(estimator.labels_)
        stability = cluster_stability(
            estimator,
            n_resamples=_N_RESAMPLES,
            max_samples=min(n_samples // 2, _MOST_RESAMPLED),
            random_state=random_state,
        )
    measures = measure(estimator, None if stability is False else stability, views)
    findings = find_all(measures.record)
    rows = []
    if pictures is not None:
        rows = choose_rows(estimator, measures, findings, pictures, random_state)
    return Diagnosis(measures.record, findings, rows)
