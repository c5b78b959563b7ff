# SPDX-License-Identifier: BSD-3-Clause
"""Going on, after an interruption, as if there had been none."""

import io
import math
import time
import types
from contextlib import contextmanager, suppress
from pathlib import Path

import joblib
import torch
from skorch.callbacks import Callback
from skorch.history import History

from sklearn_scan._disk import (
    check_writable,
    hold,
    read_checked,
    sync,
    write_checked,
)
from sklearn_scan._engine._fingerprint import fingerprint
from sklearn_scan._engine._runtime import get_generator, set_generator
from sklearn_scan._version import __version__
from sklearn_scan._warnings import warn_user
from sklearn_scan._world import world

# What every module has, and what its weights say already.
_OF_MODULES = set(vars(torch.nn.Module()))

# Epochs of small data take milliseconds, and a disk takes longer to be waited for. A
# process that is killed loses nothing by it; a power cut, so many seconds.
_SECONDS_UNSYNCED = 1.0

_KEPT = "The states before it are kept: the same call goes on from there."


class Checkpoint(Callback):
    """Writes the state of a stage after every epoch, and takes it up again.

    The state holds weights, optimizer, learning rate, generators and records: with it,
    a resumed training repeats the uninterrupted one, on the same CPU to the bit. It is
    written as a whole, with a checksum, beside the last one that is surely on the disk,
    which is read where the later one is damaged, and deleted when the stage ends. Files
    hold tensors and primitives alone: reading them runs no code.

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
        self._state = None
        self._is_damaged = False
        self._is_synced = True
        self._synced_at = -math.inf

    @contextmanager
    def held(self):
        """Return a context in which no other process trains this stage.

        Who waited for it takes up what the other has done. The context yields the
        checkpoint.
        """
        if world().rank:  # the first process alone reads and writes
            self._state = world().agree(None)
            yield self
            return
        check_writable(self.path.parent, "It is the folder of checkpoint=.")
        with hold(self.path.with_name(f"sklearn_scan-{self.path.stem}.lock")):
            self._state = world().agree(self._read())
            yield self
            # The stage has come to its end, and the last state is safely there.
            if self.path.exists() and not self._is_damaged:
                sync(self.path)
                self._before.unlink(missing_ok=True)

    @property
    def n_done(self):
        """Epochs that an earlier run has finished."""
        return 0 if self._state is None else len(self._state["records"])

    def on_train_begin(self, net, **kwargs):
        """Take up the state, if there is one."""
        state, self._state = self._state, None
        if state is None:
            return
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
        if world().rank:
            return
        state = {
            "module": net.module_.state_dict(),
            "criterion": net.criterion_.state_dict(),
            "optimizer": net.optimizer_.state_dict(),
            "scaler": net.scaler_.state_dict(),
            "scheduler": self._scheduler and self._scheduler.state_dict(),
            "records": self.recorder.records,
            "generators": _get_generators(net.runtime.device),
        }
        written = io.BytesIO()
        torch.save(state, written)
        self._keep_before()
        now = time.monotonic()
        self._is_synced = now - self._synced_at >= _SECONDS_UNSYNCED
        if self._is_synced:
            self._synced_at = now
        content = written.getbuffer()
        write_checked(self.path, content, _KEPT, is_synced=self._is_synced)

    @property
    def _scheduler(self):
        keeper = getattr(self.lr_schedule, "lr_scheduler_", self.lr_schedule)
        return keeper if hasattr(keeper, "state_dict") else None

    @property
    def _before(self):
        return self.path.with_suffix(".before.pt")

    def _keep_before(self):
        """Let the last state be the one before, unless it may be damaged."""
        if self._is_damaged or not self._is_synced:
            self._is_damaged = False
            return
        with suppress(FileNotFoundError):
            self.path.replace(self._before)

    def _read(self):
        """Return the last state that is whole; None, where there is none."""
        for path in (self.path, self._before):
            try:
                content = io.BytesIO(read_checked(path))
                return torch.load(content, map_location="cpu", weights_only=True)
            except FileNotFoundError:
                continue
            except OSError:
                raise
            # A checksum that is right promises little: anybody can write one.
            except Exception as error:
                self._is_damaged |= path == self.path
                warn_user(
                    f"The checkpoint {str(path)!r} is damaged ({error}). The stage "
                    "goes on from the state before it, or begins anew where there is "
                    "none."
                )
        return None


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
