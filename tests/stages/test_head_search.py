# SPDX-License-Identifier: BSD-3-Clause
"""Where heads begin, and what becomes of the best of them."""

from functools import partial

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.cluster import KMeans, SpectralClustering
from sklearn.datasets import load_digits, load_iris, make_blobs
from sklearn.decomposition import PCA
from torch import nn

from sklearn_scan import SCANClustering, TrainingConfig
from sklearn_scan._engine import NeighborPairs, SampleDraw, Schedule
from sklearn_scan._engine._trainer import Trainer
from sklearn_scan._inputs import ArraySource, learn_format
from sklearn_scan._losses import SCANLoss
from sklearn_scan._nets import ClusterNetwork, LinearHeads
from sklearn_scan._stages import Evaluator, MinedSamples, search_heads
from sklearn_scan._stages._following import follow_partition, respect_sizes
from sklearn_scan._stages._graph import GraphSample, predict_labels
from sklearn_scan._stages._head_search import project, shortlist_heads
from sklearn_scan._stages._linear_steps import fit_partitions
from sklearn_scan._stages._partitions import embed_graph, find_partitions, measure_cut
from sklearn_scan._stages._polishing import polish_head
from sklearn_scan.metrics import hungarian_accuracy_score
from sklearn_scan.neighbors import choose_metric, mine_neighbors
from sklearn_scan.pretext import SimCLR

# Two rings, which k-means cuts and neighbours tell apart.
ANGLES = np.linspace(0, 2 * np.pi, 200, endpoint=False)
CIRCLE = np.column_stack([np.cos(ANGLES), np.sin(ANGLES)])
RINGS = np.concatenate([CIRCLE, 4 * CIRCLE]).astype(np.float32)
RING = np.repeat([0, 1], 200)


def clusters_of_rows(n_heads, is_learned=True):
    """Return samples in three blobs, and heads at random on them."""
    X, y = make_blobs(150, centers=3, random_state=0)
    X = X.astype(np.float32)
    source = ArraySource(X, learn_format(X), torch.device("cpu"))
    neighbors = mine_neighbors(X, 5, metric="euclidean")
    torch.manual_seed(0)
    heads = LinearHeads(2, 3, n_heads)
    return (
        MinedSamples(source, neighbors, is_learned=is_learned),
        ClusterNetwork(nn.Identity(), heads, nn.Identity()),
        y,
    )


# Where heads begin.


def test_partitions_are_of_the_graph_and_of_the_rows_in_turn():
    neighbors = mine_neighbors(RINGS, 5, metric="euclidean")
    neighbors[0, 0] = 200  # a bridge between the rings
    torch.manual_seed(0)
    partitions = find_partitions(RINGS, neighbors, 2, 4)
    scores = [hungarian_accuracy_score(RING, found) for found in partitions]
    assert min(scores[0], scores[2]) > 0.99
    assert max(scores[1], scores[3]) < 0.8


def test_without_neighbours_all_partitions_are_of_the_rows():
    torch.manual_seed(0)
    nobody = np.empty((len(RINGS), 0), dtype=np.int64)
    for found in find_partitions(RINGS, nobody, 2, 3):
        assert hungarian_accuracy_score(RING, found) < 0.8


def test_a_graph_of_gaps_is_read_past_them():
    neighbors = mine_neighbors(RINGS, 5, metric="euclidean")
    neighbors[::3, 2:] = -1
    neighbors[7] = -1
    torch.manual_seed(0)
    vectors = embed_graph(neighbors, 2)
    assert np.isfinite(vectors).all()
    found = KMeans(2, n_init=10, random_state=0).fit_predict(vectors)
    assert hungarian_accuracy_score(RING, found) > 0.99


@pytest.mark.parametrize("n", [300, 1200])  # all eigenvectors, and the leading ones
def test_the_graph_is_embedded_as_by_eigenvectors(n):
    X, _ = make_blobs(n, centers=4, cluster_std=2, random_state=0)
    neighbors = mine_neighbors(X, 10, metric="euclidean")
    torch.manual_seed(0)
    vectors = embed_graph(neighbors, 4)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    graph = np.zeros((n, n))
    graph[np.arange(n)[:, None], neighbors] = 0.5
    spectral = SpectralClustering(4, affinity="precomputed", random_state=0)
    expected = spectral.fit_predict(graph + graph.T)
    found = KMeans(4, n_init=10, random_state=0).fit_predict(vectors)
    assert hungarian_accuracy_score(expected, found) > 0.95


