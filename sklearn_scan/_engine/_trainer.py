# SPDX-License-Identifier: BSD-3-Clause
"""Train a stage, and apply what was trained."""

from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from os import PathLike

import numpy as np
import torch
from skorch.callbacks import Callback
from torch.optim.swa_utils import update_bn

from sklearn_scan._devices import available_memory
from sklearn_scan._engine._allocator import kept_memory
from sklearn_scan._engine._cache import StageCache, Unfinished
from sklearn_scan._engine._checkpoint import (
    Checkpoint,
    checkpoint_path,
    identify_stage,
    refuse_checkpoint,
)
from sklearn_scan._engine._data import Batches, Samples
from sklearn_scan._engine._memory_budget import (
    affordable_batch,
    explain_smaller_batches,
    inference_batch,
    is_surely_affordable,
    make_step,
    measure_sample,
)
from sklearn_scan._engine._net import StageNet
from sklearn_scan._engine._optimizers import OPTIMIZERS
from sklearn_scan._engine._progress import FitProgress
from sklearn_scan._engine._runtime import HALF, Runtime, inference, training_turn
from sklearn_scan._warnings import warn_user
from sklearn_scan._world import alone, world

# What is inferred on a GPU is fetched when there is more of it than this.
_MOST_WAITING_BYTES = 2**28


@dataclass(frozen=True)
class Trainer:
    """Trains the stages of one `fit`.

    Attributes
    ----------
    runtime : Runtime
        Device and precision.
    progress : FitProgress
        Told of each stage and each epoch.
    checkpoint : str, PathLike or None, default=None
        The folder in which stages write their state after every epoch, and look for
        one to go on from.
    cache : StageCache, default=StageCache()
        Keeps the weights of finished stages.
    batch_sizes : dict of int
        Per stage, the batch size that memory has room for, once it is known.
    """

    runtime: Runtime
    progress: FitProgress
    checkpoint: str | PathLike | None = None
    cache: StageCache = field(default_factory=StageCache)
    batch_sizes: dict = field(default_factory=dict, compare=False)

    def run(self, stage):
        """Train the module of a stage in place, or fetch its weights.

        Parameters
        ----------
        stage : Stage
            What to train.

        Returns
        -------
        net : StageNet
            Trained, in evaluation mode, without optimizer and callbacks.
        """
        schedule = replace(stage.schedule, batch_size=self._find_batch_size(stage))
        stage = replace(stage, schedule=schedule)
        identity = self.identify(stage)
        if identity is None or not self.cache.is_active:
            return self.train(stage, identity)[0]
        weights, records = self.cache.fetch(
            _train_to_arrays,
            stage.name,
            identity,
            stage,
            self,
            ignore=("stage", "trainer"),
            lock=lambda: f"{stage.name}-{identity}",
        )
        # What was trained just now has its weights already.
        if self.progress.take_up(stage.name, records):
            weights = {name: torch.tensor(value) for name, value in weights.items()}
            stage.module.load_state_dict(weights)
        return wrap_trained(stage.module, stage.criterion, self.runtime)

    def plan_batches(self, name, batch_size, source, prepare):
        """Return the batch size of a stage: the wish, or what memory has room for.

        It is found out once for a stage, with a warning where it is not the wish.
        Called before earlier stages run, it warns the user early.

        Parameters
        ----------
        name : str
            Of the stage.
        batch_size : int
            The wish.
        source : ArraySource
            The samples.
        prepare : callable
            Returns the forward pass of the stage, as a function of a batch, and the
            data set that batches come from; called if it has to be measured.
        """
        if name not in self.batch_sizes:
            self.batch_sizes[name] = self._find_room(name, batch_size, source, prepare)
        return min(batch_size, self.batch_sizes[name])

    def _find_batch_size(self, stage):
        def prepare():
            step = make_step(stage.module, stage.criterion, self.runtime)
            return step, stage.data

        wish, source = stage.schedule.batch_size, stage.data.source
        return self.plan_batches(stage.name, wish, source, prepare)

    def _find_room(self, name, batch_size, source, prepare):
        wanted = min(batch_size, len(source))
        free = world().least(available_memory(self.runtime.device))
        if is_surely_affordable(wanted, source, free):
            return batch_size
        with alone():
            bytes_per_sample = measure_sample(*prepare(), self.runtime)
        # The most that any process has measured, so that all take the same batches.
        bytes_per_sample = -world().least(-bytes_per_sample)
        size = affordable_batch(wanted, bytes_per_sample, free)
        if size == wanted:
            return batch_size
        self.progress.say(f"{name} takes batches of {size}, as memory is short")
        warn_user(
            explain_smaller_batches(name, wanted, size, bytes_per_sample, free, source)
        )
        return size

    def identify(self, stage):
        """Return what a stage is known by; None if not needed, or not to be had.

        A checkpoint cannot do without; a cache can, with a warning.
        """
        if self.checkpoint is None and not self.cache.is_active:
            return None
        try:
            return identify_stage(stage, self.runtime)
        except TypeError as error:
            if self.checkpoint is not None:
                refuse_checkpoint(stage, error)
            self.progress.warn_uncached(f"the stage {stage.name!r}", error)

    def train(self, stage, identity):
        """Train a stage; return its net, and whether a callback stopped it."""
        runtime, schedule, data = self.runtime, stage.schedule, stage.data
        epochs = schedule.n_epochs(len(data))
        lr_schedule = schedule.make_lr_schedule(len(data))
        announced = self.progress.stage(stage, epochs, lr_schedule)
        # Whoever needs a lock file takes the turn first; see there.
        with training_turn(), announced as (recorder, reporter):
            callbacks = [("lr_schedule", lr_schedule), ("recorder", recorder)]
            kept = self._keep(stage, identity, recorder, lr_schedule)
            with kept as checkpoint, kept_memory(runtime.device) as memory:
                callbacks.append(("memory", _Relief(memory)))
                n_done = 0
                if checkpoint is not None:
                    n_done = checkpoint.n_done
                    # Before the reporter, which may be told to stop.
                    callbacks.append(("checkpoint", checkpoint))
                module = stage.module.to(
                    runtime.device, memory_format=torch.channels_last
                )
                world().agree_on_weights(module)
                net = StageNet(
                    module,
                    criterion=stage.criterion,
                    runtime=runtime,
                    optimizer=schedule.make_optimizer,
                    lr=schedule.lr,
                    batch_size=schedule.batch_size,
                    max_epochs=epochs - n_done,
                    device=runtime.device,
                    callbacks=[*callbacks, ("reporter", reporter)],
                )
                net.fit(data)
        return trim(net), reporter.was_stopped

    def _keep(self, stage, identity, recorder, lr_schedule):
        """Return the context of a checkpoint; of None, where there is none."""
        if self.checkpoint is None:
            return nullcontext()
        path = checkpoint_path(self.checkpoint, stage.name, identity)
        return Checkpoint(path, recorder, lr_schedule).held()


