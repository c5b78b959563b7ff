# SPDX-License-Identifier: BSD-3-Clause
"""How well clusters agree with classes that were never shown to the clusterer.

Cluster numbers are arbitrary, so each accuracy says how clusters were given names. Two
ways are in use, and they answer different questions:

* *One-to-one* (`hungarian_accuracy_score`): each class names at most one cluster. With
  more clusters than classes, the members of surplus clusters count as errors.
* *Many-to-one* (`majority_accuracy_score`): each cluster takes the name of its most
  frequent class. It grows with the number of clusters, to 1 for clusters of one sample;
  the over-clustering figures of the SCAN paper are of this kind.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import make_scorer
from sklearn.metrics.cluster import contingency_matrix
from sklearn.utils import check_array, check_consistent_length, column_or_1d

#: Of each class, or of some by name.
Superclasses: TypeAlias = Sequence[Any] | Mapping[Any, Any] | None

__all__ = [
    "AlignedConfusion",
    "align_labels",
    "aligned_confusion_matrix",
    "expected_calibration_error",
    "hungarian_accuracy_score",
    "hungarian_accuracy_scorer",
    "majority_accuracy_score",
    "majority_accuracy_scorer",
    "neighbor_purity_score",
    "top_k_hungarian_accuracy_score",
]


def hungarian_accuracy_score(y_true: ArrayLike, y_pred: ArrayLike) -> float:
    """Accuracy under the best one-to-one matching of clusters with classes.

    The ACC of the clustering literature. The matching maximises the number of samples
    in matched cells of the contingency table (Kuhn, 1955). Clusters beyond the number
    of classes stay unmatched, and their members count as errors.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Classes, as numbers or strings.
    y_pred : array-like of shape (n_samples,)
        Clusters.

    Returns
    -------
    accuracy : float
        Between 0 and 1.

    Raises
    ------
    ValueError
        If the lengths differ, or there is no sample.

    See Also
    --------
    majority_accuracy_score : Many clusters may share a class.

    Examples
    --------
    >>> from sklearn_scan.metrics import hungarian_accuracy_score
    >>> hungarian_accuracy_score(["cat", "cat", "dog", "dog"], [1, 1, 0, 2])
    0.75
    """
    table, rows, columns = _match(y_true, y_pred)
    return float(table[rows, columns].sum() / table.sum())


def majority_accuracy_score(y_true: ArrayLike, y_pred: ArrayLike) -> float:
    """Accuracy if every cluster takes the name of its most frequent class.

    Also called purity. It never falls when a cluster is split, so compare it only
    between clusterings of the same number of clusters, and never with
    `hungarian_accuracy_score`.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Classes, as numbers or strings.
    y_pred : array-like of shape (n_samples,)
        Clusters.

    Returns
    -------
    accuracy : float
        Between 0 and 1.

    Raises
    ------
    ValueError
        If the lengths differ, or there is no sample.

    Examples
    --------
    >>> from sklearn_scan.metrics import majority_accuracy_score
    >>> majority_accuracy_score(["cat", "cat", "dog", "dog"], [1, 1, 0, 2])
    1.0
    """
    table = _contingency(y_true, y_pred)
    return float(table.max(axis=0).sum() / table.sum())


def align_labels(y_true: ArrayLike, y_pred: ArrayLike) -> NDArray[Any]:
    """Rename clusters to the classes that they match one to one.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Classes, as numbers or strings.
    y_pred : array-like of shape (n_samples,)
        Clusters.

    Returns
    -------
    y_aligned : ndarray of shape (n_samples,)
        For each sample the class that its cluster was matched with. Unmatched clusters
        become -1 where the classes are integers, "" where they are strings and None
        otherwise, so that they never agree with a class. Classes may not use these
        values.

    Raises
    ------
    ValueError
        If the lengths differ, there is no sample, or the value that stands for
        "unmatched" is one of the classes while some cluster is unmatched.

    Examples
    --------
    >>> from sklearn_scan.metrics import align_labels
    >>> align_labels([3, 3, 5, 5], [1, 1, 0, 2])
    array([ 3,  3,  5, -1])
    """
    _, rows, columns = _match(y_true, y_pred)
    clusters, members = np.unique(column_or_1d(y_pred), return_inverse=True)
    names, unmatched = _with_unmatched(np.unique(column_or_1d(y_true)))
    if len(clusters) > len(rows) and (names == unmatched).any():
        raise ValueError(
            f"Some clusters match no class and would be called {unmatched!r}, which is "
            "also a class. Rename that class."
        )
    renamed = np.full(len(clusters), unmatched, dtype=names.dtype)
    renamed[columns] = names[rows]
    return renamed[members]


class AlignedConfusion(NamedTuple):
    """What `aligned_confusion_matrix` returns.

    Attributes
    ----------
    matrix : ndarray of shape (n_classes, max(n_classes, n_clusters))
        Rows are classes, columns are clusters; the diagonal holds what is matched.
    classes : ndarray of shape (n_classes,)
        The class of each row.
    clusters : ndarray of shape (max(n_classes, n_clusters),)
        The cluster of each column; -1 for a column of zeros, which stands for the
        cluster that a class did not get.

    Examples
    --------
    >>> from sklearn_scan.metrics import aligned_confusion_matrix
    >>> confusion = aligned_confusion_matrix(["a", "a", "b"], [1, 1, 0])
    >>> confusion.classes.tolist(), confusion.clusters.tolist()
    (['a', 'b'], [1, 0])
    """

    matrix: np.ndarray
    classes: np.ndarray
    clusters: np.ndarray


def aligned_confusion_matrix(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    superclasses: Superclasses = None,
    normalize: Literal["true"] | None = None,
) -> "AlignedConfusion":
    """Count the samples of each class in each cluster, with matches on the diagonal.

    Clusters are matched with classes one to one, as in `align_labels`. Column i is the
    cluster of the class in row i; the clusters of no class follow, by size. Where there
    are fewer clusters than classes, classes without a cluster have a column of zeros.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Classes, as numbers or strings.
    y_pred : array-like of shape (n_samples,)
        Clusters.
    superclasses : mapping or None, default=None
        For each class the superclass that it belongs to. Rows are ordered by
        superclass, then by class, so that what stays within a superclass is near the
        diagonal; None orders by class.
    normalize : {None, "true"}, default=None
        None counts samples; "true" gives the share of a class, so that rows sum to one.

    Returns
    -------
    matrix : ndarray of shape (n_classes, max(n_classes, n_clusters))
        Of int64, or of float64 where it is normalised.
    classes : ndarray of shape (n_classes,)
        The class of each row.
    clusters : ndarray of shape (max(n_classes, n_clusters),)
        The cluster of each column. A column of zeros is called -1 where clusters are
        integers, "" where they are strings and None otherwise.

    Raises
    ------
    TypeError
        If `superclasses` is no mapping.
    ValueError
        If the lengths differ, there is no sample, a class has no superclass, the name
        of a column of zeros is that of a cluster, or `normalize` is something else.

    See Also
    --------
    sklearn_scan.inspection.ConfusionDisplay : The matrix as a picture.

    Examples
    --------
    >>> from sklearn_scan.metrics import aligned_confusion_matrix
    >>> y_true = ["cat", "cat", "cat", "dog", "dog", "owl"]
    >>> matrix, classes, clusters = aligned_confusion_matrix(y_true, [1, 1, 0, 0, 0, 0])
    >>> matrix
    array([[2, 1, 0],
           [0, 2, 0],
           [0, 1, 0]])
    >>> clusters
    array([ 1,  0, -1])
    """
    if normalize not in (None, "true"):
        raise ValueError(f"normalize must be None or 'true'. Got {normalize!r}.")
    table, rows, columns = _match(y_true, y_pred)
    classes, clusters = (np.unique(column_or_1d(y)) for y in (y_true, y_pred))
    n_absent = len(classes) - len(rows)
    table = np.pad(table, [(0, 0), (0, n_absent)])
    clusters = _append_absent(clusters, n_absent)
    row_order = _order_of_classes(classes, superclasses)
    column_order = _order_of_columns(table, rows, columns, row_order)
    matrix = table[np.ix_(row_order, column_order)]
    if normalize == "true":
        matrix = matrix / matrix.sum(axis=1, keepdims=True)
    return AlignedConfusion(matrix, classes[row_order], clusters[column_order])


def top_k_hungarian_accuracy_score(
    y_true: ArrayLike, y_proba: ArrayLike, k: int = 5
) -> float:
    """Share of samples whose class is matched with one of their k likeliest clusters.

    Clusters are matched with classes one to one, by the likeliest cluster of each
    sample, as in `hungarian_accuracy_score`, which this equals for ``k=1``.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Classes.
    y_proba : array-like of shape (n_samples, n_clusters)
        Probabilities or other scores, higher for likelier.
    k : int, default=5
        How many clusters count. All of them where there are fewer than `k`.

    Returns
    -------
    accuracy : float
        Between 0 and 1.

    Raises
    ------
    ValueError
        If the lengths differ, there is no sample, or `k` is less than 1.

    Examples
    --------
    >>> from sklearn_scan.metrics import top_k_hungarian_accuracy_score
    >>> y_proba = [[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.4, 0.3, 0.3], [0.1, 0.2, 0.7]]
    >>> top_k_hungarian_accuracy_score([0, 1, 1, 2], y_proba, k=1)
    0.75
    >>> top_k_hungarian_accuracy_score([0, 1, 1, 2], y_proba, k=2)
    1.0
    """
    if k < 1:
        raise ValueError(f"k must be at least 1. Got {k!r} instead.")
    y_proba = check_array(y_proba)
    check_consistent_length(y_true, y_proba)
    # Stable, so that ties go to the lower cluster number as in argmax.
    order = np.argsort(-y_proba, axis=1, kind="stable")
    classes, y_true = np.unique(_check_labels(y_true), return_inverse=True)
    present = np.unique(order[:, 0])
    _, rows, columns = _match(y_true, order[:, 0])
    cluster_of_class = np.full(len(classes), -1)
    cluster_of_class[rows] = present[columns]
    _match_leftovers(cluster_of_class, y_true, y_proba)
    hit = (order[:, :k] == cluster_of_class[y_true][:, None]).any(axis=1)
    return float(hit.mean())


def expected_calibration_error(
    y_true: ArrayLike, y_proba: ArrayLike, n_bins: int = 15
) -> float:
    """Mean distance between how sure a clusterer is and how often it is right.

    Samples are put into bins by their confidence, the largest probability. The distance
    between the mean confidence and the accuracy in each bin is averaged over samples
    [1]_. Clusters are matched with classes one to one, by the likeliest cluster of each
    sample, as in `hungarian_accuracy_score`.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Classes, as numbers or strings.
    y_proba : array-like of shape (n_samples, n_clusters)
        Probabilities of clusters.
    n_bins : int, default=15
        Bins of equal width between 0 and 1.

    Returns
    -------
    error : float
        Between 0 and 1; lower is better. Of few samples it is above 0 by chance, also
        where every probability is right.

    Raises
    ------
    ValueError
        If the lengths differ, there is no sample, probabilities are not between 0 and
        1, or `n_bins` is less than 1.

    See Also
    --------
    sklearn_scan.inspection.ReliabilityDisplay : The bins as a picture.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun and K. Weinberger, "On calibration of modern neural
       networks", ICML 2017, equation 3.

    Examples
    --------
    >>> from sklearn_scan.metrics import expected_calibration_error
    >>> y_proba = [[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.4, 0.6]]
    >>> error = expected_calibration_error(["cat", "cat", "dog", "cat"], y_proba)
    >>> round(error, 3)
    0.25
    """
    y_proba = check_probabilities(y_proba)
    is_right = find_right(y_true, y_proba.argmax(axis=1))
    bins = bin_by_confidence(y_proba.max(axis=1), is_right, n_bins)
    return mean_distance(*bins)


def check_probabilities(y_proba: ArrayLike) -> NDArray[Any]:
    """Validate probabilities of clusters, one row per sample."""
    y_proba = check_array(y_proba)
    if y_proba.min() < 0 or y_proba.max() > 1 + 1e-5:
        raise ValueError(
            f"y_proba has values from {y_proba.min():.3g} to {y_proba.max():.3g}; "
            "probabilities are between 0 and 1. Pass what predict_proba returns."
        )
    return y_proba


def find_right(y_true: ArrayLike, y_pred: ArrayLike) -> NDArray[np.float64]:
    """Return 1 for samples of the class that their cluster is matched with, else 0."""
    y_true = column_or_1d(y_true)
    check_consistent_length(y_true, y_pred)
    return (align_labels(y_true, y_pred) == y_true).astype(np.float64)


def bin_by_confidence(
    confidence: NDArray[Any], observed: NDArray[Any], n_bins: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Put samples into bins of equal width by their confidence.

    Parameters
    ----------
    confidence, observed : ndarray of shape (n_samples,)
        Samples of which NaN was observed are left out.
    n_bins : int
        At least 1.

    Returns
    -------
    confidence, observed : ndarray of shape (n_bins,)
        Means over the samples in each bin; NaN where there is none.
    counts : ndarray of shape (n_bins,)
        Their number.
    """
    if n_bins < 1:
        raise ValueError(f"n_bins must be at least 1. Got {n_bins!r}.")
    is_known = ~np.isnan(observed)
    # In float64, as means of many float32 are not exact.
    confidence = confidence[is_known].astype(np.float64)
    # A bin ends with its upper edge, so that 1 is in the last one.
    bins = np.ceil(confidence * n_bins).clip(1, n_bins).astype(int) - 1
    counts = np.bincount(bins, minlength=n_bins)
    sums = (
        np.bincount(bins, weights=values, minlength=n_bins)
        for values in (confidence, observed[is_known])
    )
    means = [np.where(counts, s / np.maximum(counts, 1), np.nan) for s in sums]
    return means[0], means[1], counts


