# SPDX-License-Identifier: BSD-3-Clause
"""The one skorch net that all stages share."""

from dataclasses import replace

import torch
from skorch import NeuralNet

from sklearn_scan._engine._data import Batches
from sklearn_scan._world import world


class StopStage(Exception):
    """Raised by a callback: the stage is over, and what was learned is kept."""


class StageNet(NeuralNet):
    """A skorch net whose module draws its own views and whose loss names its parts.

    Differences from `skorch.NeuralNet`, each for a reason:

    * An interrupt leaves `fit` (skorch swallows it, and the next stage would begin).
    * Losses are summed on the device and read once per epoch: one synchronisation per
      epoch instead of one per step, and no history row per batch.
    * Training mode is set once per epoch, not once per step.
    * The optimizer steps without a closure, so that fused optimizers serve.

    Parameters
    ----------
    module, criterion : nn.Module
        The stage. ``criterion(*module(*batch))`` returns the scalar to minimise, and a
        dictionary of scalars to record. A module may have ``begin_epoch(data)``, which
        is given the data set before every epoch and returns such a dictionary as well.
    runtime : Runtime
        Device and precision.
    **kwargs : dict
        Passed to `skorch.NeuralNet`.
    """

    def __init__(self, module, *, criterion, runtime, **kwargs):
        kwargs.setdefault("iterator_train", Batches)
        kwargs.setdefault("train_split", None)
        kwargs.setdefault("verbose", 0)
        # The defaults of skorch print, and score what is not recorded here.
        kwargs.setdefault("callbacks__print_log", None)
        kwargs.setdefault("callbacks__train_loss", None)
        kwargs.setdefault("callbacks__valid_loss", None)
        kwargs.setdefault("predict_nonlinearity", None)
        super().__init__(module, criterion=criterion, **kwargs)
        self.runtime = runtime

    def __setstate__(self, state):
        """Take up what was pickled; on the CPU where its device is not to be had."""
        if not _is_available(state["device"]):
            state = state | {"device": "cpu"}
        super().__setstate__(state)
        self.runtime = replace(self.runtime, device=torch.device(self.device))

    def move_to(self, device):
        """Move a net that was trained to a device, and return it."""
        self.module_.to(device)
        self.device, self.runtime = device, replace(self.runtime, device=device)
        return self

    def partial_fit(self, X, y=None, classes=None, **fit_params):
        """Train on the data set `X`; see `skorch.NeuralNet.partial_fit`."""
        if not self.initialized_:
            self.initialize()
        self.scaler_ = self.runtime.make_scaler()
        routing = fit_params.pop("_routing_method", "partial_fit")
        self.notify("on_train_begin", X=X, y=y)
        try:
            self.fit_loop(X, y, _routing_method=routing, **fit_params)
        except StopStage:
            pass
        finally:
            self.notify("on_train_end", X=X, y=y)
        return self

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        """Take one step per batch and record means over the epoch."""
        if iterator is None:
            return
        self._prepare_epoch(iterator.dataset)
        self._set_training(training)
        sums = {}
        for batch in iterator:
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch, **fit_params)
            for name, value in step["record"].items():
                sums[name] = sums.get(name, 0) + value.detach()
            self.notify("on_batch_end", batch=batch, training=training, **step)
        means = {name: float(value) / len(iterator) for name, value in sums.items()}
        # Of one process: the length of a stage may go by them.
        for name, value in world().agree(means).items():
            self.history.record(name, value)

    def _prepare_epoch(self, data):
        """Let the module look at the whole data, if it wants to, before an epoch."""
        if prepare := getattr(self.module_, "begin_epoch", None):
            for name, value in prepare(data).items():
                self.history.record(name, float(value))

    def on_batch_begin(self, net, **kwargs):
        """Record nothing: skorch would add a history row per batch."""

    def train_step(self, batch, **fit_params):
        """Take one step of the optimizer."""
        self.optimizer_.zero_grad(set_to_none=True)
        with self.runtime.autocast():
            outputs = self.module_(*batch)
        loss, record = self.criterion_(*outputs)
        self.scaler_.scale(loss).backward()
        world().add_gradients(self.module_, self.criterion_)
        self.scaler_.step(self.optimizer_)
        self.scaler_.update()
        return {"loss": loss, "record": record}


def _is_available(device):
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):  # torch knows no such device, or has none
        return False
    return True