def test_heads_learn_the_partitions_that_they_are_given():
    X, y = make_blobs(300, centers=3, random_state=0)
    rows = torch.tensor(X - X.mean(axis=0), dtype=torch.float32)
    torch.manual_seed(0)
    heads = LinearHeads(2, 3, 2)
    fit_partitions(heads, rows, [y, (y + 1) % 3])
    labels = heads(rows).argmax(dim=2).numpy()
    assert (labels[0] == y).mean() > 0.9
    assert (labels[1] == (y + 1) % 3).mean() > 0.9


@pytest.mark.parametrize("n_epochs", [0, 400])
def test_the_shortlist_has_the_heads_with_the_lowest_losses(n_epochs):
    samples, network, _ = clusters_of_rows(n_heads=30)
    schedule = Schedule(epochs=n_epochs, batch_size=512, lr=1e-2)
    before = Evaluator(samples, 5.0).losses(network)
    features = torch.tensor(samples.source.array)
    pairs, loss = samples.make_pairs(), SCANLoss(5.0)
    shortlist_heads(network, samples, features, pairs, loss, schedule)
    after = Evaluator(samples, 5.0).losses(network)
    assert network.heads.n_heads == 20
    if n_epochs:
        assert after.max() < before.sort().values[:20].mean()
    else:
        torch.testing.assert_close(after, before.sort().values[:20])


def test_twenty_heads_need_no_shortlist():
    samples, network, _ = clusters_of_rows(n_heads=20)
    heads = network.heads
    shortlist_heads(network, samples, None, None, None, None)
    assert network.heads is heads


@pytest.mark.parametrize(("is_learned", "n_kept"), [(True, 20), (False, 30)])
def test_heads_on_a_learned_embedding_are_shortlisted(monkeypatch, is_learned, n_kept):
    """On rows the cut decides, of which the loss tells little."""
    trained = []
    original = Trainer.run

    def run(trainer, stage):
        if stage.name == "head_search":
            trained.append(stage.module.heads.n_heads)
        return original(trainer, stage)

    monkeypatch.setattr(Trainer, "run", run)
    images = load_digits().images[:100]
    X = images if is_learned else images.reshape(100, -1)
    pretext = SimCLR(epochs=1) if is_learned else "auto"
    parameters = {"clustering": None, "self_labeling": None, "random_state": 0}
    SCANClustering(3, n_heads=30, pretext=pretext, **parameters).fit(X)
    assert trained == [n_kept]


@pytest.mark.parametrize(("sizes", "seed"), [((300, 60, 30), 0), ((900, 30, 15), 1)])
def test_pieces_that_nothing_joins_are_the_clusters_whatever_their_sizes(sizes, seed):
    centers = [[0, 0, 0], [12, 0, 0], [0, 12, 0]]
    X, y = make_blobs(sizes, centers=centers, random_state=seed)
    labels = SCANClustering(3, K=10, random_state=seed).fit(X).labels_
    assert hungarian_accuracy_score(y, labels) == 1


def test_pieces_that_no_linear_head_can_tell_are_not_all():
    clusterer = SCANClustering(2, K=5, random_state=0).fit(RINGS)
    assert len(np.unique(clusterer.labels_)) == 2


# What becomes of the best.


def test_a_head_is_polished_with_neighbours_that_agree():
    """A neighbour of the other kind is drawn seldom, and so does not pull."""
    X, y = make_blobs(400, centers=[[-2, 0], [2, 0]], random_state=0)
    X = X.astype(np.float32)
    order = np.random.default_rng(0)
    same = np.stack([order.choice(np.flatnonzero(y == c), 3) for c in y])
    other = np.stack([order.choice(np.flatnonzero(y != c), 3) for c in y])
    source = ArraySource(X, learn_format(X), torch.device("cpu"))
    torch.manual_seed(0)
    heads = LinearHeads(2, 2)
    with torch.no_grad():
        heads.linear.weight.copy_(torch.tensor([[-0.6, 0], [0.6, 0]]))
        heads.linear.bias.zero_()
    network = ClusterNetwork(nn.Identity(), heads, nn.Identity())
    network.encoder.n_features = 2
    before = network.probabilities(torch.tensor(X)).amax(dim=1).mean()
    samples = MinedSamples(source, np.hstack([same, other]))
    polish_head(network, samples, SCANLoss(1.0), 300)
    probabilities = network.probabilities(torch.tensor(X))
    assert hungarian_accuracy_score(y, probabilities.argmax(dim=1)) > 0.95
    assert probabilities.amax(dim=1).mean() > before


