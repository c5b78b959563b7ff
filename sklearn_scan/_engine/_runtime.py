# SPDX-License-Identifier: BSD-3-Clause
"""Where and how arithmetic is done: device, precision, seeds; and putting things back.

Global state is borrowed: generators and grad mode are as they were when the
context ends, whether it ends well, by an exception or by an interrupt.

Torch has one generator and one default type per process, which threads share: whoever
borrows them waits for the one who has them.
"""

import os
import threading
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.utils import check_random_state

from sklearn_scan._devices import has_bfloat16
from sklearn_scan._engine._tf32 import exact_float32
from sklearn_scan._world import world

# The precisions in which autocast computes.
_HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}
HALF = tuple(_HALF.values())

_turn = threading.RLock()


def _begin_in_child():
    """Begin anew in a forked process, which has none of the threads of its parent."""
    global _turn
    _turn = threading.RLock()
    # OpenMP would wait for ever for those that its parent computed with. Workers of
    # torch's own `DataLoader` compute with one as well.
    if torch.get_num_threads() > 1:
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)


def training_turn():
    """Return the lock of this process that a thread holds while it trains.

    Whoever needs the lock file of a cache as well takes this one first. Else a thread
    that has the file would wait for one that is training, whose callback may fit an
    estimator, and wait for the file.
    """
    return _turn


@dataclass(frozen=True)
class Runtime:
    """The device and the precision of the networks.

    Attributes
    ----------
    device : torch.device
        Where tensors live.
    precision : {"float32", "bfloat16", "float16"}
        Type in which networks learn, and look at images afterwards. Losses, views and
        heads are float32 in any case.
    """

    device: torch.device
    precision: str

    @classmethod
    def resolve(cls, device="auto", precision="auto"):
        """Find out what "auto" is on this machine."""
        device = _resolve_device(device)
        if precision == "auto":
            precision = _find_fast_precision(device)
        if precision == "float16" and device.type != "cuda":
            raise ValueError(
                'precision="float16" needs a CUDA GPU, and the device is '
                f'{str(device)!r}. Leave precision at "auto", or pass "float32".'
            )
        return cls(device, precision)

    @classmethod
    def resolve_fitted(cls, device, precision):
        """Find out what "auto" is, for a network that may come from another machine.

        A precision that this one would have to emulate, or does not have, falls back to
        "auto".
        """
        device = _resolve_device(device)
        is_lacking = (precision == "float16" and device.type != "cuda") or (
            precision == "bfloat16" and not _has_fast_bfloat16(device)
        )
        return cls.resolve(device, "auto" if is_lacking else precision)

    def autocast(self):
        """Return the context in which networks compute in the precision."""
        return _autocast(self.device, self.precision)

    def make_scaler(self):
        """Return what keeps small gradients from becoming zero in float16.

        It does nothing in other precisions, whose range is that of float32.
        """
        return torch.amp.GradScaler(
            self.device.type, enabled=self.precision == "float16"
        )

    @contextmanager
    def isolated(self, seed):
        """Seed torch, enable gradients, undo the user's defaults; put all back.

        The defaults are the device, the type, and TF32 in place of float32. Threads
        take turns.
        """
        with (
            training_turn(),
            torch.random.fork_rng(devices=[]),
            _kept_generator(self.device),
            exact_float32(self.device),
            torch.inference_mode(False),
            torch.enable_grad(),
            _default_device("cpu"),
            _default_dtype(torch.float32),
        ):
            # Not torch.manual_seed, which would seed the generators of every device.
            torch.default_generator.manual_seed(seed)
            if self.device.type == "cuda":
                with torch.cuda.device(self.device):
                    torch.cuda.manual_seed(seed)
            elif self.device.type == "mps":
                torch.mps.manual_seed(seed)
            yield


@contextmanager
def inference(device, precision="float32"):
    """Compute without gradients, in a precision."""
    with torch.no_grad(), exact_inference(device), _autocast(device, precision):
        yield


def _autocast(device, precision):
    """Return the context in which networks compute in a precision.

    Without autocast's cache of weights: in older releases (pytorch issue 105211) it
    also keeps what was cast without a graph, under `no_grad`, so that a pass for
    targets takes the gradients of the pass after it. And where the user has begun an
    autocast around ours, it would keep weights that have learned since.
    """
    return torch.autocast(
        device.type,
        _HALF.get(precision),
        enabled=precision in _HALF,
        cache_enabled=False,
    )


@contextmanager
def exact_inference(device):
    """Compute in float32 on a GPU, and not in TF32; threads take turns with it."""
    if device.type != "cuda":
        yield
        return
    with training_turn(), exact_float32(device):
        yield


@contextmanager
def _kept_generator(device):
    """Put the generator of a device back, where it has one of its own."""
    before = get_generator(device)
    try:
        yield
    finally:
        set_generator(device, before)


def get_generator(device):
    """Return the state of the generator of a device; None on a CPU."""
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.mps.get_rng_state() if device.type == "mps" else None


def set_generator(device, state):
    """Set the generator of a device to a state that `get_generator` has returned."""
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    elif device.type == "mps":
        torch.mps.set_rng_state(state)


def _default_device(device):
    # As a context, a device looks at every call of torch.
    is_default = torch.get_default_device() == torch.device(device)
    return nullcontext() if is_default else torch.device(device)


@contextmanager
def _default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def resolve_seed(random_state):
    """Return an integer seed; a generator that was passed moves on, as in numpy."""
    if isinstance(random_state, (int, np.integer)):
        return int(random_state)
    return world().agree(_draw_seed(random_state))


def _draw_seed(random_state):
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def spawn_seeds(seed, names):
    """Return an independent seed for each of `names`, the same for the same place."""
    states = np.random.SeedSequence(seed).generate_state(len(names))
    return dict(zip(names, (states >> 1).tolist(), strict=True))


def _resolve_device(device):
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            "The 'device' parameter must be \"auto\" or the name of a torch device, "
            f'such as "cpu", "cuda", "cuda:1" or "mps". Got {device!r} instead.'
        ) from error
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        # What torch says of it is above in the traceback; it may fill a page.
        raise ValueError(
            f"device={str(device)!r} is not available: torch finds no such device here."
            ' Pass device="auto" to compute on a GPU where there is one, or "cpu".'
        ) from error
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())
    return device


def _find_fast_precision(device):
    """Return the precision in which a device trains fastest."""
    if _has_fast_bfloat16(device):
        return "bfloat16"
    # The first tensor cores know float16 alone; GPUs before them gain little by it.
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0):
        return "float16"
    return "float32"


def _has_fast_bfloat16(device):
    """Say whether the device has bfloat16 instructions.

    Where it has none bfloat16 is emulated, and slower than float32.
    """
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and has_bfloat16()