def mean_distance(
    confidence: NDArray[Any], observed: NDArray[Any], counts: NDArray[Any]
) -> float:
    """Return the mean over samples of the distance in their bin."""
    distance = np.abs(np.subtract(confidence, observed))
    return float(np.nansum(counts * distance) / np.sum(counts))


def neighbor_purity_score(neighbors: ArrayLike, y: ArrayLike) -> float:
    """Share of neighbours that are of the class of their sample.

    Parameters
    ----------
    neighbors : array-like of shape (n_samples, K)
        Row numbers, such as `neighbors_` of a fitted `SCANClustering`; -1 stands for
        none, and does not count.
    y : array-like of shape (n_samples,)
        Classes.

    Returns
    -------
    purity : float
        Between 0 and 1, the mean over samples and neighbours.

    Raises
    ------
    ValueError
        If the lengths differ, a neighbour is not the number of a row, or there is no
        neighbour at all.

    Examples
    --------
    >>> from sklearn_scan.metrics import neighbor_purity_score
    >>> neighbor_purity_score([[1], [0], [0], [2]], ["a", "a", "b", "b"])
    0.75
    """
    neighbors = check_array(neighbors, dtype=np.int64, ensure_min_features=0)
    y = column_or_1d(y)
    check_consistent_length(neighbors, y)
    if neighbors.size == 0 or neighbors.max() < 0:
        raise ValueError("No sample has a neighbour, so there is no purity to measure.")
    if neighbors.min() < -1 or neighbors.max() >= len(y):
        raise ValueError(
            f"neighbors has entries from {neighbors.min()} to {neighbors.max()}; "
            f"expected row numbers from 0 to {len(y) - 1}, or -1 for none."
        )
    return float((y[neighbors] == y[:, None])[neighbors >= 0].mean())


