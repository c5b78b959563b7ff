# SPDX-License-Identifier: BSD-3-Clause
import numpy as np
import pytest
from neighbor_helpers import assert_nearest, make_groups
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import NearestNeighbors

from sklearn_scan import neighbors as neighbors_module
from sklearn_scan.neighbors import _search_faiss, _search_torch, mine_neighbors

METRICS = ["cosine", "euclidean"]


def rows(n=120, d=8, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("K", [1, 10, 119])
def test_neighbors_are_those_of_a_brute_force_search(K, metric, device):
    X = rows()
    brute = NearestNeighbors(n_neighbors=K, metric=metric, algorithm="brute").fit(X)
    found = mine_neighbors(X, K, metric=metric, device=device)
    assert found.shape == (120, K)
    assert found.dtype == np.int64
    assert np.array_equal(found, brute.kneighbors(return_distance=False))


def test_a_shifted_embedding_is_searched_as_exactly(device):
    """Far from the origin ||x||² - 2xy cancels, unless rows are centred."""
    X = rows() + np.float32(100)
    found = mine_neighbors(X, 5, metric="euclidean", device=device)
    assert_nearest(found, X, "euclidean")


@pytest.mark.parametrize("metric", METRICS)
def test_no_row_is_its_own_neighbour_among_duplicates(metric, device):
    X = np.repeat(rows(10), 8, axis=0)
    found = mine_neighbors(X, 7, metric=metric, device=device)
    assert (found != np.arange(80)[:, None]).all()
    assert_nearest(found, X, metric)
    assert (found // 8 == np.arange(80)[:, None] // 8).all()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_identical_rows_have_other_rows_as_neighbours(value, metric, device):
    found = mine_neighbors(np.full((30, 4), value), 6, metric=metric, device=device)
    assert found.shape == (30, 6)
    assert (found != np.arange(30)[:, None]).all()
    assert all(len(set(row)) == 6 for row in found.tolist())
    assert found.min() >= 0


def test_a_row_of_zeros_has_the_cosine_zero_with_everything(device):
    """So it is farther than whatever has a positive cosine."""
    X = [[1, 0], [0.4, np.sqrt(1 - 0.4**2)], [0, 0], [-1, 0]]
    found = mine_neighbors(X, 3, device=device)
    assert found[0].tolist() == [1, 2, 3]


def test_zero_rows_agree_with_brute_force(device):
    X = rows(40)
    X[::5] = 0
    assert_nearest(mine_neighbors(X, 12, device=device), X, "cosine")


def test_the_cosine_ignores_the_length_of_rows(device):
    X = rows()
    stretched = X * np.geomspace(1e-3, 1e3, len(X), dtype=np.float32)[:, None]
    expected = mine_neighbors(X, 5, device=device)
    assert np.array_equal(mine_neighbors(stretched, 5, device=device), expected)


@pytest.mark.parametrize("scale", [1e-25, 1e25])
@pytest.mark.parametrize("metric", METRICS)
def test_rows_of_extreme_length_are_searched(scale, metric, device):
    """Their squares are beyond float32."""
    X = rows(40)
    expected = mine_neighbors(X, 5, metric=metric, device=device)
    got = mine_neighbors(X * np.float32(scale), 5, metric=metric, device=device)
    assert np.array_equal(got, expected)


@pytest.mark.parametrize("K", [-1, 0, 5, 6])
def test_K_out_of_range_is_refused(K):
    message = rf"K={K} neighbours .* 5 samples; K must be between 1 and 4"
    with pytest.raises(ValueError, match=message):
        mine_neighbors(rows(5), K)


def test_one_row_has_no_neighbour():
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        mine_neighbors([[1.0, 2.0]], 1)


def test_an_unknown_metric_is_refused():
    with pytest.raises(ValueError, match=r"must be .* Got 'manhattan'"):
        mine_neighbors(rows(5), 1, metric="manhattan")


def test_nan_is_refused():
    X = rows(5)
    X[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        mine_neighbors(X, 1)


@pytest.mark.parametrize(
    "convert",
    [
        pytest.param(np.float64, id="float64"),
        pytest.param(np.ndarray.tolist, id="list"),
        pytest.param(np.asfortranarray, id="fortran"),
    ],
)
def test_what_holds_the_numbers_does_not_matter(convert, device):
    X = rows()
    expected = mine_neighbors(X, 4, device=device)
    assert np.array_equal(mine_neighbors(convert(X), 4, device=device), expected)


def test_the_embedding_is_left_as_it_was(device):
    X = rows()
    X.flags.writeable = False
    mine_neighbors(X, 4, device=device)
    assert np.array_equal(X, rows())


@pytest.mark.parametrize("block", [700, 2**28])
def test_torch_finds_what_faiss_finds(monkeypatch, device, block):
    monkeypatch.setattr(neighbors_module, "_BLOCK", block)
    X = rows()
    for metric in ("euclidean", "cosine"):
        found = _search_torch(X, 9, metric, device)
        assert np.array_equal(found, _search_faiss(X, 9, metric))


# Beyond what can be compared one by one.


@pytest.fixture(scope="module")
def crowd():
    return make_groups(6000)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("recall", [0.9, 0.99])
def test_cells_hold_the_share_of_neighbours_that_was_asked_for(crowd, metric, recall):
    brute = mine_neighbors(crowd, 10, metric=metric, algorithm="brute")
    found = mine_neighbors(crowd, 10, metric=metric, algorithm="ivf", recall=recall)
    assert found.shape == brute.shape
    assert found.dtype == np.int64
    assert (found != np.arange(len(crowd))[:, None]).all()
    hits = np.mean([np.isin(b, f).mean() for b, f in zip(brute, found, strict=True)])
    # Measured on 256 rows, it may be a little less on all.
    assert hits >= recall - 0.02


def test_all_cells_hold_all_neighbours(crowd):
    brute = mine_neighbors(crowd[:1500], 10, algorithm="brute")
    found = mine_neighbors(crowd[:1500], 10, algorithm="ivf", recall=1.0)
    assert np.mean(brute == found) > 0.99, "but for half precision"


@pytest.mark.parametrize("metric", METRICS)
def test_cells_with_too_few_rows_are_no_reason_to_return_none(metric):
    """Most rows are alike and share a cell; K is more than the other cells hold."""
    X = np.concatenate([np.ones((300, 4)), rows(20, 4)]).astype(np.float32)
    found = mine_neighbors(X, 250, metric=metric, algorithm="ivf", recall=0.01)
    assert found.min() >= 0
    assert all(len(set(row)) == 250 for row in found.tolist())
    assert (found != np.arange(len(X))[:, None]).all()


def far_out(X):
    X = X.copy()
    X[7] = 1e8
    return X


@pytest.mark.parametrize(
    ("spoil", "metric"),
    [
        pytest.param(far_out, "euclidean", id="a row far out"),
        pytest.param(lambda X: 1 + 3e-4 * X, "cosine", id="a narrow cone"),
        pytest.param(lambda X: X + 1e3, "euclidean", id="far from the origin"),
    ],
)
def test_half_precision_tells_rows_apart(crowd, spoil, metric):
    X = spoil(crowd[:2000])
    distance = pairwise_distances(X.astype(np.float64), metric=metric)
    np.fill_diagonal(distance, np.inf)
    true = distance.argsort(axis=1)[:, :10]
    found = mine_neighbors(X, 10, metric=metric, algorithm="ivf")
    hits = [np.isin(t, f).mean() for t, f in zip(true, found, strict=True)]
    assert np.mean(hits) > 0.9


def test_rows_alike_are_found_without_looking_everywhere(crowd, monkeypatch):
    X = np.repeat(crowd[:100], 40, axis=0)
    depths = []
    search = neighbors_module._search_all_found

    def seen(index, *args):
        depths.append(index.nprobe)
        return search(index, *args)

    monkeypatch.setattr(neighbors_module, "_search_all_found", seen)
    found = mine_neighbors(X, 20, algorithm="ivf")
    assert (found // 40 == np.arange(len(X))[:, None] // 40).mean() > 0.99
    assert max(depths) < 60, "of 63 cells"


def test_auto_changes_the_algorithm_where_brute_force_takes_too_long(
    crowd, monkeypatch
):
    monkeypatch.setattr(neighbors_module, "_MOST_FOR_BRUTE", len(crowd))
    brute = mine_neighbors(crowd, 5)
    assert np.array_equal(brute, mine_neighbors(crowd, 5, algorithm="brute"))
    monkeypatch.setattr(neighbors_module, "_MOST_FOR_BRUTE", len(crowd) - 1)
    assert np.array_equal(
        mine_neighbors(crowd, 5), mine_neighbors(crowd, 5, algorithm="ivf")
    )


def test_blocks_leave_nothing_out(crowd, monkeypatch):
    expected = mine_neighbors(crowd, 5, algorithm="ivf", recall=1.0)
    monkeypatch.setattr(neighbors_module, "_ROWS_AT_A_TIME", 999)
    found = mine_neighbors(crowd, 5, algorithm="ivf", recall=1.0)
    assert np.mean(found == expected) > 0.99


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"algorithm": "kd_tree"}, r'must be "auto", "brute" or "ivf". Got \'kd_tree'),
        ({"algorithm": "ivf", "device": "meta"}, "needs faiss and the CPU"),
        ({"recall": 0}, r"recall must be in \(0, 1\]. Got 0"),
        ({"recall": 1.5}, "Got 1.5"),
    ],
)
def test_wrong_ways_to_search_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        mine_neighbors(rows(), 3, **given)
