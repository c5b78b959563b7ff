# SPDX-License-Identifier: BSD-3-Clause
"""Going on, after an interruption, as if there had been none."""

import inspect
import os
import pickle
from functools import lru_cache
from pathlib import Path

import joblib
import torch
from skorch.callbacks import Callback
from skorch.history import History

from sklearn_scan._version import __version__

# What every module has, and what its weights say already.
_OF_MODULES = set(vars(torch.nn.Module()))


class Checkpoint(Callback):
    """Writes the state of a stage after every epoch, and takes it up again.

    The state holds weights, optimiser, learning rate, generators and records: with it,
    a resumed training repeats the uninterrupted one, on a CPU to the bit. The file is
    replaced as a whole, and holds tensors and primitives alone: reading it runs no
    code.

    Parameters
    ----------
    path : Path
        The file of this stage.
    recorder : Recorder
        Keeps the records of the epochs.
    annealing : Callback
        Holds the learning rate's scheduler.
    """

    def __init__(self, path, recorder, annealing):
        self.path = path
        self.recorder = recorder
        self.annealing = annealing

    @property
    def n_done(self):
        """Epochs that an earlier run has finished."""
        return len(self._read()["records"]) if self.path.exists() else 0

    def on_train_begin(self, net, **kwargs):
        """Take up the state, if there is one."""
        if not self.path.exists():
            return
        state = self._read()
        net.module_.load_state_dict(state["module"])
        net.criterion_.load_state_dict(state["criterion"])
        net.optimizer_.load_state_dict(state["optimizer"])
        if self._scheduler is not None:
            self._scheduler.load_state_dict(state["scheduler"])
        net.history_ = History([{"epoch": r["epoch"]} for r in state["records"]])
        self.recorder.resume(state["records"])
        _set_generators(state["generators"], net.runtime.device)

    def on_epoch_end(self, net, **kwargs):
        """Write the state."""
        state = {
            "module": net.module_.state_dict(),
            "criterion": net.criterion_.state_dict(),
            "optimizer": net.optimizer_.state_dict(),
            "scheduler": self._scheduler and self._scheduler.state_dict(),
            "records": self.recorder.records,
            "generators": _get_generators(net.runtime.device),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Of this process alone: another one may be at the same stage.
        partial = self.path.with_suffix(f".{os.getpid()}.partial")
        torch.save(state, partial)
        partial.replace(self.path)

    @property
    def _scheduler(self):
        keeper = getattr(self.annealing, "lr_scheduler_", self.annealing)
        return keeper if hasattr(keeper, "state_dict") else None

    def _read(self):
        try:
            return torch.load(self.path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise ValueError(
                f"The checkpoint {self.path} cannot be read: {error}. Delete the file "
                "to begin that stage anew."
            ) from error


def checkpoint_path(folder, stage, identity):
    """Return the file of a stage that begins with what `identify_stage` says."""
    if identity is None:
        raise ValueError(
            "checkpoint= needs views, losses and optimisers that can be pickled, and "
            f"of the stage {stage!r} one cannot. Define functions and classes at the "
            "top level of a module, or leave checkpoint out."
        )
    return Path(folder) / f"{stage}-{identity[:16]}.pt"


def identify_stage(module, criterion, data, schedule, runtime):
    """Return a hash of all that a stage begins with.

    That is the weights it is given, which hold what the stages before have done, the
    data, the generator, the settings, and the code of the modules. So no stage goes on
    where a different one stopped, or is taken for it.

    Returns
    -------
    identity : str or None
        None where a part cannot be pickled.
    """
    parts = [module, criterion]
    identity = {
        "version": __version__,
        "settings": (schedule, runtime.precision),
        "generator": torch.get_rng_state().numpy(),
        "weights": {k: v.cpu().numpy() for k, v in module.state_dict().items()},
        "code": sorted({_code_of(m) for part in parts for m in part.modules()}),
        "optimizer": source_of(schedule.optimizer),
        "parameters": [_settings_of(m) for part in parts for m in part.modules()],
        "data": (data.source.array, data.identity),
    }
    try:
        return joblib.hash(identity)
    except (pickle.PicklingError, AttributeError, TypeError):
        return None


@lru_cache(maxsize=256)
def _read_source(factory):
    """Read the code of a class or function; slow, and the same for the same object."""
    return inspect.getsource(factory)


def source_of(factory):
    """Return the code of a class or function; None for names, and where there is none.

    With it in a key, an edited factory is not taken for the old one.
    """
    try:
        return _read_source(factory)
    except (OSError, TypeError):
        return None


def _code_of(module):
    return source_of(type(module)) or repr(type(module))


def _settings_of(module):
    """Return what was set on a module, but for its weights and its parts."""
    return {
        name: value
        for name, value in vars(module).items()
        if name not in _OF_MODULES and not isinstance(value, torch.Tensor)
    }


def _get_generators(device):
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _set_generators(states, device):
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
