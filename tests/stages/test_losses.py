# SPDX-License-Identifier: BSD-3-Clause
"""The three losses against golden values and against formulas in float64 numpy."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, logsumexp

from sklearn_scan._inputs import ArraySource, learn_format
from sklearn_scan._losses import ConfidenceLoss, SCANLoss, scan_loss
from sklearn_scan._nets import ClusterNetwork, LinearHeads
from sklearn_scan._stages import Evaluator, MinedSamples
from sklearn_scan.pretext._simclr import NTXentLoss

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def golden():
    path = Path(__file__).parents[1] / "data" / "reference_losses.npz"
    with np.load(path) as file:
        return dict(file)


def case(golden, name):
    prefix = f"{name}_"
    return {k.removeprefix(prefix): v for k, v in golden.items() if prefix in k}


def logits(*shape, seed=0, scale=3.0):
    return np.random.default_rng(seed).normal(scale=scale, size=shape)


def leaf(array, device):
    return torch.tensor(array, dtype=torch.float32, device=device, requires_grad=True)


def assert_close(got, expected):
    """Equal up to 1e-5 of the largest entry."""
    if isinstance(got, torch.Tensor):
        got = got.detach().cpu().numpy()
    scale = max(np.abs(expected).max(), 1e-30)
    np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE * scale)


def numpy_scan(anchors, neighbors, entropy_weight):
    p = np.exp(log_softmax(anchors, axis=-1))
    q = np.exp(log_softmax(neighbors, axis=-1))
    consistency = -np.log((p * q).sum(axis=-1)).mean()
    marginal = p.mean(axis=0)
    entropy = -(marginal * np.log(marginal)).sum()
    return consistency - entropy_weight * entropy, consistency, entropy


def numpy_confidence(weak, strong, threshold, balanced):
    p = np.exp(log_softmax(weak, axis=-1))
    labels, sure = p.argmax(axis=1), p.max(axis=1) > threshold
    cost = -log_softmax(strong, axis=-1)[np.arange(len(weak)), labels]
    if not balanced:
        return cost[sure].mean()
    return np.mean([cost[sure & (labels == k)].mean() for k in set(labels[sure])])


def numpy_nt_xent(anchors, others, temperature):
    """Find the partner of each anchor among all other views of the batch."""
    z = np.concatenate([anchors, others]).astype(np.float64)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    losses = []
    for i in range(len(anchors)):
        similarity = np.delete(z @ z[i], i) / temperature
        partner = z[i] @ z[len(anchors) + i] / temperature
        losses.append(logsumexp(similarity) - partner)
    return np.mean(losses)


def slope(function, array, direction, step=1e-5):
    """Derivative of a numpy function along a direction, by central differences."""
    ahead, behind = array + step * direction, array - step * direction
    return (function(ahead) - function(behind)) / (2 * step)


# --- SCAN loss ---------------------------------------------------------------------


@pytest.mark.parametrize("i", range(4))
def test_scan_loss_and_its_gradients_equal_the_reference(golden, device, i):
    expected = case(golden, f"scan{i}")
    anchors = leaf(expected["anchors"], device)
    neighbors = leaf(expected["neighbors"], device)
    total, consistency, entropy = scan_loss(
        anchors, neighbors, float(expected["entropy_weight"])
    )
    total.backward()
    assert_close(total, expected["total"])
    assert_close(consistency, expected["consistency"])
    assert_close(entropy, expected["entropy"])
    assert_close(anchors.grad, expected["anchors_grad"])
    assert_close(neighbors.grad, expected["neighbors_grad"])


@pytest.mark.parametrize("entropy_weight", [0.0, 1.0, 5.0])
@pytest.mark.parametrize("n_clusters", [2, 7, 50])
def test_scan_loss_follows_equation_2(device, n_clusters, entropy_weight):
    a, b = logits(40, n_clusters), logits(40, n_clusters, seed=1)
    got = scan_loss(leaf(a, device), leaf(b, device), entropy_weight)
    for value, expected in zip(got, numpy_scan(a, b, entropy_weight), strict=True):
        assert_close(value, expected)


def test_scan_loss_gradient_equals_finite_differences(device):
    a, b = logits(12, 5), logits(12, 5, seed=1)
    anchors, neighbors = leaf(a, device), leaf(b, device)
    scan_loss(anchors, neighbors, 5.0)[0].backward()
    for seed in range(3):
        v = logits(12, 5, seed=10 + seed)
        along_a = slope(lambda x: numpy_scan(x, b, 5.0)[0], a, v)
        along_b = slope(lambda x: numpy_scan(a, x, 5.0)[0], b, v)
        assert (anchors.grad.cpu().numpy() * v).sum() == pytest.approx(along_a, 1e-3)
        assert (neighbors.grad.cpu().numpy() * v).sum() == pytest.approx(along_b, 1e-3)


def test_scan_loss_of_several_heads_is_that_of_each(device):
    a, b = leaf(logits(3, 20, 6), device), leaf(logits(3, 20, 6, seed=1), device)
    together = scan_loss(a, b, 2.0)
    for head in range(3):
        alone = scan_loss(a[head], b[head], 2.0)
        for value, expected in zip(together, alone, strict=True):
            assert value.shape == (3,)
            torch.testing.assert_close(value[head], expected)


def test_scan_criterion_sums_heads_and_records_their_means(device):
    a, b = leaf(logits(3, 20, 6), device), leaf(logits(3, 20, 6, seed=1), device)
    total, consistency, entropy = scan_loss(a, b, 2.0)
    loss, record = SCANLoss(2.0)(a, b)
    torch.testing.assert_close(loss, total.sum())
    torch.testing.assert_close(record["loss"], total.mean())
    torch.testing.assert_close(record["consistency"], consistency.mean())
    torch.testing.assert_close(record["entropy"], entropy.mean())


def test_scan_loss_reaches_its_lower_bound_on_sure_balanced_agreement(device):
    sure = leaf(100 * np.eye(4), device)
    assert_close(scan_loss(sure, sure, 5.0)[0], -5 * np.log(4))


def test_scan_loss_of_total_disagreement_is_exact_and_still_pulls(device):
    """Naively <p, q> is 0 in float32, with loss inf and gradient nan."""
    anchors = leaf([[1e4, -1e4], [-1e4, 1e4]], device)
    neighbors = leaf([[-1e4, 1e4], [1e4, -1e4]], device)
    total, consistency, _ = scan_loss(anchors, neighbors)
    total.backward()
    assert_close(consistency, 2e4 - np.log(2))
    assert torch.isfinite(anchors.grad).all()
    assert torch.isfinite(neighbors.grad).all()
    assert neighbors.grad.abs().sum() > 0


def test_scan_loss_of_one_cluster_is_zero(device):
    only = leaf(logits(8, 1), device)
    parts = scan_loss(only, only)
    parts[0].backward()
    assert [part.detach().item() for part in parts] == pytest.approx(
        [0, 0, 0], abs=1e-6
    )
    assert only.grad.abs().max() < 1e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_scan_loss_is_float32_at_least(device, dtype):
    a = torch.tensor(logits(8, 3), device=device).to(dtype)
    expected = scan_loss(a.float(), a.float())
    for value, same in zip(scan_loss(a, a), expected, strict=True):
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, same)


@pytest.mark.parametrize("times", [None, 1 + np.arange(30) % 3])
def test_the_evaluator_is_the_scan_loss_over_all_pairs(device, times):
    """Three heads, every sample with each of its neighbours, as often as it counts."""
    rows = logits(30, 4).astype(np.float32)
    neighbors = np.random.default_rng(0).permuted(
        np.tile(np.arange(30), (30, 1)), axis=1
    )[:, :6]
    weights = torch.tensor(logits(3, 4, 5), dtype=torch.float32, device=device)

    heads = LinearHeads(4, 5, n_heads=3).to(device)
    with torch.no_grad():
        heads.linear.weight.copy_(weights.transpose(1, 2).flatten(0, 1))
        heads.linear.bias.zero_()
    network = ClusterNetwork(torch.nn.Identity(), heads, torch.nn.Identity())
    source = ArraySource(rows, learn_format(rows), device)
    got = Evaluator(MinedSamples(source, neighbors, times), 2.0).losses(network)
    times = np.ones(30, dtype=int) if times is None else times
    anchors = np.arange(30).repeat(times).repeat(6)
    others = neighbors.repeat(times, axis=0).ravel()
    for head, weight in enumerate(weights.double().cpu().numpy()):
        out = rows.astype(np.float64) @ weight
        pairs = out[anchors], out[others]
        assert_close(got[head], numpy_scan(*pairs, 2.0)[0])


def test_the_evaluator_holds_few_logits_at_a_time(monkeypatch):
    """At 1,000 clusters and 20 heads, all logits of all pairs would be 10 GB."""
    import sklearn_scan._stages._evaluation as evaluation

    held = []
    compute = evaluation._log_probabilities

    def watch(heads, features):
        found = compute(heads, features)
        held.append(found.numel())
        return found

    rows = logits(300, 4).astype(np.float32)
    neighbors = np.random.default_rng(0).integers(300, size=(300, 5))
    network = ClusterNetwork(
        torch.nn.Identity(), LinearHeads(4, 10, n_heads=4), torch.nn.Identity()
    )
    source = ArraySource(rows, learn_format(rows), torch.device("cpu"))
    evaluator = Evaluator(MinedSamples(source, neighbors), 2.0)
    expected = evaluator.losses(network)
    monkeypatch.setattr(evaluation, "_log_probabilities", watch)
    monkeypatch.setattr(evaluation, "_BLOCK", 1000)
    torch.testing.assert_close(evaluator.losses(network), expected)
    assert max(held) == 1000


# --- self-labelling loss -----------------------------------------------------------


@pytest.mark.parametrize("i", range(4))
def test_confidence_loss_and_its_gradient_equal_the_reference(golden, device, i):
    expected = case(golden, f"confidence{i}")
    weak, strong = leaf(expected["weak"], device), leaf(expected["strong"], device)
    criterion = ConfidenceLoss(float(expected["threshold"]), bool(expected["balanced"]))
    loss, _ = criterion(weak, strong)
    loss.backward()
    assert_close(loss, expected["loss"])
    assert_close(strong.grad, expected["strong_grad"])


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("threshold", [0.6, 0.9])
def test_confidence_loss_follows_its_formula(device, threshold, balanced):
    weak, strong = logits(90, 5), logits(90, 5, seed=1)
    weak[:, 0] += 3
    got, record = ConfidenceLoss(threshold, balanced)(
        leaf(weak, device), leaf(strong, device)
    )
    assert_close(got, numpy_confidence(weak, strong, threshold, balanced))
    share = (np.exp(log_softmax(weak, axis=1)).max(axis=1) > threshold).mean()
    assert 0 < share < 1
    assert float(record["confident"]) == pytest.approx(share)


@pytest.mark.parametrize("balanced", [True, False])
def test_confidence_loss_gradient_equals_finite_differences(device, balanced):
    weak, s = logits(30, 4), logits(30, 4, seed=1)
    strong = leaf(s, device)
    ConfidenceLoss(0.8, balanced)(leaf(weak, device), strong)[0].backward()
    for seed in range(3):
        v = logits(30, 4, seed=10 + seed)
        expected = slope(lambda x: numpy_confidence(weak, x, 0.8, balanced), s, v)
        assert (strong.grad.cpu().numpy() * v).sum() == pytest.approx(expected, 1e-3)


def test_balanced_clusters_pull_with_equal_force(device):
    weak = leaf([[9, 0, 0]] * 10 + [[0, 9, 0]] * 2, device)
    strong = leaf(np.zeros((12, 3)), device)
    ConfidenceLoss(0.9)(weak, strong)[0].backward()
    pull = -strong.grad
    torch.testing.assert_close(pull[:10, 0].sum(), pull[10:, 1].sum())


@pytest.mark.parametrize("balanced", [True, False])
def test_without_a_confident_sample_loss_and_gradient_are_zero(device, balanced):
    weak, strong = leaf(np.zeros((6, 4)), device), leaf(logits(6, 4), device)
    loss, record = ConfidenceLoss(0.9, balanced)(weak, strong)
    loss.backward()
    assert float(loss.detach()) == 0
    assert float(record["confident"]) == 0
    assert torch.equal(strong.grad, torch.zeros_like(strong))


def test_a_sample_at_the_threshold_is_not_confident(device):
    weak = leaf([[0, 0], [0, 1]], device)  # confidences of 0.5, exactly, and 0.73
    assert float(ConfidenceLoss(0.5)(weak, weak)[1]["confident"]) == 0.5


@pytest.mark.parametrize("balanced", [True, False])
def test_confidence_loss_of_extreme_logits_is_exact(device, balanced):
    weak = leaf([[1e4, -1e4, 0], [-1e4, 1e4, 0]], device)
    strong = leaf([[-1e4, 1e4, 0], [1e4, -1e4, 0]], device)
    loss, _ = ConfidenceLoss(0.99, balanced)(weak, strong)
    loss.backward()
    assert_close(loss, 2e4)
    assert torch.isfinite(strong.grad).all()


def test_confidence_loss_of_one_cluster_is_zero(device):
    strong = leaf(logits(5, 1), device)
    loss, record = ConfidenceLoss()(leaf(logits(5, 1), device), strong)
    loss.backward()
    assert float(loss.detach()) == 0
    assert float(record["confident"]) == 1
    assert torch.equal(strong.grad, torch.zeros_like(strong))


# --- NT-Xent -----------------------------------------------------------------------


@pytest.mark.parametrize("i", range(2))
def test_nt_xent_is_the_mean_of_the_reference_over_both_anchors(golden, device, i):
    expected = case(golden, f"simclr{i}")
    first, second = expected["features"].swapaxes(0, 1)
    temperature = float(expected["temperature"])
    one_way = numpy_nt_xent(first, second, temperature)
    assert_close(one_way, expected["loss_first_view_as_anchor"])
    other_way = numpy_nt_xent(second, first, temperature)
    loss, _ = NTXentLoss(temperature)(leaf(first, device), leaf(second, device))
    assert_close(loss, (one_way + other_way) / 2)
    assert abs(one_way - other_way) > 1e-3  # so that the mean is told from either


def test_nt_xent_gradient_equals_finite_differences(device):
    a, b = logits(6, 4), logits(6, 4, seed=1)
    first = leaf(a, device)
    NTXentLoss(0.3)(first, leaf(b, device))[0].backward()

    def symmetric(x):
        return (numpy_nt_xent(x, b, 0.3) + numpy_nt_xent(b, x, 0.3)) / 2

    for seed in range(3):
        v = logits(6, 4, seed=10 + seed)
        got = (first.grad.cpu().numpy() * v).sum()
        assert got == pytest.approx(slope(symmetric, a, v), 1e-3)


def test_nt_xent_counts_partners_found(device):
    z = torch.eye(4, device=device)
    assert float(NTXentLoss()(z, z)[1]["found"]) == 1
    assert float(NTXentLoss()(z, z.roll(1, 0))[1]["found"]) == 0


@pytest.mark.parametrize("scale", [0, 1e-4, 1e4])
@pytest.mark.parametrize("temperature", [1e-3, 0.5])
def test_nt_xent_stays_finite(device, scale, temperature):
    first, second = (leaf(logits(8, 4, seed=k) * scale, device) for k in range(2))
    loss, _ = NTXentLoss(temperature)(first, second)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(first.grad).all()


def test_nt_xent_ignores_the_length_of_projections(device):
    first, second = (leaf(logits(8, 4, seed=k), device) for k in range(2))
    expected, _ = NTXentLoss()(first, second)
    got, _ = NTXentLoss()(7 * first, 0.1 * second)
    torch.testing.assert_close(got, expected)


# Gradients, by finite differences.


def float64(*shape, seed=0):
    return torch.tensor(logits(*shape, seed=seed, scale=1.0), requires_grad=True)


def test_the_gradient_of_the_scan_loss():
    anchors, neighbors = float64(2, 6, 4), float64(2, 6, 4, seed=1)
    for part in range(3):
        assert torch.autograd.gradcheck(
            lambda a, n, part=part: scan_loss(a, n, 2.0)[part], (anchors, neighbors)
        )


@pytest.mark.parametrize("balanced", [True, False])
def test_the_gradient_of_the_confidence_loss(balanced):
    weak = float64(8, 3, seed=2).detach() * 4
    loss = ConfidenceLoss(0.6, balanced)
    assert 0 < loss(weak, weak)[1]["confident"] < 1
    assert torch.autograd.gradcheck(lambda s: loss(weak, s)[0], float64(8, 3))


def test_the_gradient_of_nt_xent():
    first, second = float64(5, 3), float64(5, 3, seed=1)
    assert torch.autograd.gradcheck(
        lambda a, b: NTXentLoss(0.3)(a, b)[0], (first, second)
    )
