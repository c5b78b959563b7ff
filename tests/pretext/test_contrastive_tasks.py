# SPDX-License-Identifier: BSD-3-Clause
"""Instance discrimination, MoCo and BYOL: formulas, memories and what they learn."""

import pickle
from collections import deque

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_scan import SCANClustering, TrainingConfig
from sklearn_scan._engine import IndexedSamples, Runtime
from sklearn_scan._inputs import ArraySource, learn_format
from sklearn_scan.metrics import neighbor_purity_score
from sklearn_scan.neighbors import mine_neighbors
from sklearn_scan.pretext import BYOL, InstanceDiscrimination, MoCo
from sklearn_scan.pretext._byol import RegressionLoss
from sklearn_scan.pretext._instance_discrimination import (
    MemoryBank,
    NoiseContrastiveLoss,
)
from sklearn_scan.pretext._moco import Queue, QueueLoss
from sklearn_scan.pretext._momentum import MovingAverage, unit_rows

TASKS = [InstanceDiscrimination, MoCo, BYOL]
WITH_TARGET = [MoCo, BYOL]

every_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.__name__)
every_target = pytest.mark.parametrize(
    "task", WITH_TARGET, ids=lambda task: task.__name__
)

may_miss_clusters = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning"
)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def unit(rows):
    rows = np.asarray(rows, dtype=np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def tensor(array, device="cpu", dtype=torch.float32):
    return torch.tensor(np.asarray(array), dtype=dtype, device=device)


def assert_close(got, expected, tolerance=1e-5):
    """Equal up to a part of the largest entry."""
    got = got.detach().cpu().numpy() if isinstance(got, torch.Tensor) else got
    scale = max(np.abs(expected).max(), 1e-30)
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * scale)


def assert_gradients(criterion, *inputs):
    """Compare with finite differences, in float64."""
    leaves = [tensor(x, dtype=torch.float64).requires_grad_() for x in inputs]
    assert torch.autograd.gradcheck(lambda *args: criterion(*args)[0], leaves)


def make_module(task, device="cpu", *, n_samples=20, n_in=6, **params):
    """Make the module and the criterion on a linear encoder of rows."""
    encoder = nn.Sequential(nn.Linear(n_in, 8, bias=False), nn.ReLU())
    encoder.n_features = 8
    made = task(**params).make_task(encoder, nn.Identity(), n_samples)
    return [part.to(device) for part in made]


def make_batch(task, device="cpu", n=10, n_in=6, seed=0):
    samples, indices = tensor(normal(n, n_in, seed=seed), device), torch.arange(n)
    return (samples,) if task is BYOL else (samples, indices.to(device))


def take_step(module, criterion, batch):
    loss, _ = criterion(*module(*batch))
    loss.backward()
    torch.optim.SGD(module.parameters(), lr=1.0).step()


# --- noise-contrastive estimation --------------------------------------------------


def numpy_nce(f, own, noise, n_samples, temperature, log_partition):
    """Equation 7 of Wu et al., with probabilities as they are written there."""
    f, m = unit(f), len(noise)
    p_own = np.exp((f * own).sum(axis=1) / temperature) / np.exp(log_partition)
    p_noise = np.exp(f @ noise.T / temperature) / np.exp(log_partition)
    h_own = p_own / (p_own + m / n_samples)
    h_noise = p_noise / (p_noise + m / n_samples)
    return np.mean(-np.log(h_own) - np.log(1 - h_noise).sum(axis=1))


def nce_inputs(b=9, m=13, d=5):
    return normal(b, d), unit(normal(b, d, seed=1)), unit(normal(m, d, seed=2))


@pytest.mark.parametrize("n_samples", [2, 50, 10**6])
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_nce_follows_its_formula(device, temperature, n_samples):
    f, own, noise = nce_inputs()
    log_partition = np.log(n_samples) + 0.3
    inputs = [tensor(x, device) for x in (f, own, noise, log_partition)]
    criterion = NoiseContrastiveLoss(n_samples, temperature, 0.0)
    loss, record = criterion(inputs[0], None, *inputs[1:])
    expected = numpy_nce(f, own, noise, n_samples, temperature, log_partition)
    assert_close(loss, expected)
    assert loss is record["loss"] is record["nce"]
    assert "distance" not in record


