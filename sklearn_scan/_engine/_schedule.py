# SPDX-License-Identifier: BSD-3-Clause
"""How long, how fast and by which rule a stage learns."""

import math
from dataclasses import dataclass

import torch
from skorch.callbacks import Callback, LRScheduler
from torch.optim import lr_scheduler

from sklearn_scan._engine._data import n_even_batches
from sklearn_scan._engine._net import StopStage
from sklearn_scan._engine._optimizers import OPTIMIZERS

LR_SCHEDULES = ("one_cycle", "cosine", "constant")


# What `PausingCycle` says in words.
_RISE = 0.1
_WINDOWS = 12
_FLAT = 0.04


@dataclass(frozen=True)
class Schedule:
    """How long, how fast and by which rule a stage learns.

    Attributes
    ----------
    epochs : int or "auto"
        Passes through the data; "auto" for at most `default_epochs`, or more where the
        data are so few that these would take fewer than `min_steps` steps, or fewer
        where they are so many that these would take more than `max_steps`.
    batch_size : int
        Upper bound of the size of a batch.
    lr : float
        Peak of the learning rate.
    weight_decay : float
        Decoupled in AdamW, part of the gradient in the others.
    optimizer : str or callable
        A name in `OPTIMIZERS`, or ``f(parameters, lr=, weight_decay=)``.
    lr_schedule : {"one_cycle", "cosine", "constant"}
        "one_cycle" rises for a tenth of the steps and then falls to zero along a cosine
        (Smith and Topin, 2019), and the first momentum of "adamw" goes from 0.95 to
        0.85 and back; "cosine" falls once per epoch, to a thousandth;
        "constant" stays.
    default_epochs, min_steps, max_steps : int
        What "auto" means.
    ends_early : bool
        Whether "auto" may end earlier, under "one_cycle": see `PausingCycle`. For
        losses that fall while a stage learns.
    """

    epochs: int | str
    batch_size: int
    lr: float
    weight_decay: float = 1e-4
    optimizer: object = "adamw"
    lr_schedule: str = "one_cycle"
    default_epochs: int = 60
    min_steps: int = 400
    max_steps: int = 10**9
    ends_early: bool = False

    def n_epochs(self, n_samples):
        """Return the number of epochs, at most, for `n_samples` samples."""
        if self.epochs != "auto":
            return int(self.epochs)
        n_batches = n_even_batches(n_samples, self.batch_size)
        least, most = -(-self.min_steps // n_batches), -(-self.max_steps // n_batches)
        return max(least, min(self.default_epochs, most))

    def n_steps(self, n_samples):
        """Return the number of steps, at most, for `n_samples` samples."""
        n_batches = n_even_batches(n_samples, self.batch_size)
        return self.n_epochs(n_samples) * n_batches

    def make_optimizer(self, parameters, lr, **kwargs):
        """Make the optimizer, as skorch asks for it."""
        named = isinstance(self.optimizer, str)
        factory = OPTIMIZERS[self.optimizer] if named else self.optimizer
        # Not numpy's floats, which a checkpoint could not hold.
        decay = float(self.weight_decay)
        return factory(parameters, lr=float(lr), weight_decay=decay, **kwargs)

    def make_lr_schedule(self, n_samples):
        """Return the skorch callback that sets the learning rate."""
        epochs = self.n_epochs(n_samples)
        n_batches = n_even_batches(n_samples, self.batch_size)
        cycles_momentum = self.optimizer == "adamw"
        is_adaptive = self.ends_early and self.epochs == "auto"
        if is_adaptive and self.lr_schedule == "one_cycle" and epochs >= _WINDOWS:
            return PausingCycle(float(self.lr), epochs, n_batches, cycles_momentum)
        if self.lr_schedule == "constant":
            return Callback()
        if self.lr_schedule == "cosine":
            return LRScheduler(
                policy=lr_scheduler.CosineAnnealingLR,
                event_name=None,
                T_max=epochs,
                eta_min=float(self.lr) * 1e-3,
            )
        steps = epochs * n_batches
        return LRScheduler(
            policy=lr_scheduler.OneCycleLR,
            step_every="batch",
            event_name=None,
            max_lr=float(self.lr),
            # Others have momentum of their own, or none.
            cycle_momentum=cycles_momentum,
            total_steps=max(steps, 2),
            # Torch divides by zero where the rise takes exactly one step.
            pct_start=0.1 if steps > 10 else 0.05,
        )


class PausingCycle(Callback):
    """One cycle that pauses halfway, until the loss is flat.

    The rate rises for a tenth of a cycle and falls along a cosine, as in "one_cycle",
    in a cycle of half of the longest run. In the middle of the cycle the rate stays
    where it is for as long as the loss falls: until the mean over the last window of
    epochs (a twelfth of the longest run) is below that over the window before by less
    than a 25th of what the loss has fallen since the first epoch, or by less than its
    standard error. Then the cycle goes on to its end. Where the loss falls by more than
    twice as much when the middle is reached, and windows are of four epochs or more,
    it is far from flat, and the longest run is taken. So stages that have learned
    what there is to learn take half of the longest run, and no stage takes more.

    Parameters
    ----------
    lr : float
        The top.
    epochs : int
        Of the longest run.
    n_batches : int
        Steps per epoch.
    cycles_momentum : bool, default=False
        Whether the first momentum goes from 0.95 to 0.85 and back meanwhile.
    """

    def __init__(self, lr, epochs, n_batches, cycles_momentum=False):
        self.lr = lr
        self.n_batches = n_batches
        self.cycles_momentum = cycles_momentum
        self.window = max(2, epochs // _WINDOWS)
        self.cycle = -(-epochs // 2)
        self.middle = max(2 * self.window, self.cycle // 2)
        self.longest_pause = epochs - self.cycle
        self.losses = []
        self.pause = 0  # in epochs
        self.is_pausing = False
        self.is_far = False

    def on_epoch_begin(self, net, **kwargs):
        """Stop where the cycle has come to its end."""
        self.n_steps = 0
        if len(self.losses) - self.pause == self.cycle:
            raise StopStage

    def on_batch_begin(self, net, **kwargs):
        """Set the rate of the step."""
        height = self._height()
        for group in net.optimizer_.param_groups:
            group["lr"] = self.lr * height
            if self.cycles_momentum:
                group["betas"] = (0.95 - 0.1 * height, group["betas"][1])
        self.n_steps += 1

    def on_epoch_end(self, net, **kwargs):
        """See whether it is time to pause, or to go on."""
        self.losses.append(net.history[-1, "loss"])
        self.pause += self.is_pausing
        in_middle = len(self.losses) - self.pause == self.middle
        # Windows of two or three epochs are too short to tell.
        if in_middle and self.pause == 0 and self.window > 3:
            self.is_far = not self._has_flattened(2 * _FLAT)
        may_pause = in_middle and self.pause < self.longest_pause
        self.is_pausing = may_pause and (self.is_far or not self._has_flattened(_FLAT))

    @property
    def planned_epochs(self):
        """How long it takes if there is no further pause."""
        return self.cycle + self.pause + self.is_pausing

    def state_dict(self):
        """Return what a checkpoint keeps."""
        kept = ("losses", "pause", "is_pausing", "is_far")
        return {name: getattr(self, name) for name in kept}

    def load_state_dict(self, state):
        """Take up what a checkpoint has kept."""
        vars(self).update(state)

    def _height(self):
        """Return the rate of the next step as a share of the top."""
        done = (len(self.losses) - self.pause) / self.cycle
        if not self.is_pausing:
            done += self.n_steps / (self.n_batches * self.cycle)
        if done < _RISE:
            return 0.04 + 0.96 * (1 - math.cos(math.pi * done / _RISE)) / 2
        return (1 + math.cos(math.pi * (done - _RISE) / (1 - _RISE))) / 2

    def _has_flattened(self, share):
        recent = torch.tensor(self.losses[-2 * self.window :])
        before, now = (half.mean() for half in recent.split(self.window))
        error = recent.diff().std() / self.window**0.5
        least = max(share * (self.losses[0] - now), error)
        # Also where it rises, and where it is not a number.
        return not before - now > least
