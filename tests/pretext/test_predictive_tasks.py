# SPDX-License-Identifier: BSD-3-Clause
"""RotNet, feature decoupling and DeepCluster: tasks that predict something."""

import pickle
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import log_softmax, softmax
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sklearn_scan._engine import Runtime
from sklearn_scan._inputs import ArraySource, learn_format
from sklearn_scan._nets import build_encoder
from sklearn_scan._views import build_views
from sklearn_scan.metrics import hungarian_accuracy_score, neighbor_purity_score
from sklearn_scan.neighbors import mine_neighbors
from sklearn_scan.pretext import (
    DeepCluster,
    FeatureDecoupling,
    RotNet,
)
from sklearn_scan.pretext._deep_cluster import (
    ClusteredNetwork,
    PseudoLabelled,
    PseudoLabelLoss,
    compare_assignments,
    draw_uniformly,
)
from sklearn_scan.pretext._feature_decoupling import (
    DecoupledNetwork,
    DecouplingLoss,
    rotation_loss,
)
from sklearn_scan.pretext._kmeans import (
    find_centroids,
    k_means,
    nearest,
    principal_axes,
    refill_empty_clusters,
)
from sklearn_scan.pretext._rotation import (
    OrthogonalMaps,
    QuarterTurns,
    make_rotations,
    rotation_labels,
)
from sklearn_scan.pretext._rotnet import RotationLoss, RotationNetwork

TASKS = [
    RotNet(epochs=2, random_state=0),
    FeatureDecoupling(epochs=2, random_state=0),
    DeepCluster(n_clusters=4, epochs=2, reassign_every=1, random_state=0),
]
for_every_task = pytest.mark.parametrize(
    "task", TASKS, ids=lambda task: type(task).__name__
)


@pytest.fixture(scope="module")
def images():
    return load_digits().images[:120]


def normal(*shape, seed=0, scale=1.0):
    return np.random.default_rng(seed).normal(scale=scale, size=shape)


def tensor(array, device="cpu", dtype=torch.float64):
    return torch.tensor(array, dtype=dtype, device=device)


def encoder_of(X):
    return build_encoder("auto", learn_format(X))


def assert_close(got, expected):
    np.testing.assert_allclose(got.detach().cpu().numpy(), expected, rtol=1e-5)


# --- rotations ---------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 5), (2, 1, 1)])
def test_quarter_turns_are_those_of_numpy(device, shape):
    images = normal(6, *shape)
    turned = QuarterTurns()(tensor(images, device)).cpu().numpy()
    expected = [np.rot90(images, k, axes=(2, 3)) for k in range(4)]
    np.testing.assert_array_equal(turned, np.concatenate(expected))


@pytest.mark.parametrize(("height", "width"), [(4, 8), (8, 4), (5, 9), (9, 4)])
def test_of_other_images_the_central_square_is_turned(device, height, width):
    images = normal(3, 2, height, width)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = images[:, :, top : top + side, left : left + side]
    turned = QuarterTurns()(tensor(images, device)).cpu().numpy()
    expected = [stretch(np.rot90(square, k, axes=(2, 3)), images) for k in range(4)]
    np.testing.assert_allclose(turned, np.concatenate(expected), atol=1e-12)


def stretch(square, images):
    """Interpolate between the centres of pixels, along one axis at a time."""
    for axis in (2, 3):
        old, new = square.shape[axis], images.shape[axis]
        where = (np.arange(new) + 0.5) * old / new - 0.5
        square = np.apply_along_axis(
            lambda line, where=where, old=old: np.interp(where, np.arange(old), line),
            axis,
            square,
        )
    return square


def test_rotations_are_numbered_one_after_the_other():
    assert rotation_labels(torch.zeros(8, 5)).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_maps_of_rows_are_orthogonal_and_differ(device):
    rows = normal(50, 7, scale=3) + 5
    maps = make_rotations(encoder_of(rows)).to(device).maps
    assert_close(maps @ maps.mT + 1, np.tile(np.eye(7), (3, 1, 1)) + 1)
    assert (maps[0] - maps[1]).abs().max() > 0.1
    assert (maps[1] - maps[2]).abs().max() > 0.1


