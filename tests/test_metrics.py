# SPDX-License-Identifier: BSD-3-Clause
import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import check_scoring
from sklearn.model_selection import cross_validate

from sklearn_scan.metrics import (
    align_labels,
    aligned_confusion_matrix,
    expected_calibration_error,
    hungarian_accuracy_score,
    hungarian_accuracy_scorer,
    majority_accuracy_score,
    majority_accuracy_scorer,
    neighbor_purity_score,
    top_k_hungarian_accuracy_score,
)

ACCURACIES = [hungarian_accuracy_score, majority_accuracy_score]


def random_labels(n=200, n_classes=5, n_clusters=7, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(n_classes, size=n), rng.integers(n_clusters, size=n)


@pytest.mark.parametrize(
    ("y_true", "y_pred", "hungarian", "majority"),
    [
        ([0, 0, 1, 1], [1, 1, 0, 0], 1, 1),
        # Table [[2, 1], [2, 2]]: greedy or not, 4 of 7.
        ([0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 0, 0, 1, 1], 4 / 7, 4 / 7),
        # Table [[3, 2], [2, 0]]: the largest cell is not in the best matching.
        ([0, 0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0, 0], 4 / 7, 5 / 7),
        # Surplus clusters: an error one to one, credited many to one.
        ([0, 0, 0, 0, 1, 1], [0, 0, 1, 2, 3, 3], 4 / 6, 1),
        # Fewer clusters than classes.
        ([0, 0, 1, 2], [5, 5, 5, 5], 2 / 4, 2 / 4),
        ([7], [3], 1, 1),
    ],
)
def test_accuracies_of_small_tables(y_true, y_pred, hungarian, majority):
    assert hungarian_accuracy_score(y_true, y_pred) == pytest.approx(hungarian)
    assert majority_accuracy_score(y_true, y_pred) == pytest.approx(majority)


@pytest.mark.parametrize("score", ACCURACIES)
def test_names_of_classes_and_clusters_do_not_matter(score):
    y_true, y_pred = random_labels()
    expected = score(y_true, y_pred)
    assert 0 < expected < 1
    names = np.array(["owl", "ant", "cat", "dog", "bee"])
    renamed = np.array([40, -1, 7, 3, 2, 99, 5])
    assert score(names[y_true], renamed[y_pred]) == expected
    assert score(list(names[y_true]), [str(c) for c in y_pred]) == expected
    order = np.random.default_rng(1).permutation(len(y_true))
    assert score(y_true[order], y_pred[order]) == expected


@pytest.mark.parametrize("score", ACCURACIES)
def test_accuracies_are_python_floats(score):
    assert type(score([0, 1], [1, 0])) is float


def test_splitting_a_cluster_lowers_hungarian_and_not_majority():
    y_true = np.repeat([0, 1], 10)
    split = np.repeat([0, 1, 2, 2], 5)
    assert hungarian_accuracy_score(y_true, split) == 0.75
    assert majority_accuracy_score(y_true, split) == 1


@pytest.mark.parametrize("score", [*ACCURACIES, align_labels, aligned_confusion_matrix])
def test_lengths_must_agree_and_not_be_zero(score):
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        score([0, 1, 2], [0, 1])
    with pytest.raises(ValueError, match=r"needs at least one sample. Got none"):
        score([], [])


# --- align_labels ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("y_true", "expected"),
    [
        ([3, 3, 5, 5], [3, 3, 5, -1]),
        (["cat", "cat", "dog", "dog"], ["cat", "cat", "dog", ""]),
        ([0.5, 0.5, 1.5, 1.5], [0.5, 0.5, 1.5, None]),
        ([True, True, False, False], [1, 1, 0, -1]),
        (np.array([3, 3, 5, 5], dtype=np.uint8), [3, 3, 5, -1]),
    ],
)
def test_surplus_clusters_get_a_name_that_is_no_class(y_true, expected):
    assert align_labels(y_true, [1, 1, 0, 2]).tolist() == expected


def test_aligned_labels_agree_as_often_as_the_accuracy_says():
    y_true, y_pred = random_labels()
    aligned = align_labels(y_true, y_pred)
    assert (aligned == y_true).mean() == hungarian_accuracy_score(y_true, y_pred)


