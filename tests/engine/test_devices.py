# SPDX-License-Identifier: BSD-3-Clause
"""What is asked of devices that this machine may not have."""

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from sklearn_scan._engine import _trainer, infer
from sklearn_scan._inputs import ArraySource, learn_format

ROWS = np.random.default_rng(0).random((100, 4), dtype=np.float32)


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