def test_maps_of_rows_turn_the_space_of_one_common_scale(device):
    rows = normal(50, 4) * [1, 10, 0.1, 2] + [0, 5, -5, 100]
    rotations = make_rotations(encoder_of(rows)).to(device)
    with torch.autocast(device, torch.bfloat16):
        mapped = rotations(tensor(rows, device, torch.float32))
    assert mapped.dtype == torch.float32
    mean, std = rows.mean(axis=0), np.sqrt(rows.var(axis=0).mean())
    z = (rows - mean) / std
    expected = [rows] + [
        z @ q.T * std + mean for q in rotations.maps.double().cpu().numpy()
    ]
    np.testing.assert_allclose(mapped.cpu(), np.concatenate(expected), atol=1e-3)


def test_a_feature_that_never_varies_is_left_alone():
    rows = normal(20, 5)
    rows[:, [1, 3]] = 7, -2
    encoder = encoder_of(rows)
    mapped = OrthogonalMaps(encoder.mean, encoder.scale)(tensor(rows).float())
    np.testing.assert_allclose(mapped[:, [1, 3]], [[7, -2]] * 80, rtol=1e-6)
    # No part of what varies was lost in them.
    length = ((mapped - encoder.mean) * encoder.scale).norm(dim=1).view(4, 20)
    torch.testing.assert_close(length[1:], length[:1].expand(3, 20))


def test_rows_of_constants_are_left_alone():
    rows = np.full((6, 3), 2.0)
    mapped = make_rotations(encoder_of(rows))(tensor(rows).float())
    np.testing.assert_array_equal(mapped, np.full((24, 3), 2.0))


def test_views_are_drawn_before_the_rotations(images):
    """The four copies of an image differ in the rotation alone."""
    seen = []

    class Spy(nn.Module):
        n_features = 4
        mean = torch.zeros(1, 1, 1)

        def forward(self, batch):
            seen.append(batch)
            return batch.flatten(1)[:, :4]

    source = ArraySource(images, learn_format(images), "cpu")
    samples = source.read(torch.arange(10))
    views = build_views("auto", source)
    RotationNetwork(Spy(), views)(samples)
    upright = seen[0][:10]
    assert not torch.equal(upright, samples)
    for k in range(4):
        back = torch.rot90(seen[0][10 * k : 10 * k + 10], -k, (2, 3))
        assert torch.equal(back, upright)


# --- losses ------------------------------------------------------------------------


def numpy_rotation_costs(logits):
    labels = np.repeat(np.arange(4), len(logits) // 4)
    return -log_softmax(logits, axis=1)[np.arange(len(logits)), labels], labels


def test_rotation_loss_is_the_cross_entropy(device):
    logits = normal(20, 4, scale=3)
    loss, record = RotationLoss()(tensor(logits, device))
    costs, labels = numpy_rotation_costs(logits)
    assert_close(loss, costs.mean())
    assert_close(record["accuracy"], (logits.argmax(axis=1) == labels).mean())


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.5])
def test_rotation_costs_are_weighted_by_the_probability_of_being_upright(device, gamma):
    logits = normal(20, 4, scale=2)
    costs, labels = numpy_rotation_costs(logits)
    weights = np.where(labels == 0, 1, (1 - softmax(logits, axis=1)[:, 0]) ** gamma)
    leaf = tensor(logits, device).requires_grad_()
    loss, _ = rotation_loss(leaf, gamma)
    assert_close(loss, (weights * costs).mean())
    # The weights are constants of the gradient.
    loss.backward()
    expected = weights[:, None] * (softmax(logits, axis=1) - np.eye(4)[labels]) / 20
    assert_close(leaf.grad, expected)