@pytest.mark.parametrize("weight", [0.5, 3.0])
def test_invariance_is_the_squared_distance_of_unit_vectors(device, weight):
    f, own, noise = nce_inputs()
    g = normal(*f.shape, seed=3)
    inputs = [tensor(x, device) for x in (f, g, own, noise, 4.0)]
    loss, record = NoiseContrastiveLoss(50, 0.2, weight)(*inputs)
    distance = (np.linalg.norm(unit(f) - unit(g), axis=1) ** 2).mean()
    assert_close(record["distance"], distance)
    assert_close(loss, numpy_nce(f, own, noise, 50, 0.2, 4.0) + weight * distance)


def test_nce_gradient_equals_finite_differences():
    f, own, noise = nce_inputs(4, 6, 3)
    g = normal(*f.shape, seed=3)
    criterion = NoiseContrastiveLoss(50, 0.2, 0.7)
    assert_gradients(criterion, f, g, own, noise, np.array(3.0))


@pytest.mark.parametrize("log_partition", [-30.0, 2000.0])
@pytest.mark.parametrize("temperature", [1e-3, 0.07])
def test_nce_is_exact_where_probabilities_are_not_floats(
    device, temperature, log_partition
):
    f, own, noise = nce_inputs()
    leaf = tensor(f, device).requires_grad_()
    criterion = NoiseContrastiveLoss(50, temperature)
    rest = [tensor(x, device) for x in (own, noise, log_partition)]
    loss, _ = criterion(leaf, None, *rest)
    loss.backward()
    offset = log_partition + np.log(len(noise) / 50)
    own_logit = (unit(f) * own).sum(axis=1) / temperature - offset
    noise_logit = unit(f) @ noise.T / temperature - offset
    expected = np.logaddexp(0, -own_logit) + np.logaddexp(0, noise_logit).sum(axis=1)
    assert_close(loss, expected.mean())
    assert torch.isfinite(leaf.grad).all()


def test_nce_counts_how_often_the_own_memory_is_nearest(device):
    f = torch.eye(4, device=device)
    criterion, zero = NoiseContrastiveLoss(4), torch.zeros((), device=device)
    assert float(criterion(f, None, f, f, zero)[1]["found"]) == 1
    assert float(criterion(f, None, f.roll(1, 0), f, zero)[1]["found"]) == 0


# --- the memory bank ---------------------------------------------------------------


def make_bank(device="cpu", n_samples=40, **params):
    params = {"momentum": 0.5, "temperature": 0.2} | params
    return MemoryBank(n_samples, 5, **params).to(device)


def numbered_rows(n, device="cpu"):
    """Return a data set of rows with their indices."""
    rows = normal(n, 6).astype(np.float32)
    return IndexedSamples(ArraySource(rows, learn_format(rows), torch.device(device)))


def test_the_partition_is_the_estimate_of_the_paper(device):
    bank = make_bank(device)
    f, noise = normal(7, 5), unit(normal(11, 5, seed=1))
    bank.estimate_partition(tensor(f, device), tensor(noise, device))
    assert_close(
        bank.log_partition, np.log(40 * np.exp(unit(f) @ noise.T / 0.2).mean())
    )


def test_the_partition_of_all_vectors_is_the_sum_over_them(device):
    bank = make_bank(device)
    f = normal(1, 5)
    bank.estimate_partition(tensor(f, device), bank.vectors)
    exponents = unit(f) @ bank.vectors.double().cpu().numpy().T / 0.2
    assert_close(bank.log_partition, np.log(np.exp(exponents).sum()))


@pytest.mark.parametrize("n_samples", [2, 3, 5, 256, 600])
def test_the_bank_is_filled_with_projections_before_the_first_epoch(n_samples, device):
    module, _ = make_module(
        InstanceDiscrimination, device, n_samples=n_samples, invariance_weight=0.0
    )
    before = module.bank.vectors.clone()
    seen = []
    module.projector.register_forward_hook(lambda *args: seen.append(args[2]))
    assert not module.bank.is_filled
    assert module.begin_epoch(numbered_rows(n_samples, device)) == {}
    assert module.bank.is_filled
    projections = unit_rows(torch.cat(seen))
    is_filled = (module.bank.vectors != before).any(dim=1)
    assert is_filled.sum() == len(projections) >= n_samples - len(seen)
    filled = module.bank.vectors[is_filled]
    assert_close((filled @ projections.T).amax(dim=1), np.ones(len(filled)))
    assert_close(filled.norm(dim=1), np.ones(len(filled)))


