# SPDX-License-Identifier: BSD-3-Clause
"""Report to the user, and to scikit-learn's callbacks, how far `fit` has come."""

import time
from contextlib import contextmanager

from skorch.callbacks import Callback

from sklearn_scan._engine._data import n_even_batches
from sklearn_scan._engine._net import StopStage
from sklearn_scan._warnings import warn_user
from sklearn_scan._world import alone, world

# What `verbose=1` shows of the records: the loss, and shares that should rise.
_SHOWN = ("loss", "found", "accuracy", "confident")


class FitProgress:
    """The progress of one call of `fit`.

    Parameters
    ----------
    estimator : estimator instance
        What is being fitted; handed to the callbacks.
    context : CallbackContext
        The task of scikit-learn's callback API that stages become subtasks of.
    console : Console
        Where the user reads of it.
    X, y : object, default=None
        What `fit` was called with; handed to the callbacks.

    Attributes
    ----------
    history : dict of list of dict
        Per stage, one record per epoch.
    was_stopped : bool
        Whether a callback ended a stage before its time.
    """

    def __init__(self, estimator, context, console, X=None, y=None):
        self.estimator = estimator
        self.context = context
        self.console = console
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
        n_planned = getattr(lr_schedule, "planned_epochs", n_epochs)
        with self.console.line(stage.name, n_planned, "epoch") as line:
            reporter = StageReporter(self, task, stage, line, lr_schedule, recorder)
            yield recorder, reporter
        self.was_stopped |= reporter.was_stopped
        with alone():
            task.call_on_fit_task_end(
                estimator=self.estimator,
                X=self.X,
                y=self.y,
                reconstruction_attributes=stage.snapshot,
            )

    def take_up(self, name, records):
        """Take up the records of a stage where it was fetched from the cache.

        Parameters
        ----------
        name : str
            Of the stage.
        records : list of dict
            One per epoch.

        Returns
        -------
        is_fetched : bool
            Whether it was: the stage has not run in this fit.
        """
        is_fetched = name not in self.history
        if is_fetched:
            self.say(f"{name} taken from the cache")
            self.history[name] = records
        return is_fetched

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
        self.console.say(text)


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
    line : Line
        What the user sees of it.
    lr_schedule : Callback
        See `FitProgress.stage`.
    recorder : Recorder
        Has the records of the epochs so far, and the clock.
    """

    def __init__(self, progress, task, stage, line, lr_schedule, recorder):
        self.progress = progress
        self.task = task
        self.stage = stage
        self.line = line
        self.lr_schedule = lr_schedule
        self.recorder = recorder
        self.was_stopped = False

    def on_train_begin(self, net, **kwargs):
        """Take over the clock of an earlier run."""
        self.line.begin = self.recorder.begin_
        if self.recorder.records:
            self._advance_line()
        else:
            self.line.advance(0)

    def on_epoch_begin(self, net, **kwargs):
        """Open a subtask."""
        self.n_batches_ = 0
        self.epoch_ = self.task.subcontext("epoch")
        self.epoch_.call_on_fit_task_begin(
            estimator=self.progress.estimator, X=self.progress.X, y=self.progress.y
        )

    def on_batch_end(self, net, **kwargs):
        """Let the line grow; the number of batches says how far the epoch is."""
        self.n_batches_ += 1
        if self.progress.console.verbose == 1:
            data, schedule = self.stage.data, self.stage.schedule
            n_batches = n_even_batches(len(data), schedule.batch_size)
            n_epochs = len(self.recorder.records) + self.n_batches_ / n_batches
            self.line.advance(n_epochs)

    def on_epoch_end(self, net, **kwargs):
        """Show the epoch, and stop the stage if a callback says so."""
        self._advance_line(is_printed=self.progress.console.verbose > 1)
        with alone():  # a callback may be there in one of several processes
            is_over = self.epoch_.call_on_fit_task_end(
                estimator=self.progress.estimator,
                X=self.progress.X,
                y=self.progress.y,
                reconstruction_attributes=self.stage.snapshot,
            )
        if world().agree(is_over):
            self.was_stopped = True
            raise StopStage

    def _advance_line(self, is_printed=False):
        """Show what the last record says."""
        record = self.recorder.records[-1]
        self.line.advance(
            record["epoch"],
            n_total=getattr(self.lr_schedule, "planned_epochs", None),
            figures=describe_record(record, self.progress.console.verbose),
            is_printed=is_printed,
        )


def describe_record(record, verbose):
    """Return the figures of an epoch: those that matter, or all."""
    wanted = _SHOWN if verbose == 1 else record.keys() - {"epoch", "seconds"}
    digits = 3 if verbose == 1 else 4
    figures = (f"{k} {v:.{digits}f}" for k, v in record.items() if k in wanted)
    return "  ".join(figures)