def decoupling_inputs(device, b=6, d=5, n=9):
    copies = normal(4, b, d, seed=1)
    bank = normal(n, d, seed=2)
    bank /= np.linalg.norm(bank, axis=1, keepdims=True)
    indices = np.random.default_rng(3).permutation(n)[:b]
    inputs = tensor(normal(4 * b, 4), device), tensor(copies, device)
    return *inputs, torch.tensor(indices, device=device), tensor(bank, device)


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (0.5, 2.0, 3.0), (0.0, 0.0, 1.0)])
def test_decoupling_loss_follows_its_formula(device, weights):
    inputs = decoupling_inputs(device)
    loss, record = DecouplingLoss(weights, gamma=2.0, temperature=0.3)(*inputs)
    _, copies, indices, bank = (x.cpu().numpy() for x in inputs)
    irrelevance, instance = [], []
    for i, index in enumerate(indices):
        mean = copies[:, i].sum(axis=0) / 4
        irrelevance += [((copies[y, i] - mean) ** 2).sum() for y in range(4)]
        scores = np.exp(bank @ mean / np.linalg.norm(mean) / 0.3)
        instance.append(-np.log(scores[index] / scores.sum()))
    rotation = rotation_loss(inputs[0], 2.0)[0]
    parts = float(rotation), np.mean(irrelevance), np.mean(instance)
    for name, expected in zip(
        ("rotation", "irrelevance", "instance"), parts, strict=True
    ):
        assert_close(record[name], expected)
    assert_close(loss, np.dot(weights, parts))


def test_gradients_equal_finite_differences(device):
    """With gamma 0; the weights of other gammas are constants to the gradient."""
    logits, copies, indices, bank = decoupling_inputs(device, b=3, d=4, n=5)
    leaves = logits.requires_grad_(), copies.requires_grad_()
    criterion = DecouplingLoss((1.0, 0.5, 2.0), gamma=0.0, temperature=0.5)
    assert torch.autograd.gradcheck(lambda *x: criterion(*x, indices, bank)[0], leaves)
    assert torch.autograd.gradcheck(lambda x: RotationLoss()(x)[0], leaves[:1])


def test_the_bank_remembers_the_samples_that_were_seen(images, device):
    network = DecoupledNetwork(encoder_of(images), nn.Identity(), 7, 0.75).to(device)
    before = network.bank.clone()
    indices = torch.tensor([4, 1], device=device)
    features = tensor(normal(2, 64), device, torch.float32)
    network.remember(features, indices)
    expected = before.double().cpu().numpy()
    for row, seen in zip((4, 1), features.double().cpu().numpy(), strict=True):
        mixed = 0.75 * expected[row] + 0.25 * seen / np.linalg.norm(seen)
        expected[row] = mixed / np.linalg.norm(mixed)
    np.testing.assert_allclose(network.bank.cpu(), expected, atol=1e-6)


def test_the_loss_sees_the_bank_as_it_was_before(images):
    source = ArraySource(images, learn_format(images), "cpu")
    network = DecoupledNetwork(encoder_of(images), nn.Identity(), 120)
    before, indices = network.bank.clone(), torch.arange(8)
    outputs = network(source.read(indices), indices)
    assert torch.equal(outputs[3], before)
    loss, _ = DecouplingLoss()(*outputs)
    assert torch.equal(outputs[3], before)
    loss.backward()
    assert loss.dtype == torch.float32
    seen = F.normalize(outputs[1].detach().mean(dim=0), dim=1)
    torch.testing.assert_close(network.bank[:8], seen)
    assert torch.equal(network.bank[8:], before[8:])


class Copies(TorchDispatchMode):
    """Counts new tensors of the shape of another one."""

    def __init__(self, tensor):
        super().__init__()
        self.tensor = tensor
        self.n_copies = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        outputs = function(*args, **kwargs or {})
        for output in tree_leaves(outputs):
            if isinstance(output, torch.Tensor) and output.shape == self.tensor.shape:
                self.n_copies += output.data_ptr() != self.tensor.data_ptr()
        return outputs


@pytest.mark.parametrize("bank_momentum", [0.0, 0.5])
def test_a_step_makes_no_copy_of_the_bank(images, bank_momentum):
    """Of a million vectors of length 256 it would be one gigabyte per step."""
    source = ArraySource(images, learn_format(images), "cpu")
    network = DecoupledNetwork(encoder_of(images), nn.Identity(), 120, bank_momentum)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    bank, before = network.bank, network.bank.clone()
    with Copies(bank) as copies:
        for indices in torch.arange(120).split(40):
            optimizer.zero_grad()
            loss, _ = DecouplingLoss()(*network(source.read(indices), indices))
            loss.backward()
            optimizer.step()
    assert copies.n_copies == 0
    assert network.bank is bank
    assert (bank != before).any(dim=1).all()


