# SPDX-License-Identifier: BSD-3-Clause
"""How long stages learn, what they keep for the next step, what importing costs."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

import sklearn_scan
from sklearn_scan import SCANClustering
from sklearn_scan._engine import OPTIMIZERS, Schedule, _allocator
from sklearn_scan._engine._allocator import kept_memory
from sklearn_scan._engine._net import StopStage
from sklearn_scan._engine._schedule import PausingCycle
from sklearn_scan.pretext import SimCLR

EPOCHS, N_BATCHES = 48, 5


class Net:
    """As much of a net as the lr_schedule looks at."""

    def __init__(self):
        group = {"lr": 0.0, "betas": (0.9, 0.999)}
        self.optimizer_ = type("Optimizer", (), {"param_groups": [group]})
        self.loss = None

    @property
    def history(self):
        return {(-1, "loss"): self.loss}


def run(losses, cycle=None):
    """Feed one loss per epoch; return the rates of the steps that were taken."""
    cycle = cycle or PausingCycle(1.0, EPOCHS, N_BATCHES, cycles_momentum=True)
    net, rates = Net(), []
    try:
        for loss in losses:
            cycle.on_epoch_begin(net)
            for _ in range(N_BATCHES):
                cycle.on_batch_begin(net)
                rates.append(net.optimizer_.param_groups[0]["lr"])
            net.loss = loss
            cycle.on_epoch_end(net)
    except StopStage:
        pass
    return np.array(rates)


def falling(n=EPOCHS):
    return (1 / np.arange(1, n + 1)).tolist()


FLAT = [1.0] * EPOCHS
# Falls by a tenth of what it has fallen so far, in every window of four epochs.
STEADY = (2 - np.arange(EPOCHS) / EPOCHS).tolist()


def test_a_settled_loss_takes_half_of_the_longest_run():
    assert len(run(FLAT)) == EPOCHS // 2 * N_BATCHES


def test_a_falling_loss_takes_the_longest_run():
    assert len(run(STEADY)) == EPOCHS * N_BATCHES


def test_a_loss_that_settles_in_time_takes_what_it_needs():
    # By 7.4 % of the whole fall in the window before the middle.
    slow = [1.0, *(0.5 - 0.011 * np.arange(19))]
    steps = len(run([*slow, *[slow[-1]] * 28])) // N_BATCHES
    assert EPOCHS // 2 < steps < EPOCHS


def test_a_loss_far_from_settled_takes_the_longest_run_whatever_comes():
    assert len(run([*STEADY[:12], *[STEADY[11]] * 36])) == EPOCHS * N_BATCHES


def test_noise_is_no_fall():
    random = np.random.default_rng(0)
    lengths = [len(run(random.normal(size=EPOCHS).tolist())) for _ in range(50)]
    # Chance exceeds one standard error once in six windows.
    assert np.median(lengths) <= (EPOCHS // 2 + 2) * N_BATCHES


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_a_diverged_loss_does_not_go_on(loss):
    assert len(run([1.0, *[loss] * (EPOCHS - 1)])) == EPOCHS // 2 * N_BATCHES


@pytest.mark.parametrize("losses", [FLAT, STEADY], ids=["flat", "steady"])
def test_the_rate_rises_falls_and_pauses_in_between(losses):
    rates = run(losses)
    top = rates.argmax()
    assert rates.max() == pytest.approx(1, abs=0.01)
    assert (np.diff(rates[: top + 1]) >= 0).all()
    assert (np.diff(rates[top:]) <= 0).all()
    assert rates[0] < 0.1 and rates[-1] < 0.01
    middle = EPOCHS // 4 * N_BATCHES
    n_paused = (rates == rates[middle]).sum()
    is_paused = losses is STEADY
    assert n_paused == (EPOCHS // 2 * N_BATCHES + 1 if is_paused else 1)


@pytest.mark.parametrize("n_before", [1, 11, 12, 13, 30, 47])
@pytest.mark.parametrize("losses", [FLAT, STEADY], ids=["flat", "steady"])
def test_a_restored_cycle_goes_on_where_it_was(losses, n_before):
    whole = run(losses)
    first = PausingCycle(1.0, EPOCHS, N_BATCHES)
    begun = run(losses[:n_before], first)
    second = PausingCycle(1.0, EPOCHS, N_BATCHES)
    second.load_state_dict(first.state_dict())
    resumed = run(losses[n_before:], second)
    assert np.array_equal(np.concatenate([begun, resumed]), whole)


def test_the_first_momentum_mirrors_the_rate():
    cycle, net = PausingCycle(2.0, EPOCHS, N_BATCHES, cycles_momentum=True), Net()
    cycle.on_epoch_begin(net)
    cycle.on_batch_begin(net)
    group = net.optimizer_.param_groups[0]
    assert group["betas"][0] == pytest.approx(0.95 - 0.1 * group["lr"] / 2)
    assert group["betas"][1] == 0.999


@pytest.mark.parametrize(
    ("schedule", "adapts"),
    [
        (Schedule("auto", 32, 0.1, ends_early=True), True),
        (Schedule("auto", 32, 0.1, ends_early=False), False),
        (Schedule(50, 32, 0.1, ends_early=True), False),
        (Schedule("auto", 32, 0.1, ends_early=True, lr_schedule="constant"), False),
        (Schedule("auto", 32, 0.1, ends_early=True, default_epochs=3), False),
    ],
)
def test_only_auto_with_one_cycle_and_room_for_windows_adapts(schedule, adapts):
    assert isinstance(schedule.make_lr_schedule(32 * 200), PausingCycle) == adapts


def test_many_data_get_no_more_steps_than_they_need():
    schedule = Schedule("auto", 100, 0.1, default_epochs=30, max_steps=1000)
    assert [schedule.n_epochs(n) for n in (1000, 5000, 10_000, 10**6)] == [
        40,  # 400 steps at least
        20,
        10,
        1,
    ]


def test_easy_data_are_learned_in_half_of_the_epochs():
    """In a whole fit, of the digits' shape but without anything to learn."""
    images = np.zeros((64, 8, 8))
    images[::2, 2:6] = 16
    pretext = SimCLR(random_state=0, views="none").fit(images)
    assert len(pretext.history_) == 200, "400 steps at least, or half of them"