def test_wide_rows_are_clustered_by_their_components_and_predicted_as_they_are():
    random = np.random.default_rng(0)
    X, y = make_blobs(300, n_features=400, centers=3, cluster_std=3, random_state=0)
    X = X.astype(np.float32)
    source = ArraySource(X, learn_format(X), torch.device("cpu"))
    projected, components = project(source)
    assert components.shape == (400, 256)
    assert projected.array.shape == (300, 256)
    clusterer = SCANClustering(3, n_heads=2, random_state=0).fit(X)
    assert clusterer.net_.module_.heads.linear.in_features == 400
    assert hungarian_accuracy_score(y, clusterer.labels_) == 1
    far = X + random.normal(size=X.shape).astype(np.float32)
    assert (clusterer.predict(far) == clusterer.labels_).mean() > 0.99


# Clusters of unequal sizes.


def test_the_cut_is_the_mean_over_clusters_of_the_neighbours_cut_off():
    neighbors = np.array([[1, 2], [0, 2], [0, -1], [4, 0], [3, -1], [-1, -1]])
    labels = np.array([0, 0, 0, 1, 1, 1])
    # In cluster 0 none of five is cut off; in cluster 1 one of three.
    assert measure_cut(labels, neighbors, 2) == pytest.approx((0 + 1 / 3) / 2)


def test_an_empty_cluster_counts_more_than_any_cut():
    neighbors = np.array([[1], [0], [3], [2]])
    labels = np.array([0, 0, 1, 1])
    cut = measure_cut(labels, neighbors, 3)
    assert cut == pytest.approx(1 / 3 + 0.1 * (np.log(3) - np.log(2)) + 1)
    strangers = np.array([[2], [3], [0], [1]])
    assert measure_cut(np.array([0, 1, 2, 0]), strangers, 3) < cut


def test_a_cluster_of_samples_without_neighbours_is_cut_off():
    neighbors = np.array([[1], [0], [-1], [-1]])
    assert measure_cut(np.array([0, 0, 1, 1]), neighbors, 2) == pytest.approx(1 / 2)


def test_a_cut_costs_a_small_cluster_more():
    labels = np.repeat([0, 1], [90, 10])
    entropy = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))
    for lost, size in ((0, 90), (99, 10)):
        neighbors = np.arange(100)[:, None]  # all of the same cluster, but for one
        neighbors[lost] = 99 - lost
        expected = (1 / size) / 2 + 0.1 * (np.log(2) - entropy)
        assert measure_cut(labels, neighbors, 2) == pytest.approx(expected)


@pytest.mark.parametrize("best", range(3))
def test_of_many_heads_the_one_that_cuts_least_stays(best):
    rows = torch.eye(3).repeat_interleave(10, dim=0)
    neighbors = np.arange(30) // 10 * 10 + (np.arange(30) + 1) % 10
    heads = LinearHeads(3, 3, n_heads=3)
    with torch.no_grad():
        heads.linear.weight.zero_()
        heads.linear.weight[3 * best : 3 * best + 3] = 9 * torch.eye(3)
        heads.linear.bias.zero_()
    head = GraphSample(rows, neighbors[:, None], 3).find_best_head(heads)
    assert torch.equal(head.linear.weight, 9 * torch.eye(3))


def overlapping(sizes, seed=0):
    """Return clusters in ten dimensions whose graph is one piece."""
    random = np.random.default_rng(seed)
    centers = 2.5 * random.normal(size=(len(sizes), 10))
    y = np.repeat(np.arange(len(sizes)), sizes)
    return (centers[y] + random.normal(size=(len(y), 10))).astype(np.float32), y


SIZES = (500, 320, 200, 130, 80, 50)