def test_what_is_not_learned_from_is_not_remembered(images):
    source = ArraySource(images, learn_format(images), "cpu")
    network = DecoupledNetwork(encoder_of(images), nn.Identity(), 120)
    before, indices = network.bank.clone(), torch.arange(8)
    with torch.no_grad():
        network(source.read(indices), indices)
    assert torch.equal(network.bank, before)


def test_the_classifier_sees_the_related_half_alone(images):
    source = ArraySource(images, learn_format(images), "cpu")
    network = DecoupledNetwork(encoder_of(images), nn.Identity(), 120)
    samples, indices = source.read(torch.arange(8)), torch.arange(8)
    last = network.encoder.network[-3][1]  # the batch normalisation of the features
    for part, criterion in [(0, (1.0, 0.0, 0.0)), (1, (0.0, 1.0, 1.0))]:
        network.zero_grad()
        DecouplingLoss(criterion)(*network(samples, indices))[0].backward()
        moved = last.weight.grad.view(2, -1).abs().sum(dim=1) > 0
        assert moved.tolist() == [part == 0, part == 1]


def test_an_encoder_of_one_feature_cannot_be_split(images):
    def one_feature(shape):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 1))

    with pytest.raises(ValueError, match=r"splits the features in two.*n_features=1"):
        FeatureDecoupling(encoder=one_feature).fit(images)


def test_pseudo_label_loss_is_the_cross_entropy(device):
    logits, labels = normal(9, 3), np.arange(9) % 3
    loss, record = PseudoLabelLoss()(
        tensor(logits, device), torch.tensor(labels, device=device)
    )
    assert_close(loss, -log_softmax(logits, axis=1)[np.arange(9), labels].mean())
    assert_close(record["accuracy"], (logits.argmax(axis=1) == labels).mean())


# --- what DeepCluster is made of ---------------------------------------------------


def a_network(images, n_clusters=5, n_components=8, reassign_every=1):
    torch.manual_seed(0)
    network = ClusteredNetwork(
        encoder_of(images),
        nn.Identity(),
        len(images),
        n_clusters,
        n_components,
        reassign_every,
    )
    source = ArraySource(images, learn_format(images), torch.device("cpu"))
    return network, PseudoLabelled(source, network)


def refilled(rows, centroids, labels, seed=0):
    torch.manual_seed(seed)
    return refill_empty_clusters(tensor(rows), tensor(centroids), torch.tensor(labels))


def test_an_empty_cluster_takes_half_of_another():
    rows = normal(40, 3)
    labels = np.array([0] * 30 + [2] * 10)
    centroids = np.stack([rows[:30].mean(axis=0), [9.0, 9, 9], rows[30:].mean(axis=0)])
    new_centroids, new_labels = refilled(rows, centroids, labels)
    sizes = torch.bincount(new_labels, minlength=3)
    assert (sizes > 0).all()
    moved = (new_labels == 1).numpy()
    # From one donor, of which something is left.
    assert len({*labels[moved]}) == 1
    donor = labels[moved][0]
    members = labels == donor
    mean, spread = rows[members].mean(axis=0), rows[members].std()
    pair = new_centroids[[donor, 1]].numpy()
    np.testing.assert_allclose(pair, [mean, mean], atol=0.01 * spread)
    assert np.abs(pair[0] - pair[1]).max() > 1e-6
    # Everybody else stays, and the donor's go to the nearer of the two.
    np.testing.assert_array_equal(new_labels[~members], labels[~members])
    distances = ((rows[members, None] - pair) ** 2).sum(axis=2)
    np.testing.assert_array_equal(moved[members], distances.argmin(axis=1))


def test_larger_clusters_give_more_often():
    rows = normal(100, 2)
    labels = np.array([0] * 90 + [1] * 10)
    donors = [
        labels[(refilled(rows, np.zeros((3, 2)), labels, seed)[1] == 2).numpy()][0]
        for seed in range(50)
    ]
    assert 35 <= donors.count(0) < 50


