# SPDX-License-Identifier: BSD-3-Clause
"""Going on, after an interruption, as if there had been none."""

from pathlib import Path

import joblib
import torch
from skorch.callbacks import Callback
from skorch.history import History

from sklearn_scan._version import __version__


def checkpoint_path(root, stage, identity):
    """Return the file below `root` for a stage of what `identity` describes.

    Its name is a hash of that and of the version, so that no stage goes on where a
    different one stopped.
    """
    return Path(root) / f"{stage}-{joblib.hash((__version__, identity))[:16]}.pt"


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
        net.optimizer_.load_state_dict(state["optimizer"])
        if self._scheduler is not None:
            self._scheduler.load_state_dict(state["scheduler"])
        net.history_ = History([{"epoch": r["epoch"]} for r in state["records"]])
        self.recorder.resume(state["records"])
        _set_generators(state["generators"])

    def on_epoch_end(self, net, **kwargs):
        """Write the state."""
        state = {
            "module": net.module_.state_dict(),
            "optimizer": net.optimizer_.state_dict(),
            "scheduler": self._scheduler and self._scheduler.state_dict(),
            "records": self.recorder.records,
            "generators": _get_generators(),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.path)

    @property
    def _scheduler(self):
        return getattr(self.annealing, "lr_scheduler_", None)

    def _read(self):
        return torch.load(self.path, map_location="cpu", weights_only=True)


def _get_generators():
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _set_generators(states):
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_initialized():
        torch.cuda.set_rng_state(states["cuda"])
