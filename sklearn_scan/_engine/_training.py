# SPDX-License-Identifier: BSD-3-Clause
"""Train a stage, and apply what was trained."""

from dataclasses import dataclass
from os import PathLike

import torch
from torch.optim.swa_utils import update_bn

from sklearn_scan._engine._checkpoint import Checkpoint, checkpoint_path
from sklearn_scan._engine._data import Batches, Samples
from sklearn_scan._engine._net import StageNet
from sklearn_scan._engine._progress import FitProgress
from sklearn_scan._engine._runtime import Runtime

_INFERENCE_BATCH = 1024


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
    """

    runtime: Runtime
    progress: FitProgress
    checkpoint: str | PathLike | None = None

    def train(self, stage, module, criterion, data, schedule, snapshot=None):
        """Train the module of a stage and return its net.

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
        epochs = schedule.n_epochs(len(data))
        annealing = schedule.make_annealing(len(data))
        with self.progress.stage(stage, epochs, snapshot) as (recorder, reporter):
            callbacks = [("annealing", annealing), ("recorder", recorder)]
            n_done = 0
            if self.checkpoint is not None:
                path = checkpoint_path(
                    self.checkpoint,
                    stage,
                    module,
                    criterion,
                    data,
                    schedule,
                    self.runtime,
                )
                checkpoint = Checkpoint(path, recorder, annealing)
                n_done = checkpoint.n_done
                # Before the reporter, which may be told to stop.
                callbacks.append(("checkpoint", checkpoint))
            net = StageNet(
                module.to(self.runtime.device, memory_format=torch.channels_last),
                criterion=criterion,
                runtime=self.runtime,
                optimizer=schedule.make_optimizer,
                lr=schedule.lr,
                batch_size=schedule.batch_size,
                max_epochs=epochs - n_done,
                device=self.runtime.device,
                callbacks=[*callbacks, ("reporter", reporter)],
            )
            net.fit(data)
        return finish(net)


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
    update_bn(Batches(Samples(source), batch_size), encoder)
    encoder.eval()


def infer(function, source, *, batch_size=_INFERENCE_BATCH):
    """Apply `function` to a source, batch by batch, in float32 and without gradients.

    Parameters
    ----------
    function : callable
        From a batch (b, ...) to a tensor with b rows; its modules are in evaluation
        mode.
    source : ArraySource
        The samples.
    batch_size : int, default=1024
        Samples at a time.

    Returns
    -------
    outputs : Tensor of shape (n_samples, ...)
        On the CPU.
    """
    with torch.no_grad():
        parts = [
            function(source.read(indices)).cpu()
            for indices in torch.arange(len(source), device="cpu").split(batch_size)
        ]
    return torch.cat(parts)