def test_many_empty_clusters_are_refilled_and_the_same_seed_refills_alike():
    rows, labels = normal(30, 4), np.zeros(30, dtype=int)
    first = refilled(rows, np.zeros((25, 4)), labels)
    again = refilled(rows, np.zeros((25, 4)), labels)
    other = refilled(rows, np.zeros((25, 4)), labels, seed=1)
    assert (torch.bincount(first[1], minlength=25) > 0).all()
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first[1], other[1])


def test_duplicates_are_not_divided():
    rows = np.repeat([[0.0, 1.0], [1.0, 0.0]], [20, 1], axis=0)
    _, labels = refilled(rows, np.zeros((4, 2)), np.zeros(21, dtype=int))
    sizes = torch.bincount(labels, minlength=4).tolist()
    assert sorted(sizes) == [0, 0, 1, 20]


def test_centroids_have_a_row_each_as_long_as_there_are_different_rows():
    torch.manual_seed(0)
    rows = torch.cat([tensor(normal(6, 3))] * 50)
    labels = nearest(rows, find_centroids(rows, 6, 1))
    assert (torch.bincount(labels, minlength=6) == 50).all()
    labels = nearest(rows, find_centroids(rows, 9, 1))
    assert len(labels.unique()) == 6


def test_nearest_is_nearest():
    rows, centroids = normal(200, 3), normal(7, 3, seed=1)
    distances = ((rows[:, None] - centroids) ** 2).sum(axis=2)
    got = nearest(tensor(rows), tensor(centroids))
    np.testing.assert_array_equal(got, distances.argmin(axis=1))


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_k_means_finds_blobs_with_and_without_faiss(blobs, monkeypatch, platform):
    X, y = blobs
    monkeypatch.setattr(sys, "platform", platform)
    centroids = k_means(X, 3, seed=0)
    np.testing.assert_array_equal(centroids, k_means(X, 3, seed=0))
    labels = nearest(tensor(X), tensor(centroids))
    assert adjusted_rand_score(y, labels) > 0.95


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_k_means_says_nothing_of_duplicates(monkeypatch, platform, capfd):
    monkeypatch.setattr(sys, "platform", platform)
    assert k_means(np.ones((5, 2), dtype=np.float32), 3, seed=0).shape == (3, 2)
    assert capfd.readouterr().err == ""


def test_an_epoch_is_drawn_uniformly_over_the_clusters():
    torch.manual_seed(0)
    labels = torch.tensor([0] * 970 + [2] * 20 + [5] * 7 + [6] * 3)
    drawn = draw_uniformly(labels)
    assert drawn.shape == (1000,)
    assert all(249 <= (labels[drawn] == k).sum() <= 251 for k in (0, 2, 5, 6))
    # Within a cluster as well, and in no order.
    assert torch.bincount(drawn)[970:990].tolist() == pytest.approx([12.5] * 20, abs=1)
    assert torch.bincount(drawn)[:970].max() == 1
    assert len(labels[drawn][:50].unique()) == 4
    assert not torch.equal(draw_uniformly(labels), drawn)


def test_over_many_epochs_every_sample_of_a_cluster_is_seen_alike():
    torch.manual_seed(0)
    labels = torch.tensor([0] * 40 + [1] * 10)
    counts = sum(
        torch.bincount(draw_uniformly(labels), minlength=50) for _ in range(400)
    )
    expected = [400 * 25 / 40] * 40 + [400 * 2.5] * 10
    np.testing.assert_allclose(counts, expected, rtol=0.15)


def test_balanced_clusters_are_seen_once_per_epoch():
    torch.manual_seed(0)
    drawn = draw_uniformly(torch.arange(100) % 4)
    assert drawn.sort().values.tolist() == list(range(100))


def test_assignments_are_compared_whatever_the_names():
    before = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 2])
    renamed = np.array([2, 2, 2, 0, 0, 0, 1, 1, 1, 1])
    assert compare_assignments(before, renamed) == pytest.approx(
        {"nmi": 1, "reassigned": 0}
    )
    two_moved = np.array([2, 2, 0, 0, 0, 0, 1, 1, 1, 0])
    assert compare_assignments(before, two_moved)["reassigned"] == pytest.approx(0.2)
    one_cluster = np.zeros(10, dtype=int)
    assert compare_assignments(one_cluster, before) == pytest.approx(
        {"nmi": 0, "reassigned": 0.6}
    )


