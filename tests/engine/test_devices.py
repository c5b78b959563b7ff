# SPDX-License-Identifier: BSD-3-Clause
"""What is asked of devices that this machine may not have."""

import pickle
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from sklearn_scan import _devices
from sklearn_scan._engine import Runtime, _checkpoint, _trainer, infer, wrap_trained
from sklearn_scan._inputs import ArraySource, learn_format
from sklearn_scan._losses import SCANLoss
from sklearn_scan._nets import ClusterNetwork, LinearHeads
from sklearn_scan.pretext import SimCLR

MPS = torch.device("mps")
ROWS = np.random.default_rng(0).random((100, 4), dtype=np.float32)
IMAGES = np.random.default_rng(0).random((30, 8, 8), dtype=np.float32)


@pytest.fixture
def fetched(monkeypatch):
    """Note the number of rows of every copy to the CPU."""
    sizes = []
    to_cpu = torch.Tensor.cpu

    def note(tensor):
        sizes.append(len(tensor))
        return to_cpu(tensor)

    monkeypatch.setattr(torch.Tensor, "cpu", note)
    return sizes


@pytest.mark.parametrize(
    ("most", "expected"), [(2**28, [100]), (48 * 16, [48, 48, 4]), (1, [16] * 6 + [4])]
)
def test_results_are_fetched_from_a_gpu_when_there_are_many(
    most, expected, fetched, monkeypatch
):
    monkeypatch.setattr(_trainer, "_MOST_WAITING_BYTES", most)
    with FakeTensorMode():
        parts = torch.empty(100, 4, device="cuda").split(16)
        got = _trainer._gather(parts)
    assert fetched == expected
    assert got.shape == (100, 4)
    assert got.device.type == "cpu"


@pytest.mark.parametrize("batch_size", [7, 100, 512])
def test_results_are_those_of_all_samples_in_order(batch_size, monkeypatch, device):
    monkeypatch.setattr(_trainer, "_MOST_WAITING_BYTES", 300)
    source = ArraySource(ROWS, learn_format(ROWS), device)
    got = infer(lambda batch: 2 * batch, source, batch_size=batch_size)
    assert np.array_equal(got.numpy(), 2 * ROWS)


# --- copies that do not wait -------------------------------------------------------


@pytest.mark.parametrize(("kind", "waits"), [("cuda", False), ("mps", True)])
def test_only_cuda_is_copied_to_without_waiting(kind, waits, monkeypatch):
    asked = []
    monkeypatch.setattr(
        torch.Tensor,
        "to",
        lambda tensor, device, non_blocking: asked.append((device.type, non_blocking)),
    )
    _devices.send(torch.zeros(1), torch.device(kind))
    assert asked == [(kind, not waits)]


def test_a_batch_for_mps_is_copied_at_once(monkeypatch):
    asked = []

    def note(tensor, device, non_blocking=False):
        asked.append((device.type, non_blocking))
        return tensor

    source = ArraySource(ROWS, learn_format(ROWS), "mps")
    monkeypatch.setattr(torch.Tensor, "to", note)
    source.read(torch.arange(3))
    assert asked == [("mps", False)]


# --- generators --------------------------------------------------------------------


class Generator:
    """The generator of a device that this machine has not."""

    def __init__(self, monkeypatch):
        self.state = torch.tensor([1])
        for name in ("get_rng_state", "set_rng_state", "manual_seed"):
            monkeypatch.setattr(torch.mps, name, getattr(self, name))

    def get_rng_state(self):
        return self.state.clone()

    def set_rng_state(self, state):
        self.state = state

    def manual_seed(self, seed):
        self.state = torch.tensor([seed])


@pytest.mark.parametrize("error", [None, ValueError])
def test_the_generator_of_mps_is_seeded_and_put_back(error, monkeypatch):
    generator = Generator(monkeypatch)
    expected = nullcontext() if error is None else pytest.raises(error)
    with expected, Runtime(MPS, "float32").isolated(7):
        assert int(generator.state) == 7
        if error is not None:
            raise error
    assert int(generator.state) == 1


def test_a_checkpoint_keeps_the_generator_of_mps(monkeypatch):
    generator = Generator(monkeypatch)
    kept = _checkpoint._get_generators(MPS)
    generator.manual_seed(5)
    _checkpoint._set_generators(kept, MPS)
    assert int(generator.state) == 1
    # Taken up on a machine without it.
    _checkpoint._set_generators(kept, torch.device("cpu"))
    generator.manual_seed(5)
    _checkpoint._set_generators({"cpu": kept["cpu"]}, MPS)
    assert int(generator.state) == 5


# --- nets that were trained on another device --------------------------------------


def devices_of(module):
    return {t.device.type for t in (*module.parameters(), *module.buffers())}


def test_a_network_stands_on_an_encoder_of_another_device():
    heads = ClusterNetwork(nn.Identity(), LinearHeads(4, 3), nn.Identity()).to("meta")
    assert devices_of(heads.on_top_of(nn.Linear(5, 4))) == {"meta"}


def make_net():
    encoder = nn.BatchNorm1d(4)
    network = ClusterNetwork(encoder, LinearHeads(4, 3), nn.Identity())
    runtime = Runtime(torch.device("cpu"), "bfloat16")
    return wrap_trained(network, SCANLoss(), runtime)


def test_a_net_moves_as_a_whole():
    net = make_net()
    assert net.move_to(torch.device("meta")) is net
    assert devices_of(net.module_) == {"meta"}
    assert net.device == torch.device("meta")
    assert net.runtime == Runtime(torch.device("meta"), "bfloat16")


@pytest.mark.parametrize("kind", ["cuda:7", "mps"])
def test_a_net_of_a_device_that_is_not_here_is_loaded_on_the_cpu(kind, recwarn):
    net = make_net()
    net.device, net.runtime = kind, Runtime(torch.device(kind), "bfloat16")
    loaded = pickle.loads(pickle.dumps(net))
    assert devices_of(loaded.module_) == {"cpu"}
    assert torch.device(loaded.device).type == "cpu"
    assert loaded.runtime == Runtime(torch.device("cpu"), "bfloat16")
    assert not recwarn


def test_an_estimator_of_a_gpu_answers_on_a_cpu_or_says_what_to_do():
    estimator = SimCLR(epochs=1, random_state=0, device="cpu").fit(IMAGES)
    expected = estimator.transform(IMAGES)
    estimator.net_.device = torch.device("cuda:7")
    estimator.set_params(device="cuda:7")
    loaded = pickle.loads(pickle.dumps(estimator))
    with pytest.raises(ValueError, match='Pass device="auto"'):
        loaded.transform(IMAGES)
    answer = loaded.set_params(device="cpu").transform(IMAGES)
    assert np.array_equal(answer, expected)


@pytest.mark.parametrize(
    ("capabilities", "has_tiles", "has_bfloat16"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, True, True),
        ({"amx_bf16": True}, True, True),
        ({"amx_bf16": False, "avx512_bf16": True}, False, True),
        ({"amx_bf16": False, "avx512_bf16": False}, False, False),
        ({}, False, False),
    ],
)
def test_instructions_are_what_torch_says(
    capabilities, has_tiles, has_bfloat16, monkeypatch
):
    find = {"get_capabilities": lambda: capabilities}
    monkeypatch.setattr(torch, "cpu", SimpleNamespace(**find))
    assert _devices.has_tiles() is has_tiles
    assert _devices.has_bfloat16() is has_bfloat16
    monkeypatch.setattr(torch, "cpu", SimpleNamespace())  # before torch 2.12
    assert not _devices.has_tiles()
    assert not _devices.has_bfloat16()