def test_the_bank_is_filled_once_and_a_checkpoint_remembers_it(device):
    data = numbered_rows(20, device)
    module, _ = make_module(InstanceDiscrimination, device)
    module.begin_epoch(data)
    state = {name: w.clone() for name, w in module.state_dict().items()}
    resumed, _ = make_module(InstanceDiscrimination, device)
    resumed.load_state_dict(state)
    for each in (module, resumed):
        each.begin_epoch(data)
        for name, value in each.bank.state_dict().items():
            assert torch.equal(value, state[f"bank.{name}"])


def test_the_bank_begins_with_unit_vectors_of_all_directions():
    vectors = make_bank(n_samples=5000).vectors.double()
    assert_close(vectors.norm(dim=1), np.ones(5000))
    assert vectors.mean(dim=0).abs().max() < 0.05
    covariance = vectors.T @ vectors / 5000
    assert_close(covariance, np.eye(5) / 5, tolerance=0.1)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_the_bank_mixes_in_what_was_seen(device, momentum):
    bank = make_bank(device, 10, momentum=momentum)
    before = bank.vectors.double().cpu().numpy()
    seen, indices = normal(3, 5), [7, 2, 4]
    bank.update(torch.tensor(indices, device=device), tensor(seen, device), momentum)
    expected = before.copy()
    expected[indices] = unit(momentum * before[indices] + (1 - momentum) * unit(seen))
    assert_close(bank.vectors, expected)


def test_noise_is_uniform_over_the_bank(device):
    torch.manual_seed(0)
    bank = make_bank(device, 10)
    bank.vectors[:, 0] = torch.arange(10.0)  # told apart by their first entry
    drawn = bank.draw(20_000)[:, 0].long().cpu().numpy()
    counts = np.bincount(drawn, minlength=10)
    assert ((counts - 2000) ** 2 / 2000).sum() < 27.9  # chi-squared, p = 0.001
    assert len(bank.draw(25)) == 25  # more than there are


def test_the_loss_compares_with_the_bank_as_it_was_before_the_step(device):
    module, _ = make_module(InstanceDiscrimination, device, n_negatives=30)
    before = module.bank.vectors.clone()
    batch = make_batch(InstanceDiscrimination, device)
    projections, _, own, noise, _ = module(*batch)
    assert torch.equal(own, before[batch[1]])
    assert noise.shape == (30, 128)
    assert (noise[:, None] == before).all(dim=2).any(dim=1).all()
    moved = (module.bank.vectors != before).any(dim=1).cpu()
    assert moved.tolist() == [True] * 10 + [False] * 10
    expected = before.cpu()[:10].numpy() + unit(projections.detach().cpu())
    assert_close(module.bank.vectors[:10], unit(expected))


def test_the_bank_learns_in_training_alone(device):
    module, _ = make_module(InstanceDiscrimination, device)
    before = module.bank.vectors.clone()
    module.eval()
    module(*make_batch(InstanceDiscrimination, device))
    assert torch.equal(module.bank.vectors, before)


@pytest.mark.parametrize(("weight", "n_seen"), [(0.0, 10), (0.5, 20)])
def test_invariance_compares_a_view_with_the_sample_as_it_is(weight, n_seen):
    seen = []

    class Encoder(nn.Identity):
        n_features = 6

        def forward(self, rows):
            seen.append(rows)
            return rows

    class Negate(nn.Module):
        def forward(self, rows):
            return -rows

    task = InstanceDiscrimination(invariance_weight=weight)
    module, _ = task.make_task(Encoder(), Negate(), 20)
    samples, indices = make_batch(InstanceDiscrimination)
    _, originals, *_ = module(samples, indices)
    assert len(seen) == 1
    assert len(seen[0]) == n_seen
    assert torch.equal(seen[0][:10], -samples)
    assert torch.equal(seen[0][10:], samples[: n_seen - 10])
    assert (originals is None) == (weight == 0)


# --- InfoNCE and the queue ---------------------------------------------------------


