# SPDX-License-Identifier: BSD-3-Clause
"""Train a stage, and apply what was trained."""

from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from joblib import Memory
from torch.optim.swa_utils import update_bn

from sklearn_scan._engine._allocator import kept_memory
from sklearn_scan._engine._checkpoint import (
    Checkpoint,
    checkpoint_path,
    identify_stage,
)
from sklearn_scan._engine._data import Batches, Samples
from sklearn_scan._engine._lock import hold
from sklearn_scan._engine._memory_budget import (
    affordable_batch,
    available_memory,
    inference_batch,
    is_surely_affordable,
    make_step,
    measure_sample,
    warn_of_smaller_batches,
)
from sklearn_scan._engine._net import StageNet
from sklearn_scan._engine._progress import FitProgress
from sklearn_scan._engine._runtime import Runtime
from sklearn_scan._engine._schedule import Schedule


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
    memory : joblib.Memory, default=Memory(None)
        The cache of finished stages.
    batch_sizes : dict of int
        Per stage, the batch size that memory has room for, once it is known.
    """

    runtime: Runtime
    progress: FitProgress
    checkpoint: str | PathLike | None = None
    memory: Memory = field(default_factory=partial(Memory, None))
    batch_sizes: dict = field(default_factory=dict, compare=False)

    def plan_batches(self, stage, batch_size, data, prepare):
        """Return the batch size of a stage: the wish, or what memory has room for.

        It is found out once for a stage, with a warning where it is not the wish. To
        ask before an earlier stage is trained spares the person a late surprise.

        Parameters
        ----------
        stage : str
            The name of the stage.
        batch_size : int
            The wish.
        data : Samples
            What the stage learns from.
        prepare : callable
            Returns the forward pass of the stage, as a function of a batch; called if
            it has to be measured.
        """
        if stage not in self.batch_sizes:
            self.batch_sizes[stage] = self._find_room(stage, batch_size, data, prepare)
        return min(batch_size, self.batch_sizes[stage])

    def _find_room(self, stage, batch_size, data, prepare):
        wanted, free = min(batch_size, len(data)), available_memory(self.runtime.device)
        if is_surely_affordable(wanted, data.source, free):
            return batch_size
        bytes_per_sample = measure_sample(prepare(), data, self.runtime)
        size = affordable_batch(wanted, bytes_per_sample, free)
        if size == wanted:
            return batch_size
        self.progress.say(f"{stage} takes batches of {size}, as memory is short")
        warn_of_smaller_batches(
            stage, wanted, size, bytes_per_sample, free, data.source
        )
        return size

    def train(self, stage, module, criterion, data, schedule, snapshot=None):
        """Train the module of a stage, or fetch its weights, and return its net.

        Parameters
        ----------
        stage : str
            The name of the stage.
        module, criterion : nn.Module
            The stage, as `StageNet` describes.
        data : Samples or NeighborPairs
            What it learns from.
        schedule : Schedule
            How long and how fast.
        snapshot : callable or None, default=None
            See `FitProgress.stage`.

        Returns
        -------
        net : StageNet
            Trained, in evaluation mode, without optimiser and callbacks.
        """
        prepare = partial(make_step, module, criterion, self.runtime)
        size = self.plan_batches(stage, schedule.batch_size, data, prepare)
        schedule = replace(schedule, batch_size=size)
        job = _Job(self, stage, module, criterion, data, schedule, snapshot)
        if not is_caching(self.memory):
            return job.run()
        try:
            identity = job.identity
        except TypeError as error:
            self.progress.warn_uncached(f"the stage {stage!r}", error)
            return job.run()
        remember = self.memory.cache(_run_to_arrays, ignore=["job"])
        with one_at_a_time(self.memory, lambda: f"{stage}-{identity}"):
            try:
                weights, records = remember(stage, identity, job)
            except Unfinished:
                pass
        if job.net is not None:
            return job.net
        self.progress.say(f"{stage} taken from the cache")
        self.progress.history[stage] = records
        module.load_state_dict({k: torch.tensor(v) for k, v in weights.items()})
        return wrap_trained(module, criterion, self.runtime)


class Unfinished(Exception):
    """Takes the result of a stage that a callback stopped past the cache.

    What raises is not stored; the next fit would take it for the finished one.
    """


def is_caching(memory):
    """Say whether a memory remembers anything."""
    return not (isinstance(memory, Memory) and memory.location is None)


def one_at_a_time(memory, identify):
    """Make whoever wants what another process is computing wait for the cache.

    A parallel search starts several candidates of one fold at once; without the lock
    each of them would train what they share. `identify` returns what that is known by;
    it may be slow, and is asked only where there is a cache.
    """
    location = getattr(memory, "location", None)
    if location is None:
        return nullcontext()
    return hold(Path(location) / f"sklearn_scan-{identify()}.lock")


def _run_to_arrays(stage, identity, job):
    """Run a job; return its weights and its records as arrays and primitives."""
    weights = job.run().module_.state_dict()
    if job.was_stopped:
        raise Unfinished
    return (
        {name: value.cpu().numpy() for name, value in weights.items()},
        job.trainer.progress.history[stage],
    )


@dataclass
class _Job:
    """One stage to be trained; see `Trainer.train`."""

    trainer: Trainer
    stage: str
    module: object
    criterion: object
    data: object
    schedule: Schedule
    snapshot: object
    net: StageNet | None = None  # once it is trained
    was_stopped: bool = False

    @cached_property
    def identity(self):
        """Return a hash of all that the stage begins with."""
        return identify_stage(
            self.module, self.criterion, self.data, self.schedule, self.trainer.runtime
        )

    def known_by(self):
        """Return the identity; say why `checkpoint=` cannot be had without."""
        try:
            return self.identity
        except TypeError as error:
            raise ValueError(
                "checkpoint= needs views, losses and optimisers that are known again, "
                f"and of the stage {self.stage!r}, {error}. Leave that out, or leave "
                "checkpoint out."
            ) from error

    def run(self):
        """Train, from a checkpoint if there is one, and return the net."""
        runtime, schedule, data = self.trainer.runtime, self.schedule, self.data
        epochs = schedule.n_epochs(len(data))
        lr_schedule = schedule.make_lr_schedule(len(data))
        stage = self.trainer.progress.stage(
            self.stage, epochs, lr_schedule, self.snapshot
        )
        with stage as (recorder, reporter):
            callbacks = [("lr_schedule", lr_schedule), ("recorder", recorder)]
            n_done = 0
            if self.trainer.checkpoint is not None:
                folder = self.trainer.checkpoint
                path = checkpoint_path(folder, self.stage, self.known_by())
                checkpoint = Checkpoint(path, recorder, lr_schedule)
                n_done = checkpoint.n_done
                # Before the reporter, which may be told to stop.
                callbacks.append(("checkpoint", checkpoint))
            net = StageNet(
                self.module.to(runtime.device, memory_format=torch.channels_last),
                criterion=self.criterion,
                runtime=runtime,
                optimizer=schedule.make_optimizer,
                lr=schedule.lr,
                batch_size=schedule.batch_size,
                max_epochs=epochs - n_done,
                device=runtime.device,
                callbacks=[*callbacks, ("reporter", reporter)],
            )
            with kept_memory(runtime.device):
                net.fit(data)
        self.was_stopped = reporter.was_stopped
        self.net = finish(net)
        return self.net


def wrap_trained(module, criterion, runtime):
    """Return the net of a stage whose module has been trained elsewhere."""
    net = StageNet(
        module.to(runtime.device, memory_format=torch.channels_last),
        criterion=criterion,
        runtime=runtime,
        device=runtime.device,
    )
    return finish(net.initialize())


def finish(net):
    """Let go of what only training needs: optimiser, callbacks, gradients."""
    net.optimizer_.zero_grad(set_to_none=True)
    types = {"module": type(net.module), "criterion": type(net.criterion)}
    # A factory of the user need not be picklable.
    types["optimizer"] = type(net.optimizer_)
    net.trim_for_prediction()
    # The trained instances are `module_` and `criterion_`; kept under these names as
    # well they would be pickled twice, and from a GPU in a way no other machine reads.
    vars(net).update(types)
    net.module_.eval()
    return net


def settle_statistics(encoder, source, batch_size):
    """Take the statistics of batch normalisation from the samples as they are.

    During training they come from random views, which are darker, blurrier and more
    alike than samples; inference on samples would be off by the difference.
    """
    batch_size = min(batch_size, inference_batch(source))
    update_bn(Batches(Samples(source), batch_size), encoder)
    encoder.eval()


def infer(function, source, *, indices=None, batch_size=None):
    """Apply `function` to a source, batch by batch, in float32 and without gradients.

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
        On the CPU.
    """
    indices = np.arange(len(source)) if indices is None else indices
    batch_size = batch_size or inference_batch(source)
    # One batch has no next one that could use its memory.
    is_long = len(indices) > batch_size
    keeping = kept_memory(source.device, trim=False) if is_long else nullcontext()
    with torch.no_grad(), keeping:
        parts = [
            function(source.read(part)).cpu()
            for part in torch.from_numpy(indices).split(batch_size)
        ]
    return torch.cat(parts)