hungarian_accuracy_scorer = make_scorer(hungarian_accuracy_score)
majority_accuracy_scorer = make_scorer(majority_accuracy_score)


def _contingency(y_true, y_pred):
    y_true, y_pred = _check_labels(y_true), _check_labels(y_pred)
    check_consistent_length(y_true, y_pred)
    if len(y_true) == 0:
        raise ValueError("An accuracy needs at least one sample. Got none.")
    return contingency_matrix(y_true, y_pred)  # (n_classes, n_clusters)


def _check_labels(labels):
    """Return labels as an array, if they can be told apart and put in order."""
    labels = column_or_1d(labels)
    if labels.dtype != object:
        return labels
    try:
        np.unique(labels)
    except TypeError as error:
        kinds = sorted({type(label).__name__ for label in labels})
        raise TypeError(
            "Labels must be all numbers or all strings. Got values of type "
            f"{', '.join(kinds)}."
        ) from error
    return labels


def _match(y_true, y_pred):
    table = _contingency(y_true, y_pred)
    return table, *linear_sum_assignment(table, maximize=True)


def _with_unmatched(names):
    """Return names in a type that has room for "unmatched", and that value."""
    if names.dtype.kind in "bui":
        names = names.astype(np.int64)
    unmatched = {"i": -1, "U": "", "S": b""}.get(names.dtype.kind)
    return (names.astype(object) if unmatched is None else names), unmatched