def numpy_info_nce(queries, keys, queue, is_own, temperature):
    """Equation 1 of He et al., over the keys of other samples."""
    losses = []
    for q, k, own in zip(unit(queries), unit(keys), is_own, strict=True):
        positive = np.exp(q @ k / temperature)
        negatives = np.exp(queue[~own] @ q / temperature).sum()
        losses.append(-np.log(positive / (positive + negatives)))
    return np.mean(losses)


def info_nce_inputs(b=6, n_queue=9, d=4):
    is_own = np.random.default_rng(5).random((b, n_queue)) < 0.2
    queue = unit(normal(n_queue, d, seed=2))
    return normal(b, d), normal(b, d, seed=1), queue, is_own


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_info_nce_follows_its_formula(device, temperature):
    *vectors, is_own = info_nce_inputs()
    assert 0 < is_own.sum() < is_own.size
    inputs = [tensor(x, device) for x in vectors]
    mask = torch.tensor(is_own, device=device)
    loss, _ = QueueLoss(temperature)(*inputs, mask)
    assert_close(loss, numpy_info_nce(*vectors, is_own, temperature))


def test_info_nce_gradient_equals_finite_differences():
    *vectors, is_own = info_nce_inputs()
    criterion, mask = QueueLoss(0.3), torch.tensor(is_own)
    assert_gradients(lambda *args: criterion(*args, mask), *vectors)


@pytest.mark.parametrize("scale", [0, 1e-4, 1e4])
def test_info_nce_stays_finite(device, scale):
    queries, keys, queue, is_own = info_nce_inputs()
    is_own[0] = True  # nothing to compare with
    leaf = tensor(scale * queries, device).requires_grad_()
    others = tensor(keys, device), tensor(queue, device)
    loss, _ = QueueLoss(1e-3)(leaf, *others, torch.tensor(is_own, device=device))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(leaf.grad).all()


def test_info_nce_counts_keys_found(device):
    z = torch.eye(4, device=device)
    none = torch.zeros(4, 4, dtype=torch.bool, device=device)
    assert float(QueueLoss()(z, z, -z, none)[1]["found"]) == 1
    assert float(QueueLoss()(z, -z, z, none)[1]["found"]) == 0


@pytest.mark.parametrize("size", [1, 3, 7, 12, 100])
@pytest.mark.parametrize("batch_size", [2, 3, 5, 12])
def test_the_queue_holds_the_latest_keys_in_their_order(device, size, batch_size):
    queue, expected = Queue(size, 2).to(device), deque([-1] * size, maxlen=size)
    for begin in range(0, 40, batch_size):
        owners = torch.arange(begin, begin + batch_size, device=device)
        queue.push(owners[:, None].expand(-1, 2).float(), owners)
        expected.extend(owners.tolist())
        from_oldest = queue.owners.roll(-int(queue.oldest)).tolist()
        assert from_oldest == list(expected)
        known = queue.owners >= 0
        assert torch.equal(queue.keys[known, 0].long(), queue.owners[known])


def test_the_queue_begins_with_unit_vectors_of_no_sample():
    queue = Queue(50, 8)
    assert_close(queue.keys.norm(dim=1), np.ones(50))
    assert (queue.owners == -1).all()
    assert len(queue.keys.unique(dim=0)) == 50


@pytest.mark.parametrize(
    ("queue_size", "n_samples", "expected"),
    [("auto", 2, 2), ("auto", 1797, 1797), ("auto", 100_000, 65_536), (5, 1797, 5)],
)
def test_the_queue_is_as_long_as_an_epoch(queue_size, n_samples, expected):
    params = {"queue_size": queue_size, "n_projection": 2}
    module, _ = make_module(MoCo, n_samples=n_samples, **params)
    assert len(module.queue.keys) == len(module.queue.owners) == expected


def test_samples_are_not_compared_with_their_own_earlier_keys(device):
    module, _ = make_module(MoCo, device, queue_size=12)
    samples, indices = make_batch(MoCo, device)
    assert not module(samples, indices)[3].any()
    *_, keys, earlier, is_own = module(samples[:4], indices[:4] + 3)
    assert is_own.sum() == 4
    owner = is_own.int().argmax(dim=1)
    assert torch.equal(module.queue.owners[owner], indices[:4] + 3)
    del keys, earlier