class _Relief(Callback):
    """Gives memory back between steps, where holes in it have added up."""

    def __init__(self, memory):
        self.memory = memory

    def on_batch_end(self, net, **kwargs):
        self.memory.relieve()


def _train_to_arrays(name, identity, stage, trainer):
    """Train a stage; return its weights and its records as arrays and primitives."""
    net, was_stopped = trainer.train(stage, identity)
    weights = net.module_.state_dict()
    result = (
        {name: value.cpu().numpy() for name, value in weights.items()},
        trainer.progress.history[name],
    )
    if was_stopped:
        raise Unfinished(result)
    return result


def wrap_trained(module, criterion, runtime):
    """Return the net of a stage whose module has been trained elsewhere."""
    net = StageNet(
        module.to(runtime.device, memory_format=torch.channels_last),
        criterion=criterion,
        # Never used, but skorch makes one.
        optimizer=OPTIMIZERS["sgd"],
        runtime=runtime,
        device=runtime.device,
    )
    return trim(net.initialize())


def trim(net):
    """Let go of what only training needs: optimizer, scaler, callbacks, gradients."""
    net.optimizer_.zero_grad(set_to_none=True)
    vars(net).pop("scaler_", None)
    types = {"module": type(net.module), "criterion": type(net.criterion)}
    # A factory of the user need not be picklable.
    types["optimizer"] = type(net.optimizer_)
    net.trim_for_prediction()
    # The trained instances are `module_` and `criterion_`; kept under these names as
    # well they would be pickled twice, and from a GPU in a way no other machine reads.
    vars(net).update(types)
    net.module_.eval()
    return net


def refresh_statistics(encoder, source, batch_size):
    """Take the statistics of batch normalisation from the samples as they are.

    During training they come from random views, which are darker, blurrier and more
    alike than samples; inference on samples would be off by the difference.
    """
    batch_size = min(batch_size, inference_batch(source))
    with inference(source.device, source.precision):
        update_bn(Batches(Samples(source), batch_size), encoder)
    encoder.eval()


def infer(function, source, *, indices=None, batch_size=None):
    """Apply `function` to a source, batch by batch, without gradients.

    Images are looked at in the precision of their source.

    Parameters
    ----------
    function : callable
        From a batch (b, ...) to a tensor with b rows; its modules are in evaluation
        mode.
    source : ArraySource
        The samples.
    indices : ndarray of int or None, default=None
        Which of them; None for all.
    batch_size : int or None, default=None
        Samples at a time; None for 512, or fewer where samples are large.

    Returns
    -------
    outputs : Tensor of shape (n_samples, ...)
        On the CPU, in float32 at least.
    """
    indices = np.arange(len(source)) if indices is None else indices
    batch_size = batch_size or inference_batch(source)
    batches = torch.from_numpy(indices).split(batch_size)
    with inference(source.device, source.precision):
        if len(batches) == 1:  # no next one could use its memory
            return _gather(_apply(function, source, batches))
        with kept_memory(source.device, trim=False) as memory:
            return _gather(_apply(function, source, batches, memory))


def _apply(function, source, batches, memory=None):
    for batch in batches:
        outputs = function(source.read(batch))
        yield outputs.float() if outputs.dtype in HALF else outputs
        if memory is not None:
            memory.relieve()


def _gather(parts):
    """Return tensors, one after the other, as one tensor on the CPU.

    A copy from a GPU waits for all that it is still to do, and then it has nothing to
    do: results stay there until there are many.
    """
    fetched, waiting, n_bytes = [], [], 0
    for part in parts:
        is_on_gpu = part.device.type != "cpu"
        if is_on_gpu and waiting and n_bytes + part.nbytes > _MOST_WAITING_BYTES:
            fetched.append(torch.cat(waiting).cpu())
            waiting, n_bytes = [], 0
        waiting.append(part)
        n_bytes += part.nbytes
    rest = torch.cat(waiting).cpu()
    return torch.cat([*fetched, rest]) if fetched else rest
