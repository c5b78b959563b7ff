# SPDX-License-Identifier: BSD-3-Clause
"""Whatever labels and neighbours metrics are given, they answer or refuse."""

import warnings

import numpy as np
import pandas as pd
from fuzzing import attempt, cases
from hypothesis import given
from hypothesis import strategies as st

from sklearn_scan import metrics
from sklearn_scan.neighbors import check_neighbors, mine_neighbors

_VALUES = st.one_of(
    st.integers(-2, 4),
    st.integers(-(2**63), 2**63 - 1),
    st.booleans(),
    st.floats(),
    st.text(max_size=2),
    st.none(),
    st.tuples(st.integers(0, 1)),
)
_LABELS = st.one_of(
    st.lists(st.integers(0, 4), min_size=12, max_size=12),
    st.lists(st.integers(0, 4), min_size=12, max_size=12),
    st.lists(st.sampled_from(["a", "b", ""]), min_size=12, max_size=12),
    st.lists(st.sampled_from([0, 1, "b"]), min_size=12, max_size=12),
    st.lists(_VALUES, max_size=12),
)
_FORMS = st.sampled_from(
    [
        list,
        tuple,
        np.array,
        pd.Series,
        lambda values: np.array(values, dtype=object),
        lambda values: np.array(values)[:, None],
        lambda values: pd.Series(values, dtype="category"),
        lambda values: None,
        lambda values: values[0] if values else 3,
    ]
)
_TABLES = st.sampled_from(["even", "sharp", "negative", "nan", "unnormalised", "wide"])


def form(values, how):
    """Return labels as a user may hold them."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pandas
            return how(values)
    except (TypeError, ValueError, OverflowError, IndexError):
        return values


@cases(350)
@given(_LABELS, _LABELS, _FORMS, st.booleans())
def test_partitions_are_compared_or_refused(first, second, how, is_same):
    y_true, y_pred = form(first, how), form(first if is_same else second, how)
    found = attempt(metrics.hungarian_accuracy_score, y_true, y_pred)
    most = attempt(metrics.majority_accuracy_score, y_true, y_pred)
    assert (found is None) == (most is None)
    if found is not None:
        assert 0 <= found <= most + 1e-12 <= 1 + 2e-12
        assert found == 1 or not is_same
        assert attempt(metrics.hungarian_accuracy_score, y_pred, y_true) == found
    aligned = attempt(metrics.align_labels, y_true, y_pred)
    table = attempt(metrics.aligned_confusion_matrix, y_true, y_pred)
    if aligned is not None:
        assert len(aligned) == len(np.ravel(y_pred))
    if found is not None and table is not None:
        counts = np.asarray(table[0] if isinstance(table, tuple) else table)
        assert counts.sum() == len(np.ravel(y_true))


@cases(120)
@given(_LABELS, _TABLES, st.integers(0, 13), st.integers(-1, 6), st.integers(0, 2**16))
def test_probabilities_are_scored_or_refused(labels, kind, n_rows, k, seed):
    random = np.random.default_rng(seed)
    table = np.exp(random.normal(size=(n_rows, 9 if kind == "wide" else 5)))
    table /= table.sum(axis=1, keepdims=True)
    if kind == "sharp":
        table = np.eye(table.shape[1])[table.argmax(axis=1)]
    elif table.size and kind in ("negative", "nan"):
        table[0, 0] = -1 if kind == "negative" else np.nan
    elif kind == "unnormalised":
        table *= 2
    for found in (
        attempt(metrics.top_k_hungarian_accuracy_score, labels, table, k=k),
        attempt(metrics.expected_calibration_error, labels, table),
        attempt(metrics.expected_calibration_error, labels, table, n_bins=k),
    ):
        assert found is None or 0 <= found <= 1


@cases(120)
@given(
    st.lists(st.lists(st.integers(-3, 13), min_size=3, max_size=3), max_size=12),
    _LABELS,
    st.integers(0, 13),
    st.sampled_from([np.int64, np.uint8, np.float32, object, str]),
)
def test_neighbours_are_read_or_refused(neighbors, labels, n_samples, dtype):
    given_ = np.array(neighbors, dtype=np.int64).reshape(-1, 3).astype(dtype)
    checked = attempt(check_neighbors, given_, n_samples)
    if checked is not None:
        assert len(checked) == n_samples
        assert ((checked >= -1) & (checked < n_samples)).all()
    purity = attempt(metrics.neighbor_purity_score, given_, labels)
    assert purity is None or 0 <= purity <= 1


@cases(120)
@given(
    st.integers(0, 12),
    st.integers(0, 4),
    st.integers(-1, 14),
    st.sampled_from(["cosine", "euclidean", "manhattan", None]),
    st.sampled_from([1, 0, 1e-30, 1e30, np.nan, np.inf]),
    st.booleans(),
)
def test_neighbours_are_mined_or_refused(n, width, K, metric, scale, has_twins):
    rows = np.random.default_rng(n).normal(size=(n, width)) * scale
    if has_twins and n > 1:
        rows[1:] = rows[0]
    found = attempt(mine_neighbors, rows.astype(np.float32), K, metric=metric)
    if found is not None:
        assert found.shape == (n, K)
        assert ((found >= 0) & (found < n)).all()
        assert (found != np.arange(n)[:, None]).all()
        assert all(len(set(row)) == K for row in found.tolist())
