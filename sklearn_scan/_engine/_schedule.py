# SPDX-License-Identifier: BSD-3-Clause
"""How long, how fast and by which rule a stage learns."""

from dataclasses import dataclass
from functools import partial

import torch
from skorch.callbacks import Callback, LRScheduler
from torch.optim import lr_scheduler

from sklearn_scan._engine._data import n_even_batches

# Every optimiser with a name.
OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": partial(torch.optim.SGD, momentum=0.9),
}

ANNEALINGS = ("one_cycle", "cosine", "constant")


@dataclass(frozen=True)
class Schedule:
    """How long, how fast and by which rule a stage learns.

    Attributes
    ----------
    epochs : int or "auto"
        Passes through the data; "auto" for as many as `default_epochs`, or more where
        the data are so few that these would take fewer than `min_steps` steps.
    batch_size : int
        Upper bound of the size of a batch.
    lr : float
        Peak of the learning rate.
    weight_decay : float
        Decoupled in AdamW, part of the gradient in the others.
    optimizer : str or callable
        A name in `OPTIMIZERS`, or ``f(parameters, lr=, weight_decay=)``.
    annealing : {"one_cycle", "cosine", "constant"}
        "one_cycle" rises for a tenth of the steps and then falls to zero along a cosine
        (Smith and Topin, 2019), and the first momentum of "adamw" goes from 0.95 to
        0.85 and back; "cosine" falls once per epoch, to a thousandth;
        "constant" stays.
    default_epochs, min_steps : int
        What "auto" means.
    """

    epochs: int | str
    batch_size: int
    lr: float
    weight_decay: float = 1e-4
    optimizer: object = "adamw"
    annealing: str = "one_cycle"
    default_epochs: int = 60
    min_steps: int = 400

    def n_epochs(self, n_samples):
        """Return the number of epochs for `n_samples` samples."""
        if self.epochs != "auto":
            return int(self.epochs)
        n_batches = n_even_batches(n_samples, self.batch_size)
        return max(self.default_epochs, -(-self.min_steps // n_batches))

    def make_optimizer(self, parameters, lr, **kwargs):
        """Make the optimiser, as skorch asks for it."""
        named = isinstance(self.optimizer, str)
        factory = OPTIMIZERS[self.optimizer] if named else self.optimizer
        # Not numpy's floats, which a checkpoint could not hold.
        decay = float(self.weight_decay)
        return factory(parameters, lr=float(lr), weight_decay=decay, **kwargs)

    def make_annealing(self, n_samples):
        """Return the skorch callback that sets the learning rate."""
        epochs = self.n_epochs(n_samples)
        if self.annealing == "constant":
            return Callback()
        if self.annealing == "cosine":
            return LRScheduler(
                policy=lr_scheduler.CosineAnnealingLR,
                event_name=None,
                T_max=epochs,
                eta_min=float(self.lr) * 1e-3,
            )
        steps = epochs * n_even_batches(n_samples, self.batch_size)
        return LRScheduler(
            policy=lr_scheduler.OneCycleLR,
            step_every="batch",
            event_name=None,
            max_lr=float(self.lr),
            # Others have momentum of their own, or none.
            cycle_momentum=self.optimizer == "adamw",
            total_steps=max(steps, 2),
            # Torch divides by zero where the rise takes exactly one step.
            pct_start=0.1 if steps > 10 else 0.05,
        )