def test_alignment_is_one_to_one():
    y_true, y_pred = random_labels()
    aligned = align_labels(y_true, y_pred)
    pairs = {(a, p) for a, p in zip(aligned, y_pred, strict=True) if a != -1}
    assert len(pairs) == 5
    assert len({a for a, _ in pairs}) == len({p for _, p in pairs}) == 5


@pytest.mark.parametrize("classes", [[-1, 0], ["", "a"]])
def test_the_name_of_unmatched_must_be_free_where_it_is_needed(classes):
    y_true = np.repeat(classes, 2)
    with pytest.raises(ValueError, match=r"would be called .* Rename that class"):
        align_labels(y_true, [0, 0, 1, 2])
    assert align_labels(y_true, [5, 5, 4, 4]).tolist() == y_true.tolist()


# --- aligned confusion matrix ------------------------------------------------------


def test_as_many_clusters_as_classes():
    y_true = ["cat"] * 3 + ["dog"] * 3 + ["owl"] * 2
    got = aligned_confusion_matrix(y_true, [7, 7, 2, 2, 2, 2, 5, 2])
    assert got.matrix.tolist() == [[2, 1, 0], [0, 3, 0], [0, 1, 1]]
    assert got.matrix.dtype == np.int64
    assert got.classes.tolist() == ["cat", "dog", "owl"]
    assert got.clusters.tolist() == [7, 2, 5]


def test_surplus_clusters_follow_by_size():
    y_true = [0] * 10 + [1] * 8
    y_pred = [3] * 4 + [9] * 1 + [2] * 3 + [0] * 2 + [1] * 6 + [0] * 2
    matrix, _, clusters = aligned_confusion_matrix(y_true, y_pred)
    assert clusters.tolist() == [3, 1, 0, 2, 9]
    assert matrix.tolist() == [[4, 0, 2, 3, 1], [0, 6, 2, 0, 0]]


@pytest.mark.parametrize(
    ("clusters", "absent"), [([4, 6], -1), (["u", "v"], ""), ([0.5, 1.5], None)]
)
def test_classes_without_a_cluster_have_a_column_of_zeros(clusters, absent):
    y_pred = [clusters[i] for i in (0, 0, 1, 0, 1, 1, 1)]
    got = aligned_confusion_matrix([0, 0, 1, 1, 2, 2, 2], y_pred)
    assert got.matrix.tolist() == [[2, 0, 0], [1, 0, 1], [0, 0, 3]]
    assert got.clusters.tolist() == [clusters[0], absent, clusters[1]]


@pytest.mark.parametrize("n_clusters", [1, 3, 5, 9])
def test_the_diagonal_holds_what_the_accuracy_counts(n_clusters):
    y_true, y_pred = random_labels(n_clusters=n_clusters)
    matrix, classes, clusters = aligned_confusion_matrix(y_true, y_pred)
    assert matrix.shape == (5, max(5, n_clusters))
    assert np.trace(matrix) / 200 == hungarian_accuracy_score(y_true, y_pred)
    assert matrix.sum(axis=1).tolist() == np.bincount(y_true).tolist()
    for column, cluster in zip(matrix.T, clusters, strict=True):
        assert column.sum() == (y_pred == cluster).sum()
    aligned = align_labels(y_true, y_pred)
    for name, cluster in zip(classes, clusters, strict=False):
        assert set(aligned[y_pred == cluster]) <= {name}


def test_superclasses_order_rows_and_columns():
    y_true, y_pred = random_labels()
    superclasses = {0: "b", 1: "a", 2: "b", 3: "c", 4: "a"}
    plain = aligned_confusion_matrix(y_true, y_pred)
    got = aligned_confusion_matrix(y_true, y_pred, superclasses=superclasses)
    order = [1, 4, 0, 2, 3]
    assert got.classes.tolist() == order
    columns = [*order, 5, 6]
    assert got.clusters.tolist() == plain.clusters[columns].tolist()
    np.testing.assert_array_equal(got.matrix, plain.matrix[np.ix_(order, columns)])