def test_nmi_is_mutual_information_over_the_mean_entropy():
    before, after = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 1, 1, 1])
    joint = np.array([[2, 1], [0, 3]]) / 6
    product = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    seen = joint > 0
    information = (joint[seen] * np.log(joint[seen] / product[seen])).sum()
    entropies = [-(p * np.log(p)).sum() for p in (joint.sum(axis=0), joint.sum(axis=1))]
    got = compare_assignments(before, after)["nmi"]
    assert got == pytest.approx(information / np.mean(entropies))


def test_classifier_and_clusters_are_new_when_it_is_time(images):
    network, data = a_network(images, reassign_every=2)
    assert (network.labels == 0).all()
    records, weights = [], []
    for _ in range(4):
        records.append(network.begin_epoch(data))
        weights.append(network.classifier.linear.weight.detach().clone())
        assert torch.equal(data.read(torch.arange(len(data)))[1], network.labels)
        with torch.no_grad():  # as if it had learned
            network.classifier.linear.bias += 1
            for parameter in network.encoder.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
    assert records[0]["nmi"] == 0
    for k in (1, 3):
        assert torch.equal(weights[k], weights[k - 1])
        assert records[k] == pytest.approx({"nmi": 1, "reassigned": 0})
    assert not torch.equal(weights[2], weights[1])
    assert 0 < records[2]["nmi"] < 1
    assert 0 < records[2]["reassigned"] < 1
    assert weights[2].std() == pytest.approx(0.01, rel=0.2)
    assert network.classifier.linear.bias.tolist() == [2] * 5


def test_an_epoch_goes_on_where_a_state_was_saved(images):
    network, data = a_network(images, reassign_every=3)
    network.begin_epoch(data)
    other, data_of_other = a_network(images, reassign_every=3)
    other.load_state_dict(network.state_dict())
    for _ in range(3):
        torch.manual_seed(1)
        expected = network.begin_epoch(data)
        torch.manual_seed(1)
        assert other.begin_epoch(data_of_other) == expected
        assert torch.equal(network.labels, other.labels)


def test_every_label_has_a_batch_of_its_own_samples(images):
    network, data = a_network(images)
    network.begin_epoch(data)
    samples, labels = data.read(torch.tensor([3, 50]))
    assert torch.equal(samples, data.source.read(torch.tensor([3, 50])))
    assert torch.equal(labels, network.labels[[3, 50]])
    assert network(samples, labels)[0].shape == (2, 5)


class LargestDouble(TorchDispatchMode):
    """Remembers how many numbers the largest tensor of double precision held."""

    n_numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        outputs = function(*args, **kwargs or {})
        for output in tree_leaves(outputs):
            if isinstance(output, torch.Tensor) and output.dtype == torch.float64:
                self.n_numbers = max(self.n_numbers, output.numel())
        return outputs


def set_block(monkeypatch, n_rows):
    for module in ("_kmeans", "_deep_cluster"):
        monkeypatch.setattr(f"sklearn_scan.pretext.{module}.BLOCK", n_rows)


def test_no_copy_of_all_features_is_made_in_double_precision(monkeypatch):
    """A float64 of a million features of length 2,048 has 16 GB."""
    set_block(monkeypatch, 64)
    images = normal(3000, 6, 6)
    network, data = a_network(images)
    with LargestDouble() as seen:
        network.assign(data.source, n_runs=2)
        network.predict(data.source)
        # Clusters are emptied, and refilled.
        rows = torch.randn(3000, 8)
        refill_empty_clusters(
            rows, torch.zeros(3, 8).double(), torch.zeros(3000, dtype=torch.int64)
        )
    n_features = network.encoder.n_features
    # The covariance of the features, and a block of them; all rows have 24,000.
    assert seen.n_numbers <= max(n_features, 64) * n_features < 3000 * 8