def test_keys_join_the_queue_after_the_loss_and_in_training_alone(device):
    module, _ = make_module(MoCo, device, queue_size=12)
    before = module.queue.keys.clone()
    _, keys, earlier, _ = module(*make_batch(MoCo, device))
    assert torch.equal(earlier, before)
    assert_close(module.queue.keys[:10], unit(keys.cpu()))
    assert torch.equal(module.queue.keys[10:], before[10:])
    after = module.queue.keys.clone()
    module.eval()
    module(*make_batch(MoCo, device))
    assert torch.equal(module.queue.keys, after)


# --- BYOL --------------------------------------------------------------------------


def numpy_byol(first, second, first_target, second_target):
    """Equation 2 of Grill et al., and the same with the views exchanged."""
    pairs = [(first, second_target), (second, first_target)]
    return sum(
        (np.linalg.norm(unit(a) - unit(b), axis=1) ** 2).mean() for a, b in pairs
    )


def test_byol_is_the_squared_distance_of_unit_vectors(device):
    vectors = [normal(7, 5, seed=seed) for seed in range(4)]
    loss, record = RegressionLoss()(*(tensor(x, device) for x in vectors))
    assert_close(loss, numpy_byol(*vectors))
    assert loss is record["loss"]


def test_byol_gradient_equals_finite_differences():
    assert_gradients(RegressionLoss(), *(normal(4, 3, seed=seed) for seed in range(4)))


@pytest.mark.parametrize("scale", [0, 1e-4, 1e4])
def test_byol_stays_finite(device, scale):
    vectors = [tensor(scale * normal(7, 5, seed=seed), device) for seed in range(4)]
    vectors[0].requires_grad_()
    loss, record = RegressionLoss()(*vectors)
    loss.backward()
    assert torch.isfinite(vectors[0].grad).all()
    assert torch.isfinite(torch.stack([loss, record["found"]])).all()


def test_byol_counts_targets_found(device):
    z = torch.eye(4, device=device)
    assert float(RegressionLoss()(z, z, -z, z)[1]["found"]) == 1
    assert float(RegressionLoss()(z, z, z, z.roll(1, 0))[1]["found"]) == 0
    same = torch.ones_like(z)
    assert float(RegressionLoss()(z, z, same, same)[1]["found"]) == 0.25


def test_byol_predicts_the_target_of_the_other_view(device):
    """With views that differ, the targets are in the order of the predictions."""

    class Alternate(nn.Module):
        n_calls = 0

        def forward(self, rows):
            self.n_calls += 1
            return rows * self.n_calls + self.n_calls

    module, _ = make_module(BYOL, device)
    module.views = Alternate()
    (samples,) = make_batch(BYOL, device)
    module.eval()
    *_, first, second = module(samples)
    assert_close(first, module.target(samples + 1).cpu().numpy())
    assert_close(second, module.target(2 * samples + 2).cpu().numpy())


# --- moving averages ---------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.999])
def test_a_moving_average_follows_its_formula(device, momentum):
    network = nn.Linear(3, 2).to(device)
    average = MovingAverage(network, momentum=momentum)
    expected = network.weight.detach().double().cpu().numpy()
    for seed in range(5):
        weight = normal(2, 3, seed=seed)
        network.weight.data = tensor(weight, device)
        average.follow(network)
        expected = momentum * expected + (1 - momentum) * weight
        assert_close(average.network[0].weight, expected)


def test_a_moving_average_is_a_copy(device):
    network = nn.Linear(3, 2).to(device)
    average = MovingAverage(network, momentum=0.5)
    rows = torch.ones(4, 3, device=device)
    assert torch.equal(average(rows), network(rows))
    network.weight.data.zero_()
    assert average.network[0].weight.abs().sum() > 0


@every_target
def test_the_target_follows_at_the_next_step_of_training(task, device):
    module, criterion = make_module(task, device, momentum=0.75)
    before = [w.detach().cpu().double().numpy() for w in module.target.parameters()]
    take_step(module, criterion, make_batch(task, device))
    online = [*module.encoder.parameters(), *module.projector.parameters()]
    online = [w.detach().cpu().double().numpy() for w in online]
    for weight, expected in zip(module.target.parameters(), before, strict=True):
        assert_close(weight, expected)  # nothing to follow before the first step
    module.eval()
    module(*make_batch(task, device))
    for weight, expected in zip(module.target.parameters(), before, strict=True):
        assert_close(weight, expected)
    module.train()
    module(*make_batch(task, device))
    for weight, old, new in zip(
        module.target.parameters(), before, online, strict=True
    ):
        assert_close(weight, 0.75 * old + 0.25 * new)
        assert not np.array_equal(old, new)


