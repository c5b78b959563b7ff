# SPDX-License-Identifier: BSD-3-Clause
"""Train a stage, and apply what was trained."""

from dataclasses import dataclass

import torch
from skorch.callbacks import LRScheduler
from torch.optim.swa_utils import update_bn

from sklearn_scan._engine._data import Batches, Samples, n_even_batches
from sklearn_scan._engine._net import StageNet
from sklearn_scan._engine._progress import FitProgress
from sklearn_scan._engine._runtime import Runtime

_INFERENCE_BATCH = 1024


@dataclass(frozen=True)
class Schedule:
    """How long and how fast a stage learns.

    Attributes
    ----------
    epochs : int or "auto"
        Passes through the data; "auto" for as many as `default_epochs`, or more where
        the data are so few that these would take fewer than `min_steps` steps.
    batch_size : int
        Upper bound of the size of a batch.
    lr : float
        Peak of the learning rate, which rises for a tenth of the steps and then falls
        to zero along a cosine (Smith and Topin, 2019).
    weight_decay : float
        Decoupled, in AdamW.
    default_epochs, min_steps : int
        What "auto" means.
    """

    epochs: int | str
    batch_size: int
    lr: float
    weight_decay: float = 1e-4
    default_epochs: int = 60
    min_steps: int = 400

    def n_epochs(self, n_samples):
        """Return the number of epochs for `n_samples` samples."""
        if self.epochs != "auto":
            return int(self.epochs)
        n_batches = n_even_batches(n_samples, self.batch_size)
        return max(self.default_epochs, -(-self.min_steps // n_batches))


@dataclass(frozen=True)
class Trainer:
    """Trains the stages of one `fit`.

    Attributes
    ----------
    runtime : Runtime
        Device and precision.
    progress : FitProgress
        Told of each stage and each epoch.
    """

    runtime: Runtime
    progress: FitProgress

    def train(self, stage, module, criterion, data, schedule):
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

        Returns
        -------
        net : StageNet
            Trained, in evaluation mode, without optimiser and callbacks.
        """
        epochs = schedule.n_epochs(len(data))
        steps = epochs * n_even_batches(len(data), schedule.batch_size)
        one_cycle = LRScheduler(
            policy=torch.optim.lr_scheduler.OneCycleLR,
            step_every="batch",
            event_name=None,
            max_lr=schedule.lr,
            total_steps=max(steps, 2),
            # Torch divides by zero where the rise takes exactly one step.
            pct_start=0.1 if steps > 10 else 0.05,
        )
        with self.progress.stage(stage, epochs) as reporter:
            net = StageNet(
                module.to(self.runtime.device, memory_format=torch.channels_last),
                criterion=criterion,
                runtime=self.runtime,
                optimizer=torch.optim.AdamW,
                optimizer__weight_decay=schedule.weight_decay,
                lr=schedule.lr,
                batch_size=schedule.batch_size,
                max_epochs=epochs,
                device=self.runtime.device,
                callbacks=[("one_cycle", one_cycle), ("reporter", reporter)],
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
    net.trim_for_prediction()
    # The trained instances are `module_` and `criterion_`; kept under these names as
    # well they would be pickled twice, and from a GPU in a way no other machine reads.
    net.module, net.criterion = type(net.module), type(net.criterion)
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
