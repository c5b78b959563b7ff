# SPDX-License-Identifier: BSD-3-Clause
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_scan import _console
from sklearn_scan._console import Console
from sklearn_scan._engine import (
    Batches,
    FitProgress,
    NeighborPairs,
    Runtime,
    Samples,
    Schedule,
    Stage,
    StageNet,
    Trainer,
    infer,
    refresh_statistics,
    resolve_seed,
    spawn_seeds,
)
from sklearn_scan._engine._checkpoint import identify_stage
from sklearn_scan._engine._net import StopStage
from sklearn_scan._inputs import ArraySource, learn_format


def source_of(X, device="cpu"):
    X = np.asarray(X, dtype=np.float32)
    return ArraySource(X, learn_format(X), device)


def numbered(n, device="cpu"):
    """Rows that say which row they are."""
    return source_of(np.arange(n)[:, None], device)


# --- batches -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "batch_size"),
    [
        (2, 2),
        (2, 256),
        (3, 2),
        (4, 3),
        (5, 2),
        (9, 4),
        (10, 3),
        (255, 256),
        (256, 256),
        (257, 256),
        (1000, 256),
        (1025, 512),
        (97, 96),
    ],
)
def test_batches_are_equal_not_too_large_and_leave_out_little(n, batch_size):
    torch.manual_seed(0)
    batches = Batches(Samples(numbered(n)), batch_size)
    read = [rows.flatten().tolist() for (rows,) in batches]
    sizes = {len(rows) for rows in read}
    assert len(read) == len(batches)
    assert len(sizes) == 1
    assert 2 <= min(sizes) <= max(sizes) <= batch_size
    seen = [row for rows in read for row in rows]
    assert len(seen) == len(set(seen))
    assert n - len(seen) <= len(batches)


def test_batches_are_shuffled_anew_each_time():
    torch.manual_seed(0)
    batches = Batches(Samples(numbered(100)), 100)
    first, second = (next(iter(batches))[0].flatten().tolist() for _ in range(2))
    assert first != second != list(range(100)) != first
    assert sorted(first) == sorted(second) == list(range(100))


def test_nobody_sits_out_for_good():
    torch.manual_seed(0)
    batches = Batches(Samples(numbered(11)), 5)
    seen = {
        row for _ in range(20) for (rows,) in batches for row in rows[:, 0].tolist()
    }
    assert seen == set(range(11))


def test_a_pair_is_a_sample_and_any_of_its_neighbours_but_not_itself(device):
    neighbors = (np.arange(20)[:, None] + [1, 2, 3]) % 20
    pairs = NeighborPairs(numbered(20, device), neighbors)
    torch.manual_seed(0)
    indices = torch.arange(20).repeat(50)
    samples, others = (rows[:, 0].long().cpu() for rows in pairs.read(indices))
    assert torch.equal(samples, indices)
    assert ((others - samples) % 20).unique().tolist() == [1, 2, 3]
    assert len(pairs) == 20
    # Drawn per sample and not per batch, each as often.
    counts = ((others - samples) % 20).bincount()[1:]
    assert counts.min() > 250


def test_neighbours_may_be_a_read_only_array(device):
    """As joblib hands them out with mmap_mode="r"."""
    neighbors = np.array([[1], [0], [0]])
    neighbors.flags.writeable = False
    torch.set_warn_always(True)  # torch warns once per process otherwise
    try:
        pairs = NeighborPairs(numbered(3, device), neighbors)
    finally:
        torch.set_warn_always(False)
    assert pairs.read(torch.tensor([2]))[1].item() == 0


# --- runtime -----------------------------------------------------------------------


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("grad", [True, False])
def test_isolation_puts_generator_and_grad_mode_back(error, grad, device):
    runtime = Runtime.resolve(device)
    torch.manual_seed(123)
    before = torch.get_rng_state()
    with torch.set_grad_enabled(grad):
        try:
            with runtime.isolated(0):
                assert torch.is_grad_enabled()
                torch.rand(5, device=device)
                torch.set_grad_enabled(False)
                if error is not None:
                    raise error
        except (ValueError, KeyboardInterrupt) as raised:
            assert type(raised) is error
        assert torch.is_grad_enabled() == grad
    assert torch.equal(torch.get_rng_state(), before)


def test_isolation_allows_learning_inside_of_inference_mode(device):
    weight = nn.Linear(2, 1).to(device)
    with torch.inference_mode():
        with Runtime.resolve(device).isolated(0):
            weight(torch.ones(1, 2, device=device)).sum().backward()
        assert torch.is_inference_mode_enabled()
    assert weight.weight.grad is not None