@every_target
def test_no_gradient_reaches_the_target(task, device):
    module, criterion = make_module(task, device)
    outputs = module(*make_batch(task, device))
    criterion(*outputs)[0].backward()
    targets = set(module.target.parameters())
    for weight in targets:
        assert not weight.requires_grad
        assert weight.grad is None
    learning = [w for w in module.parameters() if w not in targets]
    assert all(w.grad is not None and w.grad.isfinite().all() for w in learning)
    by_target = outputs[2:] if task is BYOL else outputs[1:]
    assert not any(output.requires_grad for output in by_target)


# --- what all three promise --------------------------------------------------------


@every_task
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_loss_is_float32_whatever_the_projections(task, dtype, device):
    module, criterion = make_module(task, device)
    if task is InstanceDiscrimination:
        module.begin_epoch(numbered_rows(20, device))
    outputs = module(*make_batch(task, device))
    n_rounded = {InstanceDiscrimination: 2, MoCo: 2, BYOL: 4}[task]
    rounded = [x.detach().to(dtype) for x in outputs[:n_rounded]]
    rest = outputs[n_rounded:]
    loss, record = criterion(*rounded, *rest)
    assert {value.dtype for value in record.values()} == {torch.float32}
    assert all(value.shape == () for value in record.values())
    torch.testing.assert_close(loss, criterion(*(x.float() for x in rounded), *rest)[0])


@every_task
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_either_precision_trains(task, precision, device, digits):
    params = {"epochs": 2, "device": device, "random_state": 0}
    fitted = task(precision=precision, **params).fit(digits[0][:60])
    assert all(np.isfinite(list(record.values())).all() for record in fitted.history_)
    weights = fitted.net_.module_.state_dict().values()
    assert {w.dtype for w in weights} <= {torch.float32, torch.int64}


@every_task
def test_transform_uses_the_encoder_that_was_trained(task, digits):
    images = digits[0][:50]
    fitted = task(epochs=2, precision="float32", random_state=0).fit(images)
    module = fitted.net_.module_
    batch = torch.tensor(images / images.max(), dtype=torch.float32)[:, None]
    with torch.no_grad():
        features = module.encoder(batch).numpy()
    np.testing.assert_allclose(fitted.transform(images), unit(features), atol=1e-4)
    if task in WITH_TARGET:
        slow = module.target.network[0].state_dict()
        fast = module.encoder.state_dict()
        assert not all(torch.equal(slow[name], fast[name]) for name in fast)


@every_task
def test_what_was_learned_survives_a_pickle(task, digits):
    images = digits[0][:50]
    fitted = task(epochs=2, random_state=0).fit(images)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.transform(images), fitted.transform(images))


@every_task
def test_what_was_learned_survives_its_state(task, digits, device):
    images = digits[0][:50]
    runtime = Runtime.resolve(device)
    fitted = task(epochs=2, random_state=0, device=device).fit(images)
    state = pickle.loads(pickle.dumps(fitted.get_state()))
    again = task(device=device)
    again.set_state(state, images, fitted.input_spec_, runtime)
    before, after = (x.net_.module_.state_dict() for x in (fitted, again))
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    np.testing.assert_array_equal(again.transform(images), fitted.transform(images))
    assert again.history_ == fitted.history_


def cluster(task, **params):
    return SCANClustering(
        3,
        pretext=task(epochs=4, batch_size=25),
        head_search=TrainingConfig(epochs=2),
        clustering=None,
        self_labeling=None,
        random_state=0,
        **params,
    )


@every_task
@may_miss_clusters
def test_what_was_learned_is_cached(task, digits, tmp_path):
    images = digits[0][:60]
    first, second = (cluster(task, memory=str(tmp_path)) for _ in range(2))
    first.fit(images)
    second.fit(images)
    # Seconds too: nothing was trained again.
    assert second.history_["pretext"] == first.history_["pretext"]
    np.testing.assert_array_equal(second.embedding_, first.embedding_)
    np.testing.assert_array_equal(second.transform(images), first.transform(images))
    np.testing.assert_array_equal(second.labels_, first.labels_)


class Stop(Exception):
    pass


