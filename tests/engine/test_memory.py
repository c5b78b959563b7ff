# SPDX-License-Identifier: BSD-3-Clause
"""How much memory steps take, and what happens where there is little."""

import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_scan import SCANClustering, TrainingConfig, _devices
from sklearn_scan._engine import (
    Runtime,
    Samples,
    StageNet,
    _trainer,
    infer,
    refresh_statistics,
)
from sklearn_scan._engine._memory_budget import (
    affordable_batch,
    inference_batch,
    make_step,
    measure_sample,
)
from sklearn_scan._inputs import ArraySource, learn_format
from sklearn_scan.pretext import DeepCluster, InstanceDiscrimination, MoCo, SimCLR
from sklearn_scan.pretext._simclr import NTXentLoss


@pytest.fixture
def images():
    return np.random.default_rng(0).random((150, 12, 12), dtype=np.float32)


def source_of(X, device="cpu"):
    return ArraySource(X, learn_format(X), device)


def let_be_free(monkeypatch, n_bytes):
    """Make the machine say how much memory is free."""
    monkeypatch.setattr(_trainer, "available_memory", lambda device: n_bytes)


@pytest.fixture
def steps(monkeypatch):
    """Return what becomes a list, per step, of (samples, bytes kept)."""
    taken = []
    step_as_it_is = StageNet.train_step

    def step(self, batch, **kwargs):
        kept = {}

        def pack(tensor):
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            result = step_as_it_is(self, batch, **kwargs)
        taken.append((len(batch[0]), sum(kept.values())))
        return result

    monkeypatch.setattr(StageNet, "train_step", step)
    return taken