def test_isolated_randomness_comes_from_the_seed_alone(device):
    runtime = Runtime.resolve(device)
    drawn = []
    for outer, seed in [(1, 7), (2, 7), (1, 8)]:
        torch.manual_seed(outer)
        with runtime.isolated(seed):
            on_cpu, on_device = torch.rand(4), torch.rand(4, device=device).cpu()
            drawn.append(torch.cat([on_cpu, on_device]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_global_numpy_randomness_is_left_alone():
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    resolve_seed(3)
    resolve_seed(np.random.RandomState(3))
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_seeds_of_integers_are_themselves_and_of_generators_move_on():
    assert resolve_seed(42) == resolve_seed(np.int64(42)) == 42
    assert type(resolve_seed(np.int64(42))) is int
    generator = np.random.RandomState(0)
    first, second = resolve_seed(generator), resolve_seed(generator)
    assert first != second
    assert first == resolve_seed(np.random.RandomState(0))
    assert type(resolve_seed(None)) is int


def test_spawned_seeds_are_reproducible_distinct_and_by_place():
    seeds = spawn_seeds(0, ["a", "b", "c"])
    assert seeds == spawn_seeds(0, ["a", "b", "c"])
    assert len({*seeds.values(), *spawn_seeds(1, ["a", "b", "c"]).values()}) == 6
    assert spawn_seeds(0, ["x", "y"]) == {"x": seeds["a"], "y": seeds["b"]}
    assert all(type(s) is int and 0 <= s < 2**31 for s in seeds.values())


@pytest.mark.parametrize("unknown", ["nonsense", "cuda:99", "cpu:x"])
def test_an_unknown_device_is_refused(unknown):
    with pytest.raises(ValueError, match=rf"'{unknown}'"):
        Runtime.resolve(unknown)


def test_auto_is_a_device_and_a_precision_that_torch_has():
    runtime = Runtime.resolve("auto", "auto")
    assert torch.ones(1, device=runtime.device).item() == 1
    assert runtime.precision in ("float32", "bfloat16", "float16")
    assert runtime == Runtime.resolve("auto", "auto")


@pytest.mark.parametrize(
    ("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_precision_is_that_of_the_products(precision, dtype, device):
    rows = torch.ones(2, 2, device=device)
    with Runtime.resolve(device, precision).autocast():
        assert (rows @ rows).dtype == dtype


# --- schedule ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epochs", "n_samples", "expected"),
    [
        (7, 50, 7),
        ("auto", 100_000, 60),
        ("auto", 256 * 7, 60),  # 420 steps
        ("auto", 256 * 6, 67),  # 6 steps an epoch: 400 take 67
        ("auto", 100, 400),
        ("auto", 2, 400),
    ],
)
def test_few_data_get_more_epochs(epochs, n_samples, expected):
    assert Schedule(epochs, batch_size=256, lr=0.1).n_epochs(n_samples) == expected


# --- training ----------------------------------------------------------------------


class Task:
    """A subcontext of scikit-learn's callback API that does nothing, or stops."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after
        self.ended = 0

    def subcontext(self, name, max_subtasks=None):
        return self

    def call_on_fit_task_begin(self, **kwargs):
        pass

    def call_on_fit_task_end(self, **kwargs):
        self.ended += 1
        return self.ended == self.stop_after


class Regression(nn.Module):
    """Learns y = 0 from rows."""

    def __init__(self, interrupt=None):
        super().__init__()
        self.linear = nn.Linear(3, 1)
        self.norm = nn.BatchNorm1d(3)
        self.interrupt = interrupt
        self.modes = []
        self.sizes = []

    def forward(self, rows):
        self.modes.append((self.training, torch.is_grad_enabled()))
        self.sizes.append(len(rows))
        if self.interrupt is not None:
            raise self.interrupt
        return (self.linear(self.norm(rows)),)


class Squares(nn.Module):
    def forward(self, outputs):
        loss = outputs.square().mean()
        return loss, {"loss": loss, "one": torch.ones(())}


def rows(n=40):
    return np.random.default_rng(0).normal(size=(n, 3))


def train(module, device, *, n=40, epochs=3, batch_size=20, task=None, verbose=0):
    progress = FitProgress(None, task or Task(), Console("Name", verbose))
    runtime = Runtime.resolve(device, "float32")
    with runtime.isolated(0):
        net = Trainer(runtime, progress).run(
            Stage(
                "stage",
                module,
                Squares(),
                Samples(source_of(rows(n), device)),
                Schedule(epochs, batch_size, lr=0.1),
            )
        )
    return net, progress.history["stage"]


def test_a_line_grows_from_batch_to_batch(device, monkeypatch):
    seen = []
    display = SimpleNamespace(
        open=lambda line: None,
        show=lambda line, is_printed: seen.append(line.n_done),
        close=lambda line: None,
    )
    monkeypatch.setattr(_console, "_choose_display", lambda verbose: display)
    train(Regression(), device, n=40, batch_size=20, epochs=2, verbose=1)
    assert seen == [0, 0.5, 1, 1, 1.5, 2, 2]


def test_training_lowers_the_loss_and_records_every_epoch(device):
    module = Regression()
    net, history = train(module, device, epochs=20)
    assert [record["epoch"] for record in history] == list(range(1, 21))
    assert history[-1]["loss"] < 0.1 * history[0]["loss"]
    assert all(type(r["loss"]) is float and r["one"] == 1 for r in history)
    assert module.modes == [(True, True)] * 40
    assert set(module.sizes) == {20}
    assert not net.module_.training
    assert all(p.grad is None for p in net.module_.parameters())


def test_the_record_is_the_mean_over_batches(device):
    seen = []

    class Loud(Squares):
        def forward(self, outputs):
            seen.append(super().forward(outputs)[0].item())
            return super().forward(outputs)

    runtime = Runtime.resolve(device, "float32")
    net = StageNet(
        Regression(),
        criterion=Loud,
        runtime=runtime,
        device=device,
        batch_size=10,
        max_epochs=1,
    )
    net.fit(Samples(source_of(rows(), device)))
    assert len(seen) == 4
    assert net.history[-1]["loss"] == pytest.approx(np.mean(seen))


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 9, 10, 11, 20, 21])
def test_any_number_of_steps_can_be_trained(steps, device):
    _, history = train(Regression(), device, epochs=steps, batch_size=40)
    assert len(history) == steps


def test_training_is_reproducible_to_the_bit(device):
    weights = []
    for _ in range(2):
        with torch.random.fork_rng():
            torch.manual_seed(5)
            module = Regression()
        net, _ = train(module, device)
        weights.append(net.module_.linear.weight)
    assert torch.equal(*weights)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupt_or_error_leaves_fit(error, device):
    """skorch alone swallows the first, and the next stage would begin."""
    module = Regression(interrupt=error("stop"))
    with pytest.raises(error, match="stop"):
        train(module, device)
    assert len(module.sizes) == 1


def test_a_callback_ends_a_stage_and_what_was_learned_stays(device):
    net, history = train(Regression(), device, epochs=9, task=Task(stop_after=4))
    assert len(history) == 4
    assert not net.module_.training


def test_stop_stage_is_told_to_no_caller(device):
    module = Regression(interrupt=StopStage())
    net, history = train(module, device)
    assert len(module.sizes) == 1
    assert history == []
    assert not net.module_.training


# --- applying ----------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 7, 40, 1000])
def test_inference_does_not_depend_on_the_batch_size(batch_size, device):
    source = source_of(rows(), device)
    module = Regression().to(device).eval()
    outputs = infer(lambda x: module(x)[0], source, batch_size=batch_size)
    expected = module(source.read(torch.arange(40)))[0].detach().cpu()
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-6)
    assert outputs.device.type == "cpu"
    assert not outputs.requires_grad
    assert not any(grad for _, grad in module.modes[:-1])


def test_settled_statistics_are_those_of_the_samples(device):
    X = 5 + 3 * rows(64)
    encoder = nn.Sequential(nn.BatchNorm1d(3)).to(device)
    encoder(torch.full((8, 3), 1e3, device=device))  # views, far off
    refresh_statistics(encoder, source_of(X, device), batch_size=16)
    assert not encoder.training
    assert encoder[0].running_mean.tolist() == pytest.approx(X.mean(axis=0), rel=1e-4)
    assert encoder[0].running_var.tolist() == pytest.approx(X.var(axis=0), rel=0.2)


def test_a_step_is_known_by_its_neighbours():
    """Also where it begins with the same weights."""
    rows = np.eye(4, dtype=np.float32)
    source = ArraySource(rows, learn_format(rows), torch.device("cpu"))
    parts = torch.nn.Linear(4, 2), torch.nn.CrossEntropyLoss()
    schedule, runtime = Schedule("auto", 2, 0.1), Runtime.resolve("cpu", "float32")

    def identify(neighbors):
        pairs = NeighborPairs(source, np.array(neighbors)[:, None])
        return identify_stage(Stage("any", *parts, pairs, schedule), runtime)

    assert identify([1, 0, 3, 2]) == identify([1, 0, 3, 2])
    assert identify([1, 0, 3, 2]) != identify([2, 3, 0, 1])