def _append_absent(clusters, n_absent):
    """Append a name for each of the clusters that classes did not get."""
    clusters, absent = _with_unmatched(clusters)
    if n_absent and (clusters == absent).any():
        raise ValueError(
            f"Some classes match no cluster, and their columns would be called "
            f"{absent!r}, which is also a cluster. Rename that cluster."
        )
    return np.append(clusters, np.full(n_absent, absent, dtype=clusters.dtype))


def _order_of_columns(table, rows, columns, row_order):
    """Return the order of columns: those matched with rows, then the others by size.

    `table` has at least as many columns as rows; only zeros in those added for rows
    that no column was matched with.
    """
    column_of_row = np.full(len(table), -1)
    column_of_row[rows] = columns
    others = np.setdiff1d(np.arange(table.shape[1]), columns)
    n_unmatched = len(table) - len(rows)
    column_of_row[column_of_row < 0] = others[:n_unmatched]
    surplus = others[n_unmatched:]
    by_size = np.argsort(-table[:, surplus].sum(axis=0), kind="stable")
    return np.append(column_of_row[row_order], surplus[by_size])


def _order_of_classes(classes, superclasses):
    """Return the order of sorted classes: by superclass where these are given."""
    if superclasses is None:
        return np.arange(len(classes))
    if not hasattr(superclasses, "keys"):
        raise TypeError(
            "superclasses must be a mapping from every class to its superclass, such "
            f"as a dict. Got a {type(superclasses).__name__}."
        )
    missing = [c for c in classes.tolist() if c not in superclasses]
    if missing:
        raise ValueError(
            f"superclasses lacks {len(missing)} of {len(classes)} classes, among them "
            f"{missing[0]!r}. Pass a mapping that has every class."
        )
    superclass_of_each = [superclasses[c] for c in classes.tolist()]
    return np.argsort(superclass_of_each, kind="stable")


def _match_leftovers(cluster_of_class, y_true, y_proba):
    """Match, in place, classes left over with clusters that are nobody's first.

    A cluster that is nobody's likeliest is not in the contingency table, yet may be
    somebody's second.
    """
    classes = np.flatnonzero(cluster_of_class < 0)
    clusters = np.setdiff1d(np.arange(y_proba.shape[1]), cluster_of_class)
    if len(classes) and len(clusters):
        mass = np.array(
            [y_proba[y_true == c][:, clusters].sum(axis=0) for c in classes]
        )
        rows, columns = linear_sum_assignment(mass, maximize=True)
        cluster_of_class[classes[rows]] = clusters[columns]
