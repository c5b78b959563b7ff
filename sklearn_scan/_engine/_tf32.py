# SPDX-License-Identifier: BSD-3-Clause
"""Float32 that is float32.

GPUs since Ampere have a shorter type, TF32, in which torch computes convolutions of
float32 unless it is told not to, and products of matrices if it is told to.
"""

import warnings
from contextlib import contextmanager
from functools import partial

import torch


@contextmanager
def exact_float32(device):
    """Compute in float32 what is in float32; put the settings of the user back."""
    if device.type != "cuda":
        yield
        return
    settings = _find_inexact()
    _set((setting, exact) for setting, _, exact in settings)
    try:
        yield
    finally:
        _set((setting, before) for setting, before, _ in settings)


def _find_inexact():
    """Return what allows TF32: how it is set, to what it is, and what forbids it.

    By the older names, which every release has. Where the user has gone by the newer
    ones, torch refuses to read the older.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    try:
        with _quiet():
            precision, allows = torch.get_float32_matmul_precision(), cudnn.allow_tf32
    except RuntimeError:
        return [
            (partial(setattr, kind, "fp32_precision"), "tf32", "ieee")
            for kind in (matmul, cudnn.conv)
            if kind.fp32_precision == "tf32"
        ]
    found = []
    if precision != "highest":
        found.append((torch.set_float32_matmul_precision, precision, "highest"))
    if allows:
        found.append((partial(setattr, cudnn, "allow_tf32"), True, False))
    return found


def _set(settings):
    with _quiet():
        for setting, value in settings:
            setting(value)


@contextmanager
def _quiet():
    # Some releases warn of the older names.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
