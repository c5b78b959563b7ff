# SPDX-License-Identifier: BSD-3-Clause
"""Going on, after an interruption, as if there had been none."""

import os
import pickle
import types
from pathlib import Path

import joblib
import torch
from skorch.callbacks import Callback
from skorch.history import History

from sklearn_scan._engine._fingerprint import fingerprint
from sklearn_scan._engine._runtime import get_generator, set_generator
from sklearn_scan._version import __version__

# What every module has, and what its weights say already.
_OF_MODULES = set(vars(torch.nn.Module()))


class Checkpoint(Callback):
    """Writes the state of a stage after every epoch, and takes it up again.

    The state holds weights, optimizer, learning rate, generators and records: with it,
    a resumed training repeats the uninterrupted one, on a CPU to the bit. The file is
    replaced as a whole, and holds tensors and primitives alone: reading it runs no
    code.

    Parameters
    ----------
    path : Path
        The file of this stage.
    recorder : Recorder
        Keeps the records of the epochs.
    lr_schedule : Callback
        Holds the learning rate's scheduler.
    """

    def __init__(self, path, recorder, lr_schedule):
        self.path = path
        self.recorder = recorder
        self.lr_schedule = lr_schedule

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
        net.scaler_.load_state_dict(state["scaler"])
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
            "scaler": net.scaler_.state_dict(),
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
        keeper = getattr(self.lr_schedule, "lr_scheduler_", self.lr_schedule)
        return keeper if hasattr(keeper, "state_dict") else None

    def _read(self):
        try:
            return torch.load(self.path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise ValueError(
                f"The checkpoint {self.path} cannot be read: {error}. Delete the file "
                "to begin that stage anew."
            ) from error


def checkpoint_path(folder, name, identity):
    """Return the file of a stage that begins with what `identify_stage` says."""
    return Path(folder) / f"{name}-{identity[:16]}.pt"


def refuse_checkpoint(stage, error):
    """Say why there cannot be a checkpoint of a stage."""
    raise ValueError(
        "checkpoint= requires views, losses and optimizers that can be identified in a "
        f"later process. Of the stage {stage.name!r}, {error}. Leave that out, or set "
        "checkpoint=None."
    ) from error


def identify_stage(stage, runtime):
    """Return a hash of all that a stage begins with.

    That is the weights it is given, which hold what the stages before have done, the
    data, the generator, the settings, and the code of the modules and of the optimizer
    with all that it refers to. So no stage goes on where a different one stopped, or is
    taken for it.

    Returns
    -------
    identity : str

    Raises
    ------
    TypeError
        Where a part is not known again.
    """
    module, criterion, schedule = stage.module, stage.criterion, stage.schedule
    parts = {"optimizer": schedule.optimizer}
    for name, part in (*module.named_modules(), *criterion.named_modules()):
        parts[f"{type(part).__name__} {name}".strip()] = _describe(part)
    identity = {
        "version": __version__,
        "settings": fingerprint(vars(schedule) | {"optimizer": None}),
        "precision": runtime.precision,
        "generator": torch.get_rng_state().numpy(),
        "weights": {k: v.cpu().numpy() for k, v in module.state_dict().items()},
        "parts": [(n, _fingerprint_part(n, part)) for n, part in parts.items()],
        "data": (stage.data.source.array, stage.data.identity),
    }
    return joblib.hash(identity)


def _fingerprint_part(name, part):
    try:
        return fingerprint(part)
    except TypeError as error:
        raise TypeError(f"{name} cannot be identified: {error}") from error


def _describe(module):
    """Return what a module does, but for its weights and its parts."""
    # Of this package itself, code under development is told apart as well.
    held = vars(type(module)).values()
    code = [f.__code__ for f in held if isinstance(f, types.FunctionType)]
    return type(module), code, _settings_of(module)


def _settings_of(module):
    """Return what was set on a module, but for its weights and its parts."""
    return {
        name: value for name, value in vars(module).items() if name not in _OF_MODULES
    }


def _get_generators(device):
    states = {"cpu": torch.get_rng_state()}
    if (state := get_generator(device)) is not None:
        states[device.type] = state
    return states


def _set_generators(states, device):
    torch.set_rng_state(states["cpu"])
    if device.type != "cpu" and device.type in states:
        set_generator(device, states[device.type])
