# SPDX-License-Identifier: BSD-3-Clause
"""What each step of `fit` looks at, what it changes, and what it leaves alone.

Losses, views and networks have tests of their own. Here is what lies between them:
every test fits a clusterer with a tiny network on a few images, and compares what it
recorded and what it became with formulas of `predict_proba`.
"""

import copy

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.neighbors import NearestNeighbors
from torch import nn

from sklearn_scan import SCANClustering, TrainingConfig
from sklearn_scan._inputs import ArraySource, learn_format
from sklearn_scan._losses import ConfidenceLoss
from sklearn_scan._nets import ClusterNetwork, LinearHeads
from sklearn_scan._stages import (
    Evaluator,
    MinedSamples,
    find_prototypes,
    search_heads,
)
from sklearn_scan._stages._selection import Answers, compare_answers, is_as_good
from sklearn_scan._stages._self_labeling import SelfLabelingNetwork
from sklearn_scan.pretext import SimCLR

# Tiny networks do not find every cluster.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

N = 48
STEPS = ("clustering", "self_labeling")


def tiny(shape):
    """Make an encoder with batch normalisation."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
    )


def plain(shape):
    """Make an encoder that is the same function in training and afterwards."""
    return nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.Flatten())


@pytest.fixture(scope="module")
def images(digits):
    return digits[0][:N]


def fit_pretext(images, encoder):
    pretext = SimCLR(
        encoder=encoder, epochs=8, views="none", precision="float32", random_state=0
    )
    return pretext.fit(images)


@pytest.fixture(scope="module")
def trained(images):
    return fit_pretext(images, tiny)


@pytest.fixture(scope="module")
def trained_plain(images):
    return fit_pretext(images, plain)


def quick(pretext, **params):
    """Return a clusterer of three steps, of which only the first is taken."""
    params.setdefault("head_search", TrainingConfig(epochs=40))
    params.setdefault("clustering", None)
    params.setdefault("self_labeling", None)
    params.setdefault("n_heads", 1)
    params.setdefault("keep", "last")
    return SCANClustering(
        3,
        pretext=FrozenEstimator(pretext),
        precision="float32",
        random_state=0,
        **params,
    )


def once(**params):
    """Train for one step, and so little that nothing changes."""
    params = {"epochs": 1, "lr_schedule": "constant", "lr": 1e-9} | params
    return TrainingConfig(**params)


def read(clusterer, images):
    """Return images as the network of a clusterer reads them."""
    return torch.tensor(images / 16, dtype=torch.float32)[:, None]


def convolutions(clusterer):
    return [p for p in clusterer.net_.module_.parameters() if p.ndim == 4]


def ask(clusterer, X):
    """Return the probabilities that stages see, which are not calibrated."""
    asked = copy.copy(clusterer)
    asked.temperature_ = 1.0
    return asked.predict_proba(X)


def heads(clusterer):
    return clusterer.net_.module_.heads.linear.weight


# What changes, and what does not.


@pytest.fixture(scope="module")
def stages(images, trained):
    """Return clusterers after one step, after two and after three."""
    before = copy.deepcopy(trained.net_.module_.state_dict())
    steps = {
        "clustering": TrainingConfig(epochs=2),
        "self_labeling": TrainingConfig(epochs=2),
    }
    fits = [
        quick(trained, threshold=0.1, **params).fit(images)
        for params in ({}, {"clustering": steps["clustering"]}, steps)
    ]
    return *fits, before


@pytest.mark.parametrize("step", range(2), ids=STEPS)
def test_a_step_trains_the_encoder_and_the_head(stages, step):
    before, after = stages[step : step + 2]
    for old, new in zip(convolutions(before), convolutions(after), strict=True):
        assert not torch.equal(old, new)
    assert not torch.equal(heads(before), heads(after))


@pytest.mark.parametrize("n_steps", range(1, 4))
def test_no_step_changes_the_pretext(stages, trained, images, n_steps):
    *fits, before = stages
    pretext = fits[n_steps - 1].pretext_
    for name, value in pretext.net_.module_.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert np.array_equal(fits[n_steps - 1].embedding_, trained.transform(images))


@pytest.mark.parametrize("n_steps", range(1, 4))
def test_a_clusterer_has_weights_of_its_own(stages, n_steps):
    """Whoever trains the net of a clusterer on does not change its pretext."""
    clusterer = stages[n_steps - 1]
    nets = (clusterer.pretext_.net_.module_, clusterer.net_.module_)
    theirs, ours = ({p.data_ptr() for p in net.parameters()} for net in nets)
    assert not theirs & ours


@pytest.mark.parametrize("n_steps", range(1, 4))
def test_fitted_attributes_are_those_of_the_last_step(stages, images, n_steps):
    clusterer = stages[n_steps - 1]
    proba = clusterer.predict_proba(images)
    np.testing.assert_allclose(clusterer.confidence_, proba.max(axis=1), rtol=1e-5)
    assert np.array_equal(clusterer.labels_, proba.argmax(axis=1))
    assert not clusterer.net_.module_.training


def test_one_sample_is_predicted_as_in_its_batch(stages, images):
    batch = stages[2].predict_proba(images)
    for i in (0, 5):
        alone = stages[2].predict_proba(images[i : i + 1])
        np.testing.assert_allclose(alone[0], batch[i], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("step", STEPS)
def test_a_frozen_encoder_does_not_move(images, trained, step):
    training = TrainingConfig(epochs=1, lr=0.1, freeze_encoder=True)
    before = quick(trained).fit(images)
    after = quick(trained, threshold=0.1, **{step: training}).fit(images)
    old, new = (c.net_.module_.encoder.state_dict() for c in (before, after))
    for name, value in old.items():
        assert torch.equal(new[name], value), name
    assert not torch.equal(heads(before), heads(after))


@pytest.mark.parametrize("step", STEPS)
def test_a_result_that_is_not_kept_leaves_no_trace(images, trained, step):
    harm = TrainingConfig(epochs=5, lr=3.0, lr_schedule="constant", optimizer="sgd")
    before = quick(trained).fit(images)
    after = quick(trained, keep="best", threshold=0.1, **{step: harm}).fit(images)
    kept = [n["stage"] for n in after.history_["selection"] if n["kept"]]
    assert kept == ["head_search"]
    assert np.array_equal(after.predict_proba(images), before.predict_proba(images))


class Dark(nn.Module):
    """Views that are far off the samples, so that their statistics are as well."""

    def __init__(self, shape):
        super().__init__()

    def forward(self, batch):
        return 0.2 * batch - 1


@pytest.mark.parametrize("step", STEPS)
def test_statistics_are_those_of_samples_and_not_of_views(images, trained, step):
    training = TrainingConfig(epochs=2, views=Dark)
    clusterer = quick(trained, threshold=0.1, **{step: training}).fit(images)
    network = copy.deepcopy(clusterer.net_.module_)
    expected = copy.deepcopy(network).train()
    for module in expected.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        expected.logits(read(clusterer, images))
    found = dict(network.named_buffers())
    for name, value in expected.named_buffers():
        if "running" in name:
            torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4)


# What the losses are taken of.


def mirror(images):
    return np.ascontiguousarray(images[..., ::-1])


class Mirror(nn.Module):
    """Views that are no random ones, so that losses can be computed of them."""

    def __init__(self, shape):
        super().__init__()

    def forward(self, batch):
        return batch.flip(-1)


def scan_formula(p, q, entropy_weight):
    marginal = p.mean(axis=0)
    entropy = -(marginal * np.log(marginal)).sum()
    return -np.log((p * q).sum(axis=1)).mean() - entropy_weight * entropy


@pytest.mark.usefixtures("no_sizes")
@pytest.mark.parametrize(("views", "seen"), [("none", np.array), (Mirror, mirror)])
@pytest.mark.parametrize("entropy_weight", [0.5, 5.0])
def test_clustering_compares_views_of_samples_and_of_their_neighbours(
    images, trained_plain, views, seen, entropy_weight
):
    neighbors = np.random.default_rng(0).permutation(N)
    clusterer = quick(
        trained_plain,
        clustering=once(views=views),
        entropy_weight=entropy_weight,
    ).fit(images, neighbors=neighbors[:, None])
    p = ask(clusterer, seen(images)).astype(float)
    q = np.where((neighbors == np.arange(N))[:, None], p, p[neighbors])
    expected = scan_formula(p, q, entropy_weight)
    found = clusterer.history_["clustering"][0]["loss"]
    assert found == pytest.approx(expected, rel=1e-3)
    judged = [note["loss"] for note in clusterer.history_["selection"]]
    assert judged == pytest.approx([expected, expected], rel=1e-3)


def test_after_the_search_of_heads_samples_count_as_it_says(
    images, trained_plain, monkeypatch
):
    """In clustering and in evaluation: here one sample counts alone."""
    weights = np.zeros(N)
    weights[7] = N
    monkeypatch.setattr(
        "sklearn_scan._scan.search_heads_once",
        lambda *a: (search_heads(*a)[0], weights),
    )
    neighbors = np.roll(np.arange(N), 1)
    clusterer = quick(trained_plain, clustering=once(views="none"), entropy_weight=0.5)
    clusterer.fit(images, neighbors=neighbors[:, None])
    p = ask(clusterer, images).astype(float)
    expected = scan_formula(p[[7]], p[neighbors[[7]]], 0.5)
    found = clusterer.history_["clustering"][0]["loss"]
    assert found == pytest.approx(expected, rel=1e-4)
    judged = [note["loss"] for note in clusterer.history_["selection"]]
    assert judged == pytest.approx([expected, expected], rel=1e-3)


@pytest.mark.usefixtures("no_sizes")
def test_heads_compare_samples_with_their_neighbours(
    images, trained_plain, monkeypatch
):
    # The head that is kept shall be the one that the first step saw.
    monkeypatch.setattr("sklearn_scan._stages._polishing._RATE", 1e-12)
    neighbors = np.roll(np.arange(N), 1)
    clusterer = quick(trained_plain, head_search=once(), entropy_weight=0.5)
    clusterer.fit(images, neighbors=neighbors[:, None])
    p = ask(clusterer, images).astype(float)
    found = clusterer.history_["head_search"][0]["loss"]
    assert found == pytest.approx(scan_formula(p, p[neighbors], 0.5), rel=1e-3)


@pytest.mark.parametrize("class_weight", ["balanced", None])
def test_self_labelling_teaches_views_what_is_predicted_of_samples(
    images, trained_plain, class_weight
):
    clusterer = quick(trained_plain).fit(images)
    threshold = float(np.quantile(ask(clusterer, images).max(axis=1), 0.3))
    clusterer.set_params(
        self_labeling=once(views=Mirror),
        threshold=threshold,
        class_weight=class_weight,
    ).fit(images)
    proba, labels = ask(clusterer, images), clusterer.predict(images)
    sure = proba.max(axis=1) > threshold
    seen = ask(clusterer, mirror(images)).astype(float)
    costs = -np.log(seen[np.arange(N), labels])
    groups = [sure & (labels == k) for k in np.unique(labels[sure])]
    assert len({int(group.sum()) for group in groups}) > 1, "balance says something"
    groups = groups if class_weight == "balanced" else [sure]
    record = clusterer.history_["self_labeling"][0]
    assert record["confident"] == pytest.approx(sure.mean(), abs=1.5 / N)
    expected = np.mean([costs[group].mean() for group in groups])
    assert record["loss"] == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("size", [1, 2, 7])
def test_pseudo_labels_are_what_is_predicted(stages, images, size):
    """In training, for batches of odd composition, and whatever the views are."""
    clusterer = stages[1]
    batch = np.concatenate([images[:size], np.zeros_like(images[:2])])
    module = SelfLabelingNetwork(copy.deepcopy(clusterer.net_.module_), Mirror(None))
    module.train()
    with torch.no_grad():
        weak, _ = module(read(clusterer, batch))
    expected = ask(clusterer, batch)
    np.testing.assert_allclose(weak.softmax(dim=1), expected, rtol=1e-4, atol=1e-6)


def test_strong_views_teach_the_encoder_in_training_mode(stages, images):
    network = copy.deepcopy(stages[1].net_.module_)
    expected = copy.deepcopy(network).train()
    batch = read(stages[1], images)
    weak, strong = SelfLabelingNetwork(network, Mirror(None)).train()(batch)
    torch.testing.assert_close(strong, expected.logits(batch.flip(-1))[0])
    assert not weak.requires_grad, "labels are given"
    strong.sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in network.parameters() if p.ndim == 4)


@pytest.mark.parametrize(
    ("step", "drawn"),
    [
        ("clustering", ("crop", "flip", "light")),
        ("self_labeling", ("flip", "shapes", "cutout")),
    ],
)
def test_of_full_frames_self_labelling_draws_the_strong_views(step, drawn):
    """Of noise, in gray, of which a mirror is as likely as the image itself."""
    noise = np.random.default_rng(0).integers(0, 256, (N, 8, 8), dtype=np.uint8)
    pretext = fit_pretext(noise, tiny)

    def loss(views):
        training = TrainingConfig(epochs=1, views=views)
        clusterer = quick(pretext, threshold=0.1, **{step: training}).fit(noise)
        return clusterer.history_[step][0]["loss"]

    assert loss("auto") == loss(None) == loss(drawn) != loss(drawn[:-1])


class Neighbourless(nn.Module):
    """Views that show another sample of the batch."""

    def __init__(self, shape):
        super().__init__()

    def forward(self, batch):
        return batch[torch.randperm(len(batch))]


def test_results_are_judged_on_two_views(images, trained):
    """The same on both sides would agree, whatever they show."""
    clusterer = quick(
        trained,
        K=0,
        entropy_weight=0.0,
        clustering=once(views=Neighbourless),
        head_search=TrainingConfig(
            epochs=1, lr=3.0, optimizer="sgd", lr_schedule="constant"
        ),
    ).fit(images)
    p = ask(clusterer, images).astype(float)
    alike = scan_formula(p, p, 0)
    expected = -np.log(p @ p.T).mean()
    assert expected > 2 * alike + 0.1
    judged = clusterer.history_["selection"][0]["loss"]
    assert judged == pytest.approx(expected, rel=0.3)


def test_samples_and_neighbours_have_batch_statistics_of_their_own():
    network = ClusterNetwork(nn.BatchNorm1d(3), LinearHeads(3, 4), nn.Identity())
    network.train()
    rows = torch.arange(18.0).view(6, 3).square()
    anchors, others = network(rows, 100 + rows.flip(0))
    torch.testing.assert_close(anchors, network.logits(rows))
    torch.testing.assert_close(others, network.logits(100 + rows.flip(0)))


# The choices.


def test_a_network_is_looked_at_once(images, trained, monkeypatch):
    """Its loss and its invariance are of the same views."""
    looks = []
    look = Evaluator._look

    def note(evaluator, network):
        if evaluator.views is not None:
            looks.append(network)
        return look(evaluator, network)

    monkeypatch.setattr(Evaluator, "_look", note)
    quick(trained, keep="best", clustering=once(), self_labeling=once()).fit(images)
    networks = {id(network): network for network in looks}
    assert len(networks) == 3
    assert len(looks) == 6  # a view of the samples, and one of their neighbours


def scale_heads(network, factor):
    changed = copy.deepcopy(network)
    with torch.no_grad():
        changed.heads.linear.weight.mul_(factor)
    return changed


@pytest.mark.parametrize(("factor", "kept"), [(4.0, True), (0.5, False)])
def test_clustering_is_kept_if_its_loss_is_lower(
    images, trained, monkeypatch, factor, kept
):
    monkeypatch.setattr(
        "sklearn_scan._scan.cluster",
        lambda network, *_, **__: scale_heads(network, factor),
    )
    clusterer = quick(trained, keep="best", K=0, views="none", clustering=once())
    first, second = clusterer.fit(images).history_["selection"]
    assert (second["loss"] < first["loss"]) == kept
    assert (first["kept"], second["kept"]) == (True, kept)


def one_hot(labels, confidence=1.0, n_clusters=3):
    rest = (1 - confidence) / (n_clusters - 1)
    rows = torch.full((len(labels), n_clusters), rest)
    return rows.scatter(1, torch.tensor(labels)[:, None], confidence)


OLD = [0, 1, 2] * 20


@pytest.mark.parametrize(
    ("new", "confidence", "invariance", "is_better"),
    [
        (OLD, 1.0, 0.9, True),
        (OLD, 1.0, 0.8, False),  # sees less through views
        (OLD, 0.6, 0.9, False),  # is sure of nothing any more
        ([1, 2, 0] * 20, 1.0, 0.9, False),  # says something else
        ([0, 1, 0] * 20, 1.0, 0.9, False),
    ],
)
def test_self_labelling_is_judged_by_sure_answers(
    new, confidence, invariance, is_better
):
    before, after = one_hot(OLD), one_hot(new, confidence)
    comparison = compare_answers(
        Answers(None, before, 0.0, 0.9), Answers(None, after, 0.0, invariance), 0.99
    )
    assert is_as_good(comparison) == is_better


def find_losses(losses, monkeypatch):
    """Let networks have these losses, one after the other."""
    judge, losses = Evaluator.judge, iter(losses)
    monkeypatch.setattr(
        Evaluator, "judge", lambda *args: (next(losses), judge(*args)[1])
    )


def test_the_scan_loss_does_not_judge_self_labelling(images, trained, monkeypatch):
    """It rises where answers are right and mined neighbours are not."""
    monkeypatch.setattr(
        "sklearn_scan._scan.self_label", lambda network, *_: copy.deepcopy(network)
    )
    find_losses([1.0, 2.0], monkeypatch)
    clusterer = quick(trained, keep="best", self_labeling=once()).fit(images)
    first, second = clusterer.history_["selection"]
    assert second["loss"] > first["loss"]
    assert second["kept"]


@pytest.mark.parametrize(("losses", "kept"), [((2.0, 1.0), True), ((1.0, 2.0), False)])
def test_less_confident_answers_are_kept_if_their_loss_is_lower(
    images, trained, monkeypatch, losses, kept
):
    monkeypatch.setattr(
        "sklearn_scan._scan.self_label", lambda network, *_: scale_heads(network, 0.5)
    )
    find_losses(losses, monkeypatch)
    clusterer = quick(trained, keep="best", threshold=0.6, self_labeling=once())
    first, second = clusterer.fit(images).history_["selection"]
    assert second["confident"] < first["confident"] - 0.1
    assert second["agreement"] == 1
    assert second["kept"] == kept


def test_self_labelling_that_says_something_else_is_discarded(
    images, trained, monkeypatch
):
    def rename_clusters(network, *_):
        changed = copy.deepcopy(network)
        with torch.no_grad():
            for weight in changed.heads.parameters():
                weight.copy_(weight.roll(1, dims=0))
        return changed

    params = {"keep": "best", "threshold": 0.4}
    before = quick(trained, **params).fit(images)
    monkeypatch.setattr("sklearn_scan._scan.self_label", rename_clusters)
    after = quick(trained, self_labeling=once(), **params).fit(images)
    assert [note["kept"] for note in after.history_["selection"]] == [True, False]
    assert after.history_["selection"][1]["agreement"] == 0
    assert np.array_equal(after.labels_, before.labels_)


def test_a_cluster_without_a_sure_member_is_left_out():
    """Nothing is learned of it, and nothing pushes it away."""
    weak = 20 * one_hot([0, 1, 2])
    strong = torch.zeros(3, 3, requires_grad=True)
    loss, record = ConfidenceLoss(0.99, left_out=(2,))(weak, strong)
    loss.backward()
    assert record["confident"] == pytest.approx(2 / 3)
    assert strong.grad[:, 2].abs().max() == 0
    assert strong.grad[2].abs().max() == 0
    assert strong.grad[0, 0] < 0 < strong.grad[0, 1]


def test_self_labelling_that_loses_a_cluster_is_undone(images, trained):
    """Also where its loss is the lower one."""
    collapse = TrainingConfig(epochs=30, lr=0.1, views=Neighbourless)
    params = {"keep": "best", "threshold": 0.1, "entropy_weight": 0.1, "views": "none"}
    before = quick(trained, **params).fit(images)
    params |= {"self_labeling": collapse, "class_weight": None}
    with pytest.warns(ConvergenceWarning, match="without members"):
        after = quick(trained, **params).fit(images)
    assert np.array_equal(after.predict_proba(images), before.predict_proba(images))


def test_without_a_confident_sample_self_labelling_is_left_out(images, trained):
    clusterer = quick(
        trained, keep="best", threshold=1.0, self_labeling=TrainingConfig(epochs=1)
    )
    with pytest.warns(ConvergenceWarning, match="Self-labelling was left out"):
        clusterer.fit(images)
    assert "self_labeling" not in clusterer.history_


def test_prototypes_are_among_the_ten_most_confident_members(stages):
    clusterer = stages[2]
    for cluster, sample in enumerate(clusterer.prototypes_):
        members = np.flatnonzero(clusterer.labels_ == cluster)
        order = members[np.argsort(-clusterer.confidence_[members])]
        assert sample in order[:10] if len(members) else sample == -1
    sizes = np.bincount(clusterer.labels_)
    assert sizes.max() > 10, "the most confident are not all"


@pytest.mark.parametrize("best", range(3))
def test_of_many_heads_the_one_with_the_lowest_loss_stays(best):
    rows = np.repeat(np.eye(3, dtype=np.float32), 10, axis=0)
    source = ArraySource(rows, learn_format(rows), torch.device("cpu"))
    neighbors = np.arange(30) // 10 * 10 + (np.arange(30) + 1) % 10
    heads = LinearHeads(3, 3, n_heads=3)
    with torch.no_grad():
        heads.linear.weight.normal_()
        heads.linear.weight[3 * best : 3 * best + 3] = 9 * torch.eye(3)
        heads.linear.bias.zero_()
    network = ClusterNetwork(nn.Identity(), heads, nn.Identity())
    Evaluator(MinedSamples(source, neighbors[:, None]), 5.0).keep_best_head(network)
    assert network.heads.n_heads == 1
    assert torch.equal(network.heads.linear.weight, 9 * torch.eye(3))


# Neighbours, and the score that is made of them.


def nearest(rows, K, metric):
    tree = NearestNeighbors(n_neighbors=K, metric=metric).fit(rows)
    return tree.kneighbors(return_distance=False)


@pytest.fixture(scope="module")
def rows():
    """Return rows whose lengths differ as much as their directions do."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(N, 6)) * rng.uniform(1, 20, (N, 1))).astype(np.float32)