def test_blocks_change_nothing(images, monkeypatch):
    clustered = []
    for block in (7, 10_000):
        set_block(monkeypatch, block)
        network, data = a_network(images)
        network.assign(data.source, n_runs=3)
        clustered.append(network)
        assert torch.equal(network.predict(data.source), network.labels)
    first, second = clustered
    assert torch.equal(first.labels, second.labels)
    for name in ("mean", "centroids"):
        torch.testing.assert_close(getattr(first, name), getattr(second, name))
    torch.testing.assert_close(first.axes.abs(), second.axes.abs())


def test_features_that_are_not_finite_are_named(images):
    network, data = a_network(images)
    nn.init.constant_(network.encoder.network[0][0].weight, torch.nan)
    with pytest.raises(ValueError, match=r"diverged.*Lower its learning rate \(lr\)"):
        network.begin_epoch(data)


# --- the estimators ----------------------------------------------------------------


@for_every_task
def test_the_same_seed_gives_the_same_embedding(task, images, device):
    if device != "cpu":
        pytest.skip("promised to the bit on a CPU alone")
    first, second = clone(task).fit(images), clone(task).fit(images)
    np.testing.assert_array_equal(first.transform(images), second.transform(images))
    third = clone(task).set_params(random_state=1).fit(images)
    assert not np.array_equal(first.transform(images), third.transform(images))


@for_every_task
def test_what_was_learned_survives_pickle_and_cache(task, images, device):
    fitted = clone(task).set_params(device=device).fit(images)
    runtime = Runtime.resolve(device)
    restored = clone(fitted).fit(images[::-1])
    restored.set_state(fitted.get_state(), images, fitted.input_spec_, runtime)
    for copy in (pickle.loads(pickle.dumps(fitted)), restored):
        np.testing.assert_array_equal(copy.transform(images), fitted.transform(images))
        assert copy.history_ == fitted.history_
        for name, tensor in fitted.net_.module_.state_dict().items():
            assert torch.equal(copy.net_.module_.state_dict()[name], tensor)


@for_every_task
@pytest.mark.parametrize("n", [2, 3, 5])
def test_a_handful_of_samples_is_enough(task, images, n):
    if "n_clusters" in task.get_params():
        task = clone(task).set_params(n_clusters=2)
    for X in (images[:n], images[:n].reshape(n, 64), images[[0] * n], np.zeros((n, 1))):
        embedding = clone(task).fit(X).transform(X)
        assert len(embedding) == n
        assert np.isfinite(embedding).all()


@for_every_task
@pytest.mark.parametrize("shape", [(6, 9), (9, 6, 3), (3, 7, 5)])
def test_images_of_any_shape(task, shape):
    X = np.random.default_rng(0).random((20, *shape))
    assert np.isfinite(clone(task).fit(X).transform(X)).all()


@for_every_task
def test_losses_are_recorded_and_finite(task, images):
    history = clone(task).fit(images).history_
    assert len(history) == 2
    for row in history:
        assert np.isfinite(row["loss"])
        assert 0 <= row["accuracy"] <= 1


@for_every_task
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_losses_are_float32_at_any_precision(task, images, precision, device):
    runtime = Runtime.resolve(device, precision)
    format = learn_format(images)
    source = ArraySource(images, format, runtime.device)
    encoder, views = build_encoder("auto", format), build_views("auto", source)
    module, criterion = task.make_task(encoder, views, len(images))
    with runtime.autocast():
        batch = task.make_data(source, module).read(torch.arange(10))
        outputs = module.to(runtime.device)(*batch)
    assert criterion(*outputs)[0].dtype == torch.float32


@pytest.mark.parametrize("rows", [False, True])
def test_predict_gives_the_labels_of_the_training_samples(images, rows, device):
    X = images.reshape(120, 64) if rows else images
    clusterer = DeepCluster(4, epochs=2, random_state=0, device=device)
    labels = clusterer.fit_predict(X)
    assert clusterer.labels_.dtype == np.int64
    assert set(labels) == set(range(4))
    assert clusterer.cluster_centers_.shape == (4, 32 if rows else 16)
    np.testing.assert_array_equal(labels, clusterer.labels_)
    np.testing.assert_array_equal(clusterer.predict(X), labels)
    np.testing.assert_array_equal(clusterer.predict(X[7:19]), labels[7:19])
    restored = clone(clusterer).fit(X[::-1])
    state, spec = clusterer.get_state(), clusterer.input_spec_
    restored.set_state(state, X, spec, Runtime.resolve(device))
    np.testing.assert_array_equal(restored.labels_, labels)
    np.testing.assert_array_equal(restored.predict(X), labels)