def test_rows_sum_to_one_where_they_are_normalised():
    y_true, y_pred = random_labels()
    counts = aligned_confusion_matrix(y_true, y_pred).matrix
    shares = aligned_confusion_matrix(y_true, y_pred, normalize="true").matrix
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    np.testing.assert_allclose(shares, counts / counts.sum(axis=1, keepdims=True))


@pytest.mark.parametrize(
    ("kwargs", "error", "says"),
    [
        ({"normalize": "pred"}, ValueError, r"None or 'true'. Got 'pred'"),
        ({"superclasses": {0: "a"}}, ValueError, r"lacks 2 of 3 classes, .* 1\."),
        ({"superclasses": ["a", "b", "c"]}, TypeError, r"mapping .* Got a list"),
    ],
)
def test_what_a_confusion_matrix_refuses(kwargs, error, says):
    with pytest.raises(error, match=says):
        aligned_confusion_matrix([0, 1, 2], [0, 1, 2], **kwargs)


def test_a_cluster_may_be_called_minus_one_unless_one_is_absent():
    assert aligned_confusion_matrix([0, 1], [-1, 3]).clusters.tolist() == [-1, 3]
    with pytest.raises(ValueError, match=r"called -1, .* Rename that cluster"):
        aligned_confusion_matrix([0, 1, 2], [-1, 3, 3])


# --- top k -------------------------------------------------------------------------


