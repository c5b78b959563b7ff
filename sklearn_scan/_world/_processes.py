# SPDX-License-Identifier: BSD-3-Clause
"""The processes that fit together, and what they say to each other."""

import os
from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

import torch

from sklearn_scan._settings import get_config

# What launchers say the number of processes in.
_SIZES = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")

Method = TypeVar("Method", bound=Callable[..., Any])


class LostProcessError(RuntimeError):
    """Another process of a fit has ended, or does not answer."""


@dataclass(frozen=True)
class World:
    """The processes that fit together. One alone has nobody to talk to.

    Every method but `find` must be called by all of them, in the same order.

    Attributes
    ----------
    rank : int, default=0
        Which of them this is. The first, 0, writes and prints.
    size : int, default=1
        How many there are.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def find(cls, device):
        """Return the world that `accelerate launch` has started this process in.

        Parameters
        ----------
        device : str or torch.device
            The parameter `device` of an estimator.
        """
        # Else accelerate would settle on a device for the whole process.
        if not any(int(os.environ.get(name, 1)) > 1 for name in _SIZES):
            return cls()
        try:
            from accelerate import PartialState
        except ImportError as error:
            raise ImportError(
                "set_config(distributed=True) needs the package accelerate where "
                'there are several processes. Install the extra "accelerate": pip '
                'install "sklearn-scan[accelerate]".'
            ) from error
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        kind = torch.device(device).type
        state = PartialState(cpu=kind == "cpu")
        if state.num_processes > 1 and state.device.type != kind:
            raise ValueError(
                f"The processes were started to compute on {state.device.type!r}, and "
                f"this fit computes on {kind!r}. Pass device={state.device.type!r}."
            )
        return cls(state.process_index, state.num_processes)

    def agree(self, value):
        """Return what the first process has, in all of them."""
        if self.size == 1:
            return value
        values = [value if self.rank == 0 else None]
        with _watched(self):
            torch.distributed.broadcast_object_list(values, src=0)
        return values[0]

    def once(self, compute):
        """Let the first process compute something alone; return it in all of them.

        What it raises is raised in all of them.
        """
        if self.size == 1:
            return compute()
        outcome = _attempt(compute) if self.rank == 0 else None
        return _unwrap(self.agree(outcome))

    def compute_all(self, compute):
        """Let each process compute something alone; return the list of all of it.

        What one raises is raised in all of them.
        """
        if self.size == 1:
            return [compute()]
        outcomes = [None] * self.size
        outcome = _attempt(compute)
        with _watched(self):
            torch.distributed.all_gather_object(outcomes, outcome)
        return [_unwrap(each) for each in outcomes]

    def least(self, number):
        """Return the least of the numbers that processes have."""
        return min(self.compute_all(lambda: number))

    def check_same(self, what, value):
        """Refuse to go on where processes were given different things."""
        if len(set(self.compute_all(lambda: value))) > 1:
            raise ValueError(
                f"{what} is not the same in all {self.size} processes. Each must be "
                "given all samples, in the same order: use the same seed wherever your "
                "script shuffles or draws."
            )

    def agree_on_weights(self, module):
        """Give a module, in place, the weights that the first process has."""
        if self.size == 1:
            return
        with torch.no_grad(), _watched(self):
            for value in module.state_dict().values():
                if isinstance(value, torch.Tensor):
                    whole = value.contiguous()
                    torch.distributed.broadcast(whole, src=0)
                    value.copy_(whole)

    def add_gradients(self, *modules):
        """Make the gradients of a part of a batch those of the whole, in place.

        Parts of the gradient of an encoder add up. Other modules saw the whole batch in
        every process; their gradients are the same but for rounding, and are averaged,
        so that weights stay the same to the bit.
        """
        if self.size == 1:
            return
        gradients, shares = _list_gradients(modules, self.size)
        if not gradients:
            return
        flat = torch.cat(
            [
                grad.float().flatten() * share
                for grad, share in zip(gradients, shares, strict=True)
            ]
        )
        self.add(flat)
        parts = flat.split([grad.numel() for grad in gradients])
        for grad, part in zip(gradients, parts, strict=True):
            grad.copy_(part.view_as(grad))

    def add(self, tensor):
        """Add up a tensor over processes, in place, and return it."""
        with _watched(self):
            torch.distributed.all_reduce(tensor)
        return tensor

    def gather(self, part, sizes):
        """Return the parts of all processes, of the given lengths, as one tensor."""
        # Padded: parts must be equally long. In float32, which every backend knows.
        padded = part.new_zeros(max(sizes), *part.shape[1:], dtype=torch.float32)
        padded[: len(part)] = part
        parts = [torch.empty_like(padded) for _ in sizes]
        with _watched(self):
            torch.distributed.all_gather(parts, padded)
        cut = [each[:size] for each, size in zip(parts, sizes, strict=True)]
        return torch.cat(cut).to(part.dtype)


_ALONE = World()
_world: ContextVar[World] = ContextVar("world", default=_ALONE)


def world():
    """Return the processes that fit together, as seen by this one."""
    return _world.get()


@contextmanager
def alone():
    """Compute without the others, until the context ends."""
    token = _world.set(_ALONE)
    try:
        yield
    finally:
        _world.reset(token)


def fitted_together(method: Method) -> Method:
    """Let a `fit` be computed by all processes, where the user has asked for it."""

    @wraps(method)
    def fit(self, *args, **kwargs):
        if not get_config()["distributed"] or world().size > 1:
            return method(self, *args, **kwargs)
        token = _world.set(World.find(self.device))
        try:
            return method(self, *args, **kwargs)
        finally:
            _world.reset(token)

    return fit  # type: ignore[return-value]


def _attempt(compute):
    """Return what is computed without the others, and what was raised."""
    try:
        with alone():
            return compute(), None
    except Exception as error:
        return None, error


def _unwrap(outcome):
    result, error = outcome
    if error is not None:
        raise error
    return result


def _list_gradients(modules, size):
    """Return gradients, and what each counts for where processes are added up."""
    split = {
        id(parameter)
        for module in modules
        for part in module.modules()
        if getattr(part, "is_split", False)
        for parameter in part.parameters()
    }
    learning = [p for m in modules for p in m.parameters() if p.grad is not None]
    shares = [1.0 if id(p) in split else 1 / size for p in learning]
    return [p.grad for p in learning], shares


@contextmanager
def _watched(world):
    """Say what it means where others cannot be reached."""
    try:
        yield
    except RuntimeError as error:
        raise LostProcessError(
            f"Process {world.rank} of {world.size} cannot go on: another one has "
            "ended, or does not answer. What it wrote last says why."
        ) from error