def small_net(shape):
    """Keep 30 kB of an image of 12 pixels, and have few weights."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.Tanh(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def clusterer(**kwargs):
    settings = {
        "n_clusters": 3,
        "pretext": SimCLR(encoder=small_net, views="none", epochs=2),
        "views": "none",
        "head_search": TrainingConfig(epochs=1),
        "clustering": TrainingConfig(epochs=2, views="none"),
        "self_labeling": TrainingConfig(epochs=2, views="none"),
        "threshold": 0.1,
        "keep": "last",
        "precision": "float32",
        "random_state": 0,
    }
    nested = {name: kwargs.pop(name) for name in [*kwargs] if "__" in name}
    return SCANClustering(**settings | kwargs).set_params(**nested)


# --- the decision ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "bytes_per_sample", "free", "expected"),
    [
        (512, 1000, 2 * 512_000, 512),  # to the last byte
        (512, 1000, 2 * 512_000 - 1, 256),
        (300, 1000, 10**9, 300),  # a wish need not be a power of two
        (300, 1000, 2 * 299_000, 256),
        (512, 42 * 2**20, 22 * 10**9, 128),  # the case that this is for
        (512, 42 * 2**20, 2**20, 2),  # batch normalisation needs two
        (2, 1, 0, 2),
        (512, 0, 0, 512),
        (512, 10**9, math.inf, 512),
    ],
)
def test_batches_are_cut_to_what_fits_in_half_of_the_memory(
    wanted, bytes_per_sample, free, expected
):
    assert affordable_batch(wanted, bytes_per_sample, free) == expected


@pytest.mark.parametrize("n", [2, 3, 50])
def test_what_a_step_keeps_of_a_sample_is_counted(n, device):
    module = nn.Sequential(nn.Linear(100, 50), nn.ReLU(), nn.Linear(50, 20))

    class Task(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = module

        def forward(self, rows):
            with torch.no_grad():
                self.module(rows)  # keeps nothing
            return (self.module(rows),)

    class Loss(nn.Module):
        def forward(self, outputs):
            return outputs.square().sum(), {}

    runtime = Runtime.resolve(device, "float32")
    data = Samples(source_of(np.ones((n, 100), dtype=np.float32), device))
    got = measure_sample(make_step(Task(), Loss(), runtime), data, runtime)
    # The input, the rectified product and the outputs.
    assert got == 4 * (100 + 50 + 20)


def test_measuring_moves_nothing(images, device):
    runtime = Runtime.resolve(device, "float32")
    source = source_of(images, device)
    task = MoCo(encoder=small_net, views="photo")
    module, criterion = task.build(source)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    generator = torch.get_rng_state()
    data = task.make_data(source, module)
    assert measure_sample(make_step(module, criterion, runtime), data, runtime) > 0
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert all(p.grad is None for p in module.parameters())


def test_what_cannot_be_measured_is_left_to_training():
    def broken(*batch):
        raise RuntimeError("no step")

    data = Samples(source_of(np.ones((9, 3), dtype=np.float32)))
    runtime = Runtime.resolve("cpu", "float32")
    assert measure_sample(broken, data, runtime) == 0


# --- fits where memory is short ----------------------------------------------------


def test_every_stage_takes_the_batches_that_memory_has_room_for(
    images, monkeypatch, steps, capsys
):
    free = 4_000_000
    let_be_free(monkeypatch, free)
    with pytest.warns(UserWarning, match="of memory in") as caught:
        fitted = clusterer(verbose=1).fit(images)
    said = "\n".join(str(w.message) for w in caught)
    assert "Batches of 150 need about 8.9 MB of memory in pretext" in said
    assert "shape (1, 12, 12). 4.0 MB are free" in said
    assert "pretext takes batches of 32" in said
    assert "clustering takes batches of 32" in said
    assert "self_labeling takes batches of 64" in said
    assert {w.filename for w in caught} == {__file__}
    assert "self_labeling takes batches of 64" in capsys.readouterr().out
    # But for the weights, which are no part of what a sample takes.
    assert max(kept for _, kept in steps) < free / 2 + 50_000
    assert np.isfinite(fitted.embedding_).all()
    assert fitted.pretext_.batch_size == 32


@pytest.mark.parametrize("late", ["clustering", "self_labeling"])
def test_the_person_is_told_before_the_pretext_is_trained(
    images, monkeypatch, steps, late
):
    let_be_free(monkeypatch, 4_000_000)
    sizes = {"clustering": 8, "self_labeling": 8} | {late: 100}
    asked = clusterer(
        pretext=SimCLR(encoder=small_net, views="none", epochs=1, batch_size=8),
        **{name: TrainingConfig(batch_size=size) for name, size in sizes.items()},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match=f"of memory in {late}"):
            asked.fit(images)
    assert steps == []


def test_a_smaller_batch_is_that_which_could_have_been_asked_for(images, monkeypatch):
    let_be_free(monkeypatch, 4_000_000)
    with pytest.warns(UserWarning, match="of memory in"):
        cut = clusterer().fit(images)
    let_be_free(monkeypatch, math.inf)
    asked = clusterer(
        pretext__batch_size=32,
        clustering=TrainingConfig(epochs=2, views="none", batch_size=32),
        self_labeling=TrainingConfig(epochs=2, views="none", batch_size=64),
    )
    assert_same(cut, asked.fit(images))


def assert_same(first, second):
    weights = second.net_.module_.state_dict()
    for name, tensor in first.net_.module_.state_dict().items():
        assert torch.equal(tensor, weights[name])
    np.testing.assert_array_equal(first.embedding_, second.embedding_)
    np.testing.assert_array_equal(first.labels_, second.labels_)


@pytest.mark.parametrize("pretext", [SimCLR, MoCo, InstanceDiscrimination])
def test_where_memory_is_enough_measuring_changes_no_bit(images, monkeypatch, pretext):
    measured = []

    def count(*args):
        measured.append(measure_sample(*args))
        return measured[-1]

    monkeypatch.setattr(_trainer, "measure_sample", count)
    fits = []
    for free in (math.inf, 40_000_000):
        let_be_free(monkeypatch, free)
        task = pretext(encoder=small_net, epochs=1, views="photo")
        fits.append(clusterer(pretext=task).fit(images))
        assert len(measured) == (0 if free == math.inf else 4)
    assert_same(*fits)


def test_a_pretext_of_its_own_takes_smaller_batches(images, monkeypatch, steps):
    let_be_free(monkeypatch, 4_000_000)
    task = SimCLR(encoder=small_net, views="none", epochs=1, precision="float32")
    with pytest.warns(UserWarning, match="pretext takes batches of 32"):
        task.fit(images)
    # Five batches of equal size, as of batch_size=32.
    assert {n for n, _ in steps} == {30}
    assert task.batch_size == 256


def test_a_cache_keeps_the_result_under_the_batch_size_that_was_taken(
    images, monkeypatch, tmp_path, steps
):
    settings = {"memory": tmp_path, "clustering": None, "self_labeling": None}
    let_be_free(monkeypatch, 4_000_000)
    with pytest.warns(UserWarning, match="pretext takes batches of 32"):
        clusterer(**settings).fit(images)
    let_be_free(monkeypatch, math.inf)
    steps.clear()
    clusterer(**settings).fit(images)
    assert 150 in {n for n, _ in steps}
    steps.clear()
    clusterer(**settings, pretext__batch_size=32).fit(images)
    assert steps == []


def test_a_frozen_encoder_keeps_nothing(images, monkeypatch, steps):
    let_be_free(monkeypatch, 4_000_000)
    heads_alone = TrainingConfig(epochs=1, views="none", freeze_encoder=True)
    clusterer(pretext__batch_size=32, clustering=heads_alone, self_labeling=None).fit(
        images
    )
    assert steps[-1][0] == 150


# --- without gradients -------------------------------------------------------------


def test_large_samples_are_looked_at_in_smaller_batches(monkeypatch):
    small, large = (
        source_of(np.zeros((600, side, side, 3), dtype=np.uint8)) for side in (96, 112)
    )
    assert inference_batch(small) == 512
    sizes = []

    def look(batch):
        sizes.append(len(batch))
        return batch[:, 0, 0, 0]

    assert infer(look, large).shape == (600,)
    assert max(sizes) * 4 * 3 * 112 * 112 <= 2**26
    assert sum(sizes) == 600
    sizes.clear()

    class Spy(nn.Module):
        def forward(self, batch):
            return look(batch)

    refresh_statistics(nn.Sequential(nn.BatchNorm2d(3), Spy()), large, 512)
    assert max(sizes) * 4 * 3 * 112 * 112 <= 2**26


# --- what is free ------------------------------------------------------------------


def test_free_memory_is_a_number_of_bytes(device):
    free = _devices.available_memory(torch.device(device))
    assert 2**20 < free


@pytest.mark.parametrize(
    ("folder", "limit", "usage"),
    [
        ("", "memory.max", "memory.current"),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ],
)
def test_a_container_has_less_than_its_machine(tmp_path, folder, limit, usage):
    free_in = _devices._free_in_container
    assert free_in(tmp_path) == math.inf
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / limit).write_text("1000\n")
    (tmp_path / folder / usage).write_text("900\n")
    statistics = "anon 300\nactive_file 200\ninactive_file 350\n"
    (tmp_path / folder / "memory.stat").write_text(statistics)
    assert free_in(tmp_path) == 1000 - 900 + 550
    (tmp_path / folder / limit).write_text("max\n")
    assert free_in(tmp_path) == math.inf


def test_the_loss_of_a_large_batch_is_not_the_mean_over_its_parts():
    """Why batches are made smaller, and gradients not added up over parts."""
    torch.manual_seed(0)
    first, second = torch.randn(2, 8, 4)
    whole, _ = NTXentLoss()(first, second)
    parts = zip(first.chunk(2), second.chunk(2), strict=True)
    mean = sum(NTXentLoss()(*part)[0] for part in parts) / 2
    assert abs(whole - mean) > 0.1


def test_deep_cluster_is_measured_as_well(images, device):
    """Its data set asks the network for labels, and a copy of it is measured."""
    runtime, source = Runtime.resolve(device, "float32"), source_of(images, device)
    task = DeepCluster(3, encoder=small_net, views="none")
    with runtime.isolated(0):
        module, criterion = task.build(source)
    step = make_step(module, criterion, runtime)
    assert measure_sample(step, task.make_data(source, module), runtime) > 0