def test_rows_are_mined_by_their_distance(rows):
    clusterer = SCANClustering(3, K=4, head_search=once(), random_state=0).fit(rows)
    assert np.array_equal(clusterer.neighbors_, nearest(rows, 4, "euclidean"))


def test_images_are_mined_by_the_cosine_of_what_transform_gives(stages, images):
    neighbors = stages[2].neighbors_
    assert neighbors.shape == (N, N // 6), "half of the average cluster"
    similarity = stages[2].transform(images) @ stages[2].embedding_.T
    np.fill_diagonal(similarity, -1)
    found = np.take_along_axis(similarity, neighbors, axis=1)
    best = -np.sort(-similarity, axis=1)[:, : N // 6]
    np.testing.assert_allclose(found, best, atol=1e-5)


def test_an_embedding_has_unit_length(stages):
    norms = np.linalg.norm(stages[2].embedding_, axis=1)
    np.testing.assert_allclose(norms, 1, rtol=1e-5)


def test_neighbours_that_are_given_are_others(images, trained):
    given = np.stack([np.arange(N), np.roll(np.arange(N), 1)], axis=1)
    clusterer = quick(trained).fit(images, neighbors=given)
    assert not (clusterer.neighbors_ == np.arange(N)[:, None]).any()


def test_the_score_is_the_agreement_of_neighbours_beyond_that_of_anybody(rows):
    clusterer = SCANClustering(3, K=4, random_state=0).fit(rows)
    labels = clusterer.predict(rows)
    K = min(10, len(rows) // 20)
    agrees = labels[nearest(rows, K, "euclidean")] == labels[:, None]
    of_anybody = (np.bincount(labels) / len(rows)) ** 2
    expected = agrees.mean() - of_anybody.sum()
    assert clusterer.score(rows) == pytest.approx(expected, rel=1e-6)


def test_a_prototype_is_among_the_most_confident_of_its_cluster():
    """Of the ten, the one nearest to their mean."""
    confidence = np.linspace(0.5, 1, 40)
    embedding = np.arange(40.0)[:, None]
    embedding[37] = embedding[30:40].mean()
    labels = np.repeat([0, 2], 20)
    found = find_prototypes(labels, confidence, embedding, 3)
    assert found[1] == -1, "there is no member"
    assert found[2] == 37
    assert 10 <= found[0] < 20