def random_scores(n=150, n_classes=5, n_clusters=6, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(n_classes, size=n), rng.dirichlet(np.ones(n_clusters), n)


@pytest.mark.parametrize("n_clusters", [3, 5, 8])
def test_top_1_is_the_hungarian_accuracy_of_the_argmax(n_clusters):
    y_true, y_proba = random_scores(n_clusters=n_clusters)
    expected = hungarian_accuracy_score(y_true, y_proba.argmax(axis=1))
    assert top_k_hungarian_accuracy_score(y_true, y_proba, k=1) == expected


@pytest.mark.parametrize("k", [6, 7, 100])
def test_with_all_clusters_counting_every_matched_class_is_hit(k):
    y_true, y_proba = random_scores(n_classes=5, n_clusters=6)
    assert top_k_hungarian_accuracy_score(y_true, y_proba, k=k) == 1


def test_a_class_without_a_cluster_is_never_hit():
    y_true, y_proba = [0, 0, 0, 1], [[0.9, 0.1]] * 2 + [[0.2, 0.8]] * 2
    extra = [*y_true, 2]
    got = top_k_hungarian_accuracy_score(extra, [*y_proba, [0.9, 0.1]], k=2)
    assert got == 4 / 5


def test_a_cluster_that_is_nobodys_first_goes_to_the_class_it_is_second_of():
    y_true = ["a", "a", "b", "b"]
    y_proba = [[0.8, 0.1, 0.1]] * 2 + [[0.6, 0.1, 0.3]] * 2
    assert top_k_hungarian_accuracy_score(y_true, y_proba, k=1) == 0.5
    assert top_k_hungarian_accuracy_score(y_true, y_proba, k=2) == 1


def test_top_k_never_falls_with_k():
    y_true, y_proba = random_scores()
    values = [top_k_hungarian_accuracy_score(y_true, y_proba, k=k) for k in range(1, 7)]
    assert values == sorted(values)
    assert values[0] < values[2] < values[-1]


def test_top_k_breaks_ties_as_argmax_does():
    """Of enough clusters for a sort that is not stable to show."""
    rng = np.random.default_rng(0)
    y_true, y_proba = rng.integers(5, size=200), rng.integers(2, size=(200, 300))
    expected = hungarian_accuracy_score(y_true, y_proba.argmax(axis=1))
    assert top_k_hungarian_accuracy_score(y_true, y_proba, k=1) == expected


def test_top_k_errors():
    with pytest.raises(ValueError, match=r"k must be at least 1. Got 0 instead"):
        top_k_hungarian_accuracy_score([0], [[1.0]], k=0)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        top_k_hungarian_accuracy_score([0, 1], [[1.0]])


# --- neighbours --------------------------------------------------------------------


def test_neighbor_purity_is_the_share_of_same_class_neighbours():
    neighbors = [[1, 2], [0, 2], [3, 0], [2, 1]]
    assert neighbor_purity_score(neighbors, [0, 0, 1, 1]) == 0.5
    assert neighbor_purity_score(neighbors, ["x"] * 4) == 1
    assert neighbor_purity_score(neighbors, [0, 1, 2, 3]) == 0


@pytest.mark.parametrize(
    ("neighbors", "span"), [([[2], [0]], "0 to 2"), ([[-2], [0]], "-2 to 0")]
)
def test_neighbors_must_be_row_numbers(neighbors, span):
    with pytest.raises(ValueError, match=f"from {span}; expected .* from 0 to 1"):
        neighbor_purity_score(neighbors, [0, 1])


def test_neighbors_must_be_as_many_as_classes():
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        neighbor_purity_score([[1], [0]], [0, 1, 1])


# --- calibration -------------------------------------------------------------------


def test_the_calibration_error_is_the_distance_of_confidence_and_accuracy():
    """Of samples at 0.7, nine in ten are right, and of those at 0.9 five."""
    y_proba = np.repeat([[0.7, 0.3], [0.1, 0.9]], 10, axis=0)
    y = ["a"] * 9 + ["b"] + ["b"] * 5 + ["a"] * 5
    assert expected_calibration_error(y, y_proba) == pytest.approx(0.3)
    # In one bin, errors of both signs cancel.
    assert expected_calibration_error(y, y_proba, n_bins=1) == pytest.approx(0.1)


def test_the_calibration_error_does_not_depend_on_the_numbers_of_clusters():
    rng = np.random.default_rng(0)
    y_proba = rng.dirichlet(np.full(4, 0.5), size=500)
    y = (y_proba.cumsum(axis=1) < rng.random((500, 1))).sum(axis=1)
    error = expected_calibration_error(y, y_proba)
    assert error < 0.08, "classes were drawn with these probabilities"
    assert expected_calibration_error(y, y_proba[:, [2, 0, 3, 1]]) == error
    surer = y_proba**5 / (y_proba**5).sum(axis=1, keepdims=True)
    assert expected_calibration_error(y, surer) > 0.15


def test_the_calibration_error_takes_classes_as_a_column():
    y, y_proba = (
        np.array([0, 0, 1, 0]),
        [[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.4, 0.6]],
    )
    expected = expected_calibration_error(y, y_proba)
    assert expected_calibration_error(y[:, None], y_proba) == expected


def test_labels_of_mixed_types_are_refused_by_their_types():
    with pytest.raises(TypeError, match=r"all strings. Got values of type int, str\."):
        hungarian_accuracy_score(np.array([0, "b"], dtype=object), [0, 1])


def test_the_calibration_error_needs_probabilities():
    with pytest.raises(ValueError, match="Pass what predict_proba returns"):
        expected_calibration_error([0, 1], [[3.0, -1.0], [0.0, 1.0]])
    with pytest.raises(ValueError, match="n_bins must be at least 1"):
        expected_calibration_error([0, 1], [[0.6, 0.4], [0.0, 1.0]], n_bins=0)


# --- scorers -----------------------------------------------------------------------


def test_scorers_serve_cross_validate():
    group = np.arange(60) % 6
    X, y = 5.0 * group[:, None], group // 2
    scores = cross_validate(
        KMeans(6, n_init=3, random_state=0),
        X,
        y,
        cv=3,
        scoring={"one": hungarian_accuracy_scorer, "many": majority_accuracy_scorer},
    )
    assert (scores["test_one"] < 1).all()  # each class is two clusters
    assert (scores["test_many"] == 1).all()


def test_a_scorer_predicts_and_scores():
    X, y = np.array([[0.0], [0.1], [5.0], [5.1]]), ["a", "b", "b", "b"]
    model = KMeans(2, n_init=1, random_state=0).fit(X)
    assert check_scoring(model, hungarian_accuracy_scorer)(model, X, y) == 0.75


def test_neighbours_that_there_are_not_do_not_count():
    assert neighbor_purity_score([[1, -1], [-1, -1], [0, 1]], [0, 0, 1]) == 1 / 3
    with pytest.raises(ValueError, match="no purity to measure"):
        neighbor_purity_score(np.empty((3, 0), dtype=int), [0, 0, 1])
    with pytest.raises(ValueError, match="no purity to measure"):
        neighbor_purity_score([[-1], [-1]], [0, 0])
