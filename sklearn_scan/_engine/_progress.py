# SPDX-License-Identifier: BSD-3-Clause
"""Report to the user, and to scikit-learn's callbacks, how far `fit` has come."""

import time
from contextlib import contextmanager

from skorch.callbacks import Callback

from sklearn_scan._engine._net import StopStage
from sklearn_scan._warnings import warn_user


class FitProgress:
    """The progress of one call of `fit`.

    Parameters
    ----------
    estimator : estimator instance
        What is being fitted; handed to the callbacks.
    context : CallbackContext
        The task of scikit-learn's callback API that stages become subtasks of.
    verbose : int
        Whether to print a line per epoch.
    X, y : object, default=None
        What `fit` was called with; handed to the callbacks.

    Attributes
    ----------
    history : dict of list of dict
        Per stage, one record per epoch.
    was_stopped : bool
        Whether a callback ended a stage before its time.
    """

    def __init__(self, estimator, context, verbose, X=None, y=None):
        self.estimator = estimator
        self.context = context
        self.verbose = verbose
        self.X = X
        self.y = y
        self.history = {}
        self.was_stopped = False
        self.has_warned = False

    @contextmanager
    def stage(self, stage, n_epochs, lr_schedule):
        """Announce a stage; yield what its net calls: a recorder and a reporter.

        `lr_schedule` may end the stage before `n_epochs`.
        """
        task = self.context.subcontext(stage.name, max_subtasks=n_epochs)
        task.call_on_fit_task_begin(estimator=self.estimator, X=self.X, y=self.y)
        recorder = Recorder(self.history.setdefault(stage.name, []))
        reporter = StageReporter(
            self, task, stage, n_epochs, lr_schedule, recorder.records
        )
        yield recorder, reporter
        self.was_stopped |= reporter.was_stopped
        task.call_on_fit_task_end(
            estimator=self.estimator,
            X=self.X,
            y=self.y,
            reconstruction_attributes=stage.snapshot,
        )

    def warn_uncached(self, what, reason):
        """Warn, once per fit, that something cannot be cached."""
        if not self.has_warned:
            self.has_warned = True
            warn_user(
                f"memory= does not hold {what}: {reason}. It is computed anew in every "
                "fit."
            )

    def say(self, text):
        """Print a line, if lines are wanted."""
        if self.verbose:
            print(f"[{type(self.estimator).__name__}] {text}", flush=True)


class Recorder(Callback):
    """Keeps one record per epoch.

    Parameters
    ----------
    records : list of dict
        Added to.
    """

    def __init__(self, records):
        self.records = records

    def on_train_begin(self, net, **kwargs):
        """Start the clock."""
        self.begin_ = time.perf_counter()

    def resume(self, records):
        """Go on after the epochs of an earlier run, whose time counts."""
        self.records[:] = records
        self.begin_ -= records[-1]["seconds"]

    def on_epoch_end(self, net, **kwargs):
        """Add the record of an epoch."""
        row = net.history[-1]
        skipped = {"batches", "epoch", "dur"}
        record = {"epoch": row["epoch"]}
        record |= {key: row[key] for key in row if key not in skipped}
        record["seconds"] = time.perf_counter() - self.begin_
        self.records.append(record)


class StageReporter(Callback):
    """Reports each epoch of a net to the user and to callbacks.

    Parameters
    ----------
    progress : FitProgress
        Of the whole fit.
    task : CallbackContext
        Of the stage.
    stage : Stage
        What is trained.
    n_epochs, lr_schedule
        See `FitProgress.stage`.
    records : list of dict
        Of the epochs so far.
    """

    def __init__(self, progress, task, stage, n_epochs, lr_schedule, records):
        self.progress = progress
        self.task = task
        self.stage = stage
        self.n_epochs = n_epochs
        self.lr_schedule = lr_schedule
        self.records = records
        self.was_stopped = False

    def on_epoch_begin(self, net, **kwargs):
        """Open a subtask."""
        self.epoch_ = self.task.subcontext("epoch")
        self.epoch_.call_on_fit_task_begin(
            estimator=self.progress.estimator, X=self.progress.X, y=self.progress.y
        )

    def on_epoch_end(self, net, **kwargs):
        """Print, and stop the stage if a callback says so."""
        record = self.records[-1]
        if self.progress.verbose:
            print(self._line(record), flush=True)
        if self.epoch_.call_on_fit_task_end(
            estimator=self.progress.estimator,
            X=self.progress.X,
            y=self.progress.y,
            reconstruction_attributes=self.stage.snapshot,
        ):
            self.was_stopped = True
            raise StopStage

    def _line(self, record):
        """Say where the stage is, and how long it will last."""
        numbers = "  ".join(
            f"{key} {value:.4f}"
            for key, value in record.items()
            if key not in ("epoch", "seconds")
        )
        n_epochs = getattr(self.lr_schedule, "planned_epochs", self.n_epochs)
        done = record["epoch"] / n_epochs
        left = record["seconds"] * (1 / done - 1)
        width = len(str(n_epochs))
        return (
            f"[{type(self.progress.estimator).__name__}] {self.stage.name:<13} "
            f"{record['epoch']:>{width}}/{n_epochs}  {numbers}  "
            f"{record['seconds']:.1f} s, {left:.1f} s left"
        )
