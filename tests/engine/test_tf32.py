# SPDX-License-Identifier: BSD-3-Clause
"""Float32 is float32, and what the user has set for it is there afterwards."""

import warnings
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from sklearn_scan._engine import Runtime, _runtime, infer
from sklearn_scan._engine._tf32 import exact_float32
from sklearn_scan._inputs import ArraySource, learn_format

CUDA = torch.device("cuda")
cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
has_newer_names = hasattr(cudnn, "conv")


def read():
    """Return all settings, of all names."""
    readers = [
        lambda: cudnn.allow_tf32,
        lambda: matmul.allow_tf32,
        torch.get_float32_matmul_precision,
    ]
    if has_newer_names:
        readers += [lambda: cudnn.conv.fp32_precision, lambda: matmul.fp32_precision]
    values = []
    for reader in readers:
        try:
            values.append(reader())
        except RuntimeError:  # names were mixed
            values.append("mixed")
    return values


def is_exact():
    """Say whether torch computes neither convolutions nor products in TF32."""
    if has_newer_names:
        return "tf32" not in (cudnn.conv.fp32_precision, matmul.fp32_precision)
    return not (cudnn.allow_tf32 or matmul.allow_tf32)


def set_newer(convolutions, products):
    cudnn.conv.fp32_precision, matmul.fp32_precision = convolutions, products


def set_older(convolutions, products):
    cudnn.allow_tf32, matmul.allow_tf32 = convolutions, products


@pytest.fixture(autouse=True)
def settings():
    """Put the defaults back, however they were changed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
        if has_newer_names:
            set_newer("tf32", "none")
        torch.set_float32_matmul_precision("highest")
        cudnn.allow_tf32 = True


CHANGES = {
    "defaults": lambda: None,
    "older, all": lambda: set_older(True, True),
    "older, nothing": lambda: set_older(False, False),
    "older, products": lambda: set_older(False, True),
    "high": lambda: torch.set_float32_matmul_precision("high"),
    "medium": lambda: torch.set_float32_matmul_precision("medium"),
}
if has_newer_names:
    CHANGES |= {
        "newer, all": lambda: set_newer("tf32", "tf32"),
        "newer, nothing": lambda: set_newer("ieee", "ieee"),
        "newer, products": lambda: set_newer("ieee", "tf32"),
        "newer, convolutions": lambda: set_newer("tf32", "ieee"),
    }


@pytest.mark.parametrize("error", [None, ValueError])
@pytest.mark.parametrize("change", CHANGES)
def test_tf32_is_off_within_and_as_it_was_afterwards(change, error):
    CHANGES[change]()
    before = read()
    expected = nullcontext() if error is None else pytest.raises(error)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with expected, exact_float32(CUDA):
            assert is_exact()
            if error is not None:
                raise error
    assert read() == before


def test_it_may_be_nested():
    before = read()
    with exact_float32(CUDA), exact_float32(CUDA):
        assert is_exact()
    assert read() == before


def test_on_a_cpu_nothing_is_touched():
    before = read()
    with exact_float32(torch.device("cpu")):
        assert read() == before


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_all_that_trains_is_exact(precision, monkeypatch):
    monkeypatch.setattr(_runtime, "exact_float32", lambda device: exact_float32(CUDA))
    with Runtime(torch.device("cpu"), precision).isolated(0):
        assert is_exact()
    assert not is_exact()


def test_all_that_is_inferred_is_exact(monkeypatch):
    noted = []
    exact = _runtime.exact_inference
    monkeypatch.setattr(_runtime, "exact_inference", lambda device: exact(CUDA))
    rows = np.zeros((5, 2), dtype=np.float32)

    def note(batch):
        noted.append(is_exact())
        return batch

    infer(note, ArraySource(rows, learn_format(rows), "cpu"), batch_size=2)
    assert noted == [True] * 3
    assert not is_exact()