def follow(partition):
    """Let a head that splits a large cluster and merges small ones see a partition."""
    X, y = overlapping(SIZES)
    rows = torch.tensor(X - X.mean(axis=0))
    source = ArraySource(rows.numpy(), learn_format(X), torch.device("cpu"))
    graph = mine_neighbors(X, 20, metric="euclidean")
    graph[::7, 10:] = -1
    split = np.where(y == 5, 4, y)
    split[(y == 0) & (X[:, 0] > np.median(X[y == 0, 0]))] = 5
    torch.manual_seed(0)
    heads = LinearHeads(10, 6)
    fit_partitions(heads, rows, [split], 300)
    before = predict_labels(heads, rows)
    sample = GraphSample(rows, graph, 6)
    partitions = [y if partition == "classes" else before]
    pairs = NeighborPairs(source, graph)
    loss = SCANLoss(5.0, 100)
    follow = partial(follow_partition, rows, sample, pairs.draw_neighbors, loss, 1000)
    follower = respect_sizes(heads, sample, partitions, follow)
    after = predict_labels(follower or heads, rows)
    scores = [hungarian_accuracy_score(y, labels) for labels in (before, after)]
    return scores, follower is not None


def test_a_head_gives_way_to_one_that_follows_a_better_partition():
    (before, after), is_replaced = follow("classes")
    assert is_replaced
    assert before < 0.85
    assert after > 0.97


def test_a_head_stays_where_no_partition_cuts_clearly_less():
    (before, after), is_replaced = follow("its own")
    assert not is_replaced
    assert after == before < 0.85


def rare_digits():
    """Return the digits with class sizes from 10 to 1."""
    X, y = load_digits(return_X_y=True)
    kept = [np.flatnonzero(y == k)[: int(178 * 0.1 ** (k / 9))] for k in range(10)]
    kept = np.concatenate(kept)
    return X[kept], y[kept]


def test_digits_of_which_some_are_rare_keep_their_sizes():
    """The SCAN loss alone splits the common ones: 0.64 to 0.73."""
    X, y = rare_digits()
    labels = SCANClustering(10, random_state=0).fit(X).labels_
    assert hungarian_accuracy_score(y, labels) > 0.79


def test_heads_that_follow_a_partition_are_the_same_from_a_cache(tmp_path, monkeypatch):
    """And polishing and the stages after are told how often samples count."""
    told = []

    def polish(network, samples, *args):
        told.append(samples.sample_weight)

    def search(*args):
        network, weight = search_heads(*args)
        told.append(weight)
        return network, weight

    monkeypatch.setattr("sklearn_scan._stages._head_search.polish_head", polish)
    monkeypatch.setattr("sklearn_scan._scan.search_heads_once", search)
    X, _ = rare_digits()
    fits = [
        SCANClustering(
            10,
            n_heads=2,
            head_search=TrainingConfig(epochs=20),
            random_state=0,
            memory=tmp_path,
        ).fit(X)
        for _ in range(2)
    ]
    assert np.array_equal(fits[0].confidence_, fits[1].confidence_)
    for clusterer, weight in zip(np.repeat(fits, 2), told, strict=True):
        shares = np.bincount(clusterer.labels_, weight)
        np.testing.assert_allclose(shares, shares.mean())


def test_samples_are_drawn_as_often_as_their_weights_say():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    torch.manual_seed(0)
    drawn = SampleDraw(100, 1 / np.bincount(labels)[labels])(30_000).numpy()
    np.testing.assert_allclose(np.bincount(labels[drawn]) / 30_000, 1 / 3, atol=0.01)
    counts = np.bincount(drawn, minlength=100)
    np.testing.assert_allclose(counts[:60] / counts[:60].mean(), 1, atol=0.3)
    assert SampleDraw(3, np.array([0, 1, 0]))(5).tolist() == [1] * 5


def test_where_the_graph_has_no_edges_the_loss_decides(monkeypatch):
    """A cut of nothing says nothing."""
    selected = []
    select = Evaluator.keep_best_head
    monkeypatch.setattr(
        Evaluator, "keep_best_head", lambda *args: selected.append(1) or select(*args)
    )
    X, y = make_blobs(600, centers=3, random_state=0)
    quick = SCANClustering(
        3, n_heads=2, head_search=TrainingConfig(epochs=20), random_state=0
    )
    nobody = np.full((600, 2), -1)
    for fitted in (clone(quick).set_params(K=0).fit(X), quick.fit(X, neighbors=nobody)):
        assert hungarian_accuracy_score(y, fitted.labels_) > 0.9
    assert len(selected) == 2


def test_of_many_samples_some_tell_the_partitions(monkeypatch):
    """Wide ones are projected for that, and back."""
    monkeypatch.setattr("sklearn_scan._stages._graph.MOST_PARTITIONED", 300)
    X, y = rare_digits()
    wide = np.tile(X, 5)
    clusterer = SCANClustering(10, random_state=0).fit(wide)
    assert hungarian_accuracy_score(y, clusterer.labels_) > 0.7
    assert clusterer.predict(wide).tolist() == clusterer.labels_.tolist()


