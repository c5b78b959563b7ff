# SPDX-License-Identifier: BSD-3-Clause
"""The search in bfloat16 finds what the search in float32 finds."""

import numpy as np
import pytest
import torch
from neighbor_helpers import assert_nearest, make_groups

from sklearn_scan import _tiled_search, neighbors
from sklearn_scan.neighbors import mine_neighbors

METRICS = ["cosine", "euclidean"]
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


@pytest.fixture
def searched_again(monkeypatch):
    """Search in tiles whatever the CPU; return how many rows float32 was asked for."""
    counts = []

    def search(rows, n_candidates, metric, queries):
        counts.append(len(queries))
        return neighbors._search_faiss(rows, n_candidates, metric, queries)

    def search_in_tiles(rows, n_candidates, metric):
        return _tiled_search.search_tiled(rows, n_candidates, metric, search)

    monkeypatch.setattr(neighbors, "has_tiles", lambda: True)
    monkeypatch.setattr(neighbors, "_FEWEST_FOR_TILES", 0)
    monkeypatch.setattr(neighbors, "_ROWS_PER_NEIGHBOR", 0)
    monkeypatch.setattr(neighbors, "_search_in_tiles", search_in_tiles)
    return counts


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("n_features", "K"), [(3, 10), (16, 20), (40, 51), (200, 1)])
def test_neighbors_are_the_nearest(n_features, K, metric, searched_again):
    X = make_groups(n_features=n_features)
    assert_nearest(mine_neighbors(X, K, metric=metric), X, metric, **CLOSE)
    # Most rows need no second search.
    assert sum(searched_again) < len(X) / 4


@pytest.mark.parametrize("block", [1, 10_000, 300_000])
def test_size_of_blocks_does_not_matter(block, searched_again, monkeypatch):
    X = make_groups()
    expected = mine_neighbors(X, 10)
    monkeypatch.setattr(_tiled_search, "_BLOCK", block)
    monkeypatch.setattr(_tiled_search, "_MOST_UNCERTAIN", 1)
    assert (mine_neighbors(X, 10) == expected).mean() > 0.999  # but for ties


def far_out(X):
    X = X.copy()
    X[7] = 1e6
    return X


def with_zeros(X):
    X = X.copy()
    X[::5] = 0
    return X


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    "spoil",
    [
        far_out,
        with_zeros,
        pytest.param(lambda X: 1 + 1e-2 * X, id="a narrow cone"),
        pytest.param(lambda X: X + 100, id="far from the origin"),
        pytest.param(lambda X: np.repeat(X[:100], 30, axis=0), id="duplicates"),
        pytest.param(lambda X: np.full_like(X, 3), id="all alike"),
        pytest.param(np.zeros_like, id="zeros"),
        pytest.param(lambda X: np.float32(1e25) * X, id="huge"),
        pytest.param(lambda X: np.float32(1e-25) * X, id="tiny"),
    ],
)
def test_odd_rows_are_searched(spoil, metric, searched_again):
    X = spoil(make_groups())
    found = mine_neighbors(X, 10, metric=metric)
    assert (found != np.arange(len(X))[:, None]).all()
    assert found.min() >= 0
    scale = np.median(np.abs(X).max(axis=1)) or 1
    with np.errstate(over="ignore"):
        assert_nearest(found, X / scale, metric, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("spread", [1e-4, 1e-3, 1e-2])
def test_what_rounding_hides_is_searched_for_again(spread, searched_again):
    """Groups are far from each other, and their members nearer than bfloat16 tells."""
    random = np.random.default_rng(0)
    centers = random.normal(size=(20, 8)).astype(np.float32)
    X = np.repeat(centers, 100, axis=0)
    X = (X + spread * random.normal(size=X.shape)).astype(np.float32)
    found = mine_neighbors(X, 10, metric="euclidean")
    assert_nearest(found, X, "euclidean", rtol=0.02, atol=3e-5)
    assert searched_again


def test_some_rows_are_searched_for_again(searched_again):
    """Among groups of which one is very small."""
    X = make_groups(n_features=8)
    X[:60] = X[0] + 1e-3 * (X[:60] - X[0])
    found = mine_neighbors(X, 10, metric="euclidean")
    assert_nearest(found, X, "euclidean", rtol=1e-3, atol=1e-4)
    assert 0 < sum(searched_again) < len(X) / 2


def test_unfit_data_are_searched_once(searched_again, monkeypatch):
    monkeypatch.setattr(_tiled_search, "_BFLOAT16", 1)
    monkeypatch.setattr(_tiled_search, "_BLOCK", 10_000)
    X = make_groups()
    assert_nearest(mine_neighbors(X, 10), X, "cosine", **CLOSE)
    assert searched_again == [len(X)]


def test_neighbors_across_a_step_of_rounding_are_found(searched_again):
    """All candidates are rounded as their row is, and the nearest is not."""
    random = np.random.default_rng(0)
    codes = random.choice([-1, 1], size=(3000, 4))
    jitter = 1e-5 * random.choice([-1, 1], size=(3000, 1))
    X = np.hstack(
        [codes * (0.75 + 2**-9 + jitter), 3e-3 * random.normal(size=(3000, 6))]
    )
    X = np.hstack([X, np.zeros((3000, 1))])
    X[:2] = 0
    X[:2, -1] = 1, -1
    X = X.astype(np.float32)
    found = mine_neighbors(X, 20, metric="euclidean")
    expected = neighbors._search_faiss(neighbors._unit_scale(X), 21, "euclidean")
    hits = [np.isin(e, f).sum() for e, f in zip(expected, found, strict=True)]
    assert np.mean(hits) > 0.99 * 20


def test_rows_at_the_center_find_who_is_nearer_by_less_than_a_step(searched_again):
    X = np.zeros((300, 64), dtype=np.float32)
    at = np.arange(1, 129)
    X[at, (at - 1) // 2] = np.where(at % 2, 1, -1)
    X[at[:6]] *= 0.9995
    X[129:] = 50 * np.sign(make_groups(171, 64))
    X[129:] -= X[129:].mean(axis=0)
    found = mine_neighbors(X, 6, metric="euclidean")
    assert sorted(found[0]) == [1, 2, 3, 4, 5, 6]


def test_what_the_user_has_set_changes_nothing(searched_again):
    X = make_groups()
    expected = mine_neighbors(X, 10)
    with torch.autocast("cpu", torch.bfloat16):
        assert np.array_equal(mine_neighbors(X, 10), expected)
    with torch.device("meta"):
        assert np.array_equal(mine_neighbors(X, 10), expected)


@pytest.mark.parametrize(
    ("has_tiles", "n", "K", "is_tiled"),
    [(True, 6000, 20, 1), (False, 6000, 20, 0), (True, 900, 5, 0), (True, 6000, 99, 0)],
)
def test_tiles_are_taken_where_they_are_fast(has_tiles, n, K, is_tiled, monkeypatch):
    seen = []

    def spy(*args):
        seen.append(args)
        return neighbors._search_faiss(*args)

    monkeypatch.setattr(neighbors, "has_tiles", lambda: has_tiles)
    monkeypatch.setattr(neighbors, "_FEWEST_FOR_TILES", 5000)
    monkeypatch.setattr(neighbors, "_ROWS_PER_NEIGHBOR", 100)
    monkeypatch.setattr(neighbors, "_search_in_tiles", spy)
    mine_neighbors(make_groups(n), K)
    assert len(seen) == is_tiled