def test_duplicates_are_in_one_cluster(images):
    X = np.repeat(images[:10], 6, axis=0)
    labels = DeepCluster(4, epochs=2, random_state=0).fit_predict(X)
    assert (labels.reshape(10, 6) == labels[::6, None]).all()
    assert set(labels) == set(range(4))
    alone = DeepCluster(3, epochs=1, random_state=0).fit_predict(images[[0] * 30])
    assert len(set(alone)) == 1


def test_fewer_samples_than_clusters_are_refused(images):
    with pytest.raises(ValueError, match=r"n_samples=5 should be >= n_clusters=10"):
        DeepCluster().fit(images[:5])
    clusterer = DeepCluster(5, epochs=1, random_state=0).fit(images[:5])
    assert set(clusterer.labels_) == set(range(5))


def test_few_samples_are_clustered_less_often(images):
    """So that a new classifier has some steps to learn."""
    reassigned = {}
    for every in ("auto", 2):
        task = DeepCluster(4, batch_size=30, epochs=12, reassign_every=every)
        history = clone(task).set_params(random_state=0).fit(images).history_
        reassigned[every] = [row["epoch"] for row in history if row["reassigned"] > 0]
    # Four steps per epoch, forty to a clustering.
    assert set(reassigned["auto"]) <= {1, 11}
    assert set(reassigned[2]) <= {1, 3, 5, 7, 9, 11}
    assert len(reassigned[2]) > 2


def test_numpy_integers_are_integers(images):
    params = {"n_clusters": 4, "n_components": 5, "reassign_every": 1, "epochs": 1}
    task = DeepCluster(**{name: np.int64(value) for name, value in params.items()})
    assert task.fit(images).cluster_centers_.shape == (4, 5)


def test_whitened_components_have_variance_one_and_no_correlation():
    features = tensor(normal(300, 6) @ normal(6, 6, seed=1) + 3)
    mean, axes = principal_axes(features, 4)
    rows = ((features - mean) @ axes).numpy()
    np.testing.assert_allclose(rows.T @ rows / 300, np.eye(4), atol=1e-8)
    # The components are the leading ones.
    _, _, directions = np.linalg.svd((features - mean).numpy(), full_matrices=False)
    cosines = np.abs(F.normalize(axes, dim=0).T.numpy() @ directions[:4].T)
    np.testing.assert_allclose(cosines, np.eye(4), atol=1e-8)


def test_what_does_not_vary_is_not_blown_up():
    features = torch.cat([tensor(normal(50, 2)), torch.full((50, 3), 0.1)], dim=1)
    _, axes = principal_axes(features, 5)
    assert ((axes != 0).any(dim=0)).tolist() == [True, True, False, False, False]
    assert not principal_axes(torch.full((9, 4), 0.3), 4)[1].any()


# --- quality -----------------------------------------------------------------------


def purity(embedding, y):
    return neighbor_purity_score(mine_neighbors(embedding), y)


def test_deep_cluster_beats_pixels_within_seconds(digits):
    images, y = digits
    task = DeepCluster(n_clusters=40, batch_size=64, epochs=25, random_state=0)
    assert purity(task.fit_transform(images), y) > 0.92
    assert purity(images.reshape(len(images), -1), y) < 0.88


@pytest.mark.slow
@pytest.mark.parametrize("task", [DeepCluster, FeatureDecoupling])
def test_neighbors_are_better_than_those_of_pixels(task):
    """On all digits; FeatureDecoupling needs more steps than some hundred give."""
    X, y = load_digits(return_X_y=True)
    fitted = task(image_shape=(8, 8), random_state=0).fit(X)
    assert purity(fitted.transform(X), y) > purity(X, y) + 0.01
    if task is DeepCluster:
        assert hungarian_accuracy_score(y, fitted.labels_) > 0.9