def test_labels_are_predicted_in_blocks(monkeypatch):
    rows, head = torch.randn(50, 4), LinearHeads(4, 3)
    expected = predict_labels(head, rows)
    monkeypatch.setattr("sklearn_scan._stages._graph._BLOCK", 21)
    monkeypatch.setattr(head, "forward", watch_length(head.forward, 7))
    assert np.array_equal(predict_labels(head, rows), expected)


def watch_length(function, most):
    def watched(rows):
        assert len(rows) <= most
        return function(rows)

    return watched


def test_pairs_are_visited_as_often_as_their_weights_say():
    source = ArraySource(np.zeros((40, 2), np.float32), None, torch.device("cpu"))
    weights = np.repeat([0.0, 2.0], 20)
    pairs = NeighborPairs(source, np.zeros((40, 1), np.int64), weights)
    torch.manual_seed(0)
    order = pairs.order()
    assert len(order) == 40
    assert order.min() >= 20
    assert len(np.unique(order)) < 20, "with replacement"
    even = NeighborPairs(source, np.zeros((40, 1), np.int64))
    assert sorted(even.order().tolist()) == list(range(40))


# The weight of the entropy.


def test_the_weight_of_the_entropy_falls_after_a_quarter_of_the_steps():
    loss, logits = SCANLoss(5.0, n_steps=8), torch.randn(1, 6, 3)
    parts = [loss(logits, logits)[1] for _ in range(8)]
    found = [float((p["consistency"] - p["loss"]) / p["entropy"]) for p in parts]
    assert found == pytest.approx([5, 5, 1, 1, 1, 1, 1, 1], rel=1e-4)
    assert loss.final_weight == 1
    assert SCANLoss(5.0).final_weight == 5


@pytest.mark.usefixtures("no_sizes")
def test_clusters_of_rows_may_differ_in_size():
    X, y = make_blobs([200, 120, 80], n_features=5, cluster_std=1.5, random_state=0)
    labels = SCANClustering(3, random_state=0).fit(X).labels_
    assert hungarian_accuracy_score(y, labels) > 0.97


# The metric.


def test_directions_tell_rows_apart_where_neighbours_are_far():
    random = np.random.default_rng(0)
    centers = random.normal(size=(5, 500))
    X = centers[random.integers(5, size=300)] + random.normal(size=(300, 500))
    assert choose_metric(X) == "cosine"
    assert choose_metric(make_blobs(300, random_state=0)[0]) == "euclidean"
    assert choose_metric(load_iris().data) == "euclidean"
    around_the_centre = make_blobs([900, 30, 15], n_features=5, random_state=0)[0]
    assert choose_metric(around_the_centre) == "euclidean"
    assert choose_metric(random.normal(size=(2, 3))) in ("cosine", "euclidean")
    assert choose_metric(np.ones((50, 3))) == "euclidean"


# Quality floors: what takes seconds, and must not get worse.


@pytest.mark.parametrize(("n_components", "floor"), [(None, 0.85), (40, 0.84)])
def test_digits_as_rows(n_components, floor):
    X, y = load_digits(return_X_y=True)
    if n_components:
        X = PCA(n_components, random_state=0).fit_transform(X)
    labels = SCANClustering(10, random_state=0).fit(X).labels_
    assert hungarian_accuracy_score(y, labels) >= floor


@pytest.mark.usefixtures("no_sizes")
def test_a_single_head_and_a_single_step():
    X, y = make_blobs(60, centers=3, random_state=0)
    quick = SCANClustering(
        3, n_heads=1, head_search=TrainingConfig(epochs=1), random_state=0
    )
    assert hungarian_accuracy_score(y, quick.fit(X).labels_) > 0.8


@pytest.mark.usefixtures("no_sizes")
def test_heads_begin_where_the_geometry_says(monkeypatch):
    """Without any training worth the name they know most of the digits."""
    monkeypatch.setattr("sklearn_scan._stages._polishing._RATE", 1e-12)
    X, y = load_digits(n_class=5, return_X_y=True)
    untrained = TrainingConfig(epochs=1, lr=1e-9)
    clusterer = SCANClustering(5, n_heads=2, head_search=untrained, random_state=0)
    assert hungarian_accuracy_score(y, clusterer.fit(X).labels_) > 0.9