class StopAfter:
    """A callback that breaks off after some epochs."""

    def __init__(self, n_epochs):
        self.n_left = n_epochs

    def setup(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "epoch":
            self.n_left -= 1
            if self.n_left == 0:
                raise Stop

    def teardown(self, estimator, context):
        pass


@every_task
@may_miss_clusters
def test_an_interrupted_training_goes_on_to_the_same_end(task, digits, tmp_path):
    """All that a task remembers is part of its state."""
    images = digits[0][:60]
    whole = cluster(task).fit(images)
    interrupted = cluster(task, checkpoint=tmp_path).set_callbacks(StopAfter(2))
    with pytest.raises(Stop):
        interrupted.fit(images)
    resumed = cluster(task, checkpoint=tmp_path).fit(images)
    assert [record["epoch"] for record in resumed.history_["pretext"]] == [1, 2, 3, 4]
    np.testing.assert_array_equal(resumed.embedding_, whole.embedding_)


@every_task
def test_the_same_seed_gives_the_same_embedding_to_the_bit(task, digits, device):
    if device != "cpu":
        pytest.skip("promised to the bit on a CPU alone")
    images = digits[0][:60]
    first, second, third = (
        task(epochs=2, random_state=seed).fit(images).transform(images)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, third)


@every_task
def test_the_global_generator_is_left_alone(task, digits):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    task(epochs=1, random_state=0).fit(digits[0][:20])
    assert torch.equal(torch.get_rng_state(), before)


@every_task
@pytest.mark.parametrize("n_samples", [2, 3, 5])
def test_a_handful_of_samples_is_enough(task, n_samples, digits, device):
    images = digits[0][:n_samples]
    fitted = task(epochs=3, batch_size=2, random_state=0, device=device).fit(images)
    assert all(np.isfinite(list(record.values())).all() for record in fitted.history_)
    assert np.isfinite(fitted.transform(images)).all()


@every_task
def test_rows_are_learned_from_as_well(task, blobs, device):
    X, y = blobs
    fitted = task(epochs=20, random_state=0, device=device).fit(X)
    embedding = fitted.transform(X)
    assert embedding.shape == (150, 256)
    assert neighbor_purity_score(mine_neighbors(embedding, 10), y) > 0.9


@every_task
def test_constant_samples_do_no_harm(task, device):
    fitted = task(epochs=2, random_state=0, device=device).fit(np.ones((10, 8, 8)))
    assert np.isfinite(fitted.transform(np.ones((2, 8, 8)))).all()


@pytest.mark.parametrize(
    ("task", "params"),
    [
        (InstanceDiscrimination, {"temperature": 0.0}),
        (InstanceDiscrimination, {"n_negatives": 0}),
        (InstanceDiscrimination, {"bank_momentum": 1.0}),
        (InstanceDiscrimination, {"invariance_weight": -1.0}),
        (MoCo, {"temperature": 0.0}),
        (MoCo, {"momentum": 1.0}),
        (MoCo, {"queue_size": 0}),
        (MoCo, {"queue_size": "all"}),
        (BYOL, {"momentum": -0.1}),
        (BYOL, {"n_projection": 0}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value.__name__,
)
def test_parameters_out_of_range_are_refused(task, params, digits):
    with pytest.raises(ValueError, match=next(iter(params))):
        task(**params).fit(digits[0])


@every_task
def test_numpy_integers_are_integers(task, digits):
    integers = {"n_projection", "n_negatives", "queue_size"} & set(task().get_params())
    params = {name: np.int64(16) for name in integers}
    task(epochs=1, random_state=0, **params).fit(digits[0][:20])


@every_task
def test_neighbours_are_purer_than_those_of_pixels(task, digits, device):
    images, y = digits
    fitted = task(epochs=20, batch_size=100, random_state=0, device=device).fit(images)
    embedding = fitted.transform(images)
    of_pixels = neighbor_purity_score(mine_neighbors(images.reshape(600, -1), 20), y)
    of_task = neighbor_purity_score(mine_neighbors(embedding, 20), y)
    assert of_task > of_pixels + 0.02
    # No collapse, of which the first is 0 and the second 1.
    centred = embedding - embedding.mean(axis=0)
    shares = np.linalg.svd(centred, compute_uv=False) ** 2
    assert (centred**2).sum(axis=1).mean() > 0.05
    assert shares.sum() ** 2 / (shares**2).sum() > 3
