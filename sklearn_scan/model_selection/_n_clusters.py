# SPDX-License-Identifier: BSD-3-Clause
"""How many clusters there are."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from sklearn_scan._engine import resolve_seed
from sklearn_scan._scan import SCANClustering
from sklearn_scan._stages import (
    MOST_SAMPLES,
    N_PARTS,
    NumberOfClusters,
    check_countable,
    list_numbers,
    try_numbers,
)
from sklearn_scan._typing import RandomState
from sklearn_scan.model_selection._reading import choose_distance

__all__ = ["estimate_n_clusters"]


def estimate_n_clusters(
    X: ArrayLike | SCANClustering,
    *,
    numbers: ArrayLike | str = "auto",
    n_resamples: int = N_PARTS,
    max_samples: int = MOST_SAMPLES,
    random_state: RandomState = None,
) -> NumberOfClusters:
    """Estimate how many clusters an embedding has, without labels.

    Parts of the samples are partitioned into every number of clusters, by k-means and
    by spectral clustering of the graph of neighbours; nothing is trained. The estimate
    is the first of three votes, and the others say whether to doubt it:

    - the smallest number whose silhouette (Rousseeuw [1]_, the mean of both partitions)
      is within 4 % of the largest. Where no silhouette reaches 0.1, as in features of
      many dimensions, the number of the largest modularity (Newman and Girvan [2]_) in
      the graph of neighbours, weighted by the neighbours that two samples share;
    - the largest number whose prediction strength (Tibshirani and Walther [3]_) is
      above 0.8: samples that are together in the graph of a part are together in that
      of seven tenths of the part as well. The smallest of all where there is none;
    - the number of the largest silhouette of k-means.

    The groups that are counted are those that stand apart in the embedding. These need
    not be those that a person would name: letters in many fonts stand apart by letter
    and by font. `votes`, `interval`, `runner_up` and `is_doubtful` of the result say
    how far criteria and parts agree.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features), or SCANClustering
        An embedding; or a fitted clusterer, whose `embedding_` is taken, and which is
        not changed.
    numbers : array-like of int, or "auto", default="auto"
        The numbers of clusters to try, at least 2. "auto" is 2 to 16, then up to 40 in
        steps of a tenth, and at most one per ten samples of a part.
    n_resamples : int, default=5
        Parts that are drawn.
    max_samples : int, default=1500
        Samples in each part, and four fifths of all where these are fewer. Time grows
        with the square.
    random_state : int, RandomState instance or None, default=None
        Determines the parts. Pass an int for the same estimate in every call.

    Returns
    -------
    estimate : NumberOfClusters
        With `n_clusters`, the curve behind it (`numbers`, `scores`), the `votes`, and
        the doubt (`interval`, `runner_up`, `is_doubtful`).

    Raises
    ------
    NotFittedError
        If the clusterer is not fitted.
    ValueError
        If there are too few samples, a number is less than 2, or `n_resamples` is less
        than 1.

    See Also
    --------
    sklearn_scan.SCANClustering : With ``n_clusters="auto"`` it takes the estimate.
    sklearn_scan.inspection.NumberOfClustersDisplay : The curve as a picture.
    sklearn_scan.merge_tree : From too many clusters to few.

    References
    ----------
    .. [1] P. J. Rousseeuw, "Silhouettes: a graphical aid to the interpretation and
       validation of cluster analysis", Journal of Computational and Applied Mathematics
       20, 1987.
    .. [2] M. E. J. Newman and M. Girvan, "Finding and evaluating community structure in
       networks", Physical Review E 69, 2004.
    .. [3] R. Tibshirani and G. Walther, "Cluster validation by prediction strength",
       Journal of Computational and Graphical Statistics 14, 2005.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn_scan.model_selection import estimate_n_clusters
    >>> X, _ = make_blobs(200, centers=4, cluster_std=0.5, random_state=1)
    >>> estimate = estimate_n_clusters(X, random_state=0)
    >>> estimate.n_clusters
    4
    >>> estimate.votes
    {'silhouette': 4, 'prediction strength': 4, 'k-means silhouette': 4}
    """
    rows, metric = _read_rows(X)
    numbers = _check_numbers(numbers, len(rows))
    if n_resamples < 1:
        raise ValueError(f"n_resamples must be at least 1. Got {n_resamples!r}.")
    if max_samples <= numbers.max():
        raise ValueError(
            f"max_samples={max_samples!r} must be more than the largest number of "
            f"clusters, {numbers.max()}."
        )
    seed = resolve_seed(random_state)
    curves = try_numbers(rows, metric, numbers, n_resamples, max_samples, seed)
    return NumberOfClusters(numbers, **curves)


def _read_rows(X: Any) -> tuple[np.ndarray, str]:
    """Return what distances are taken in, and the metric."""
    if isinstance(X, SCANClustering):
        check_is_fitted(X, "embedding_")
        # Files that were skipped have no cluster.
        return X._backbone.compare(X.embedding_[X.labels_ >= 0])
    return choose_distance(check_array(X, dtype=np.float32))


def _check_numbers(numbers: Any, n_samples: int) -> np.ndarray:
    if isinstance(numbers, str) and numbers == "auto":
        numbers = list_numbers(n_samples)
    numbers = np.unique(np.asarray(numbers))
    if numbers.dtype.kind not in "iu" or not len(numbers) or numbers[0] < 2:
        raise ValueError(
            f'numbers must be integers from 2, or "auto". Got {numbers!r} instead.'
        )
    check_countable(n_samples, numbers)
    return numbers