# Memory.


class Library:
    """Writes down what the allocator is told."""

    def __init__(self):
        self.calls = []

    def mallopt(self, option, value):
        self.calls.append((option, value))

    def malloc_trim(self, pad):
        self.calls.append("trim")


@pytest.fixture
def library(monkeypatch):
    """Stand in for the C library."""
    library = Library()
    monkeypatch.setattr(_allocator, "_find_library", lambda: library)
    return library


CPU = torch.device("cpu")
BEGIN = list(_allocator._WHILE_TRAINING.items())
END = [*_allocator._AFTERWARDS.items(), "trim"]


def test_memory_is_kept_and_returned(library):
    with kept_memory(CPU):
        assert library.calls == BEGIN
    assert library.calls == BEGIN + END


def test_the_outermost_user_decides(library):
    with kept_memory(CPU):
        with kept_memory(CPU):
            pass
        assert library.calls == BEGIN
    assert library.calls == BEGIN + END


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_memory_is_returned_after_an_error(library, error):
    with pytest.raises(error), kept_memory(CPU):
        raise error
    assert library.calls == BEGIN + END


def test_a_gpu_has_an_allocator_of_its_own(library):
    with kept_memory(torch.device("cuda")):
        pass
    assert library.calls == []


def test_holes_are_given_back_where_they_have_added_up(library, monkeypatch):
    held = iter([100, 350, 357, 90, 100, 347])
    mebibytes = lambda: next(held) * 2**20  # noqa: E731
    monkeypatch.setattr(_allocator, "_held_bytes", mebibytes)
    trimmed = []
    with kept_memory(CPU) as memory:
        for _ in range(6):
            memory.relieve()
            trimmed.append(library.calls.count("trim"))
    # Steps take 100 at first; of 90, what is held afterwards is 257 more.
    assert trimmed == [0, 0, 1, 1, 1, 2]


@pytest.mark.skipif(_allocator._find_library() is None, reason="no memory is kept")
def test_what_a_step_left_behind_does_not_stay():
    with kept_memory(CPU) as memory:
        memory.relieve()
        before = _allocator._held_bytes()
        torch.ones(2**27)  # 512 MiB
        left = _allocator._held_bytes()
        memory.relieve()
        after = _allocator._held_bytes()
    assert left - before > 2**28, "as it would be without"
    assert after - before < 2**27


@pytest.mark.parametrize("trim", [True, False])
def test_memory_may_be_left_to_the_next_user(library, trim):
    with kept_memory(CPU, trim=trim):
        pass
    assert ("trim" in library.calls) == trim


def is_left_alone():
    """Say whether the allocator is left alone, with nothing remembered."""
    _allocator._find_library.cache_clear()
    try:
        with kept_memory(CPU):
            return _allocator._n_users == 0
    finally:
        _allocator._find_library.cache_clear()


def test_where_there_is_no_such_allocator_nothing_happens(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert is_left_alone()


def test_who_has_set_up_the_allocator_knows_better(monkeypatch):
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    assert is_left_alone()


def test_fit_leaves_no_user_behind():
    SCANClustering(3, random_state=0).fit(load_digits().data[:60])
    assert _allocator._n_users == 0


# Importing.


def test_importing_the_package_imports_nothing_heavy():
    statement = "import sys, sklearn_scan; print(*sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", statement], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "sklearn", "skorch", "scipy", "faiss"} & set(found)


def test_fitting_does_not_import_the_compiler_of_torch():
    statement = """
import sys
import numpy as np
from sklearn_scan import SCANClustering, TrainingConfig
from sklearn_scan.pretext import SimCLR

images = np.random.default_rng(0).integers(0, 255, (60, 8, 8), dtype=np.uint8)
once = TrainingConfig(epochs=1)
SCANClustering(
    3, pretext=SimCLR(epochs=1), clustering=once, self_labeling=once, random_state=0
).fit(images)
print(*sys.modules)
"""
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", statement],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "torch.optim" in found
    assert "torch._dynamo" not in found


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_optimizers_step_as_those_of_torch(name):
    def run(make):
        weight = nn.Parameter(torch.arange(3.0))
        optimizer = make([weight])
        for _ in range(3):
            optimizer.zero_grad()
            (weight**2).sum().backward()
            optimizer.step()
        return weight, optimizer.state_dict()

    of_torch = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD"}[name]
    arguments = OPTIMIZERS[name].keywords
    expected, state = run(
        lambda weights: getattr(torch.optim, of_torch)(weights, lr=0.1, **arguments)
    )
    found, found_state = run(lambda weights: OPTIMIZERS[name](weights, lr=0.1))
    assert torch.equal(found, expected)
    assert found.is_leaf and found.requires_grad
    assert found_state["param_groups"] == state["param_groups"]


@pytest.mark.parametrize(
    "name", [*sklearn_scan.__all__, *sorted(sklearn_scan._MODULES)]
)
def test_what_is_imported_late_is_there(name):
    assert name in dir(sklearn_scan)
    assert getattr(sklearn_scan, name) is not None


def test_what_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'Scan'"):
        sklearn_scan.Scan  # noqa: B018
