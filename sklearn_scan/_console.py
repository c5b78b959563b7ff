# SPDX-License-Identifier: BSD-3-Clause
"""Lines that say how far a call has come: in a terminal, a notebook or a log."""

import importlib.util
import multiprocessing
import os
import shutil
import sys
import threading
import time

# Of title and count together.
_WIDTH = 23
# Seconds until a line that grows is drawn again.
_TO_REDRAW = 0.1
_TO_REDRAW_IN_NOTEBOOK = 0.5
# Seconds until a log is told that a line still grows, by `verbose`.
_UNTIL_HEARTBEAT = {1: 60.0, 2: 5.0}


class Console:
    """Where one call of an estimator says how far it has come.

    Parameters
    ----------
    name : str
        Of the estimator; every line begins with it.
    verbose : int
        0 says nothing; with 1 lines grow where they can; with 2 each is printed anew.
    """

    def __init__(self, name, verbose):
        self.name = name
        self.verbose = int(verbose)
        self.begin = time.perf_counter()

    def say(self, text):
        """Print a line."""
        if self.verbose:
            print(f"[{self.name}] {text}", flush=True)

    def say_cached(self, n_cached, n_images):
        """Print how many of the images need not be looked at again."""
        self.say(f"{n_cached:,} of {n_images:,} images taken from the cache")

    def line(self, title, n_total, unit):
        """Return a line that grows, as a context manager.

        Parameters
        ----------
        title : str
            What is done.
        n_total : int
            How many there are to do, as far as is known.
        unit : str
            What is counted, in the singular.
        """
        return Line(self, title, n_total, unit)

    def sum_up(self, title, n_total, unit, figures):
        """Print a line on all that was done since there is this console."""
        line = self.line(title, n_total, unit)
        line.begin = self.begin
        line.advance(n_total, figures=figures)
        if self.verbose:
            print(line.describe(), flush=True)


SILENT = Console("", verbose=0)


class Line:
    """A line that grows while something is done, and stays when it is over.

    Parameters
    ----------
    console, title, n_total, unit
        See `Console.line`.

    Attributes
    ----------
    begin : float
        When it began; earlier, if what is done goes on after an earlier run.
    """

    def __init__(self, console, title, n_total, unit):
        self.console = console
        self.title = title
        self.n_total = n_total
        self.unit = unit
        self.n_done = None
        self.seconds = 0.0
        self.figures = ""
        self.begin = time.perf_counter()
        self.display = _Silence()

    def __enter__(self):
        self.display = _choose_display(self.console.verbose)
        self.display.open(self)
        return self

    def __exit__(self, kind, *_):
        if self.n_done is None:
            self.advance(self.n_total if kind is None else 0)
        self.display.close(self)

    def advance(self, n_done, *, n_total=None, figures=None, is_printed=False):
        """Say how far it has come.

        Parameters
        ----------
        n_done : float
            How many are done; parts count.
        n_total : int or None, default=None
            How many there are, where another number is known now.
        figures : str or None, default=None
            What came of it so far.
        is_printed : bool, default=False
            Whether a log is told at once.
        """
        self.n_done = n_done
        self.n_total = self.n_total if n_total is None else n_total
        self.figures = self.figures if figures is None else figures
        self.seconds = self.elapsed
        self.display.show(self, is_printed)

    @property
    def elapsed(self):
        """Seconds since it began."""
        return max(time.perf_counter() - self.begin, 1e-9)

    def track(self, items):
        """Yield items, and count them."""
        for n_done, item in enumerate(items, start=1):
            yield item
            self.advance(n_done)

    def describe(self, is_over=False):
        """Return the line as it is printed, in columns."""
        is_begun, left = self.n_done is not None, self._left()
        clock = format_seconds(self.seconds) if is_begun else "..."
        if left and not is_over:
            clock += f", {left} left"
        # Long titles count epochs, and large numbers have short ones: 80 columns do.
        what = f"{self.title} {self._count():>{_WIDTH - len(self.title)}}"
        line = f"[{self.console.name}] {what} {clock:>8}  {self.figures}"
        return line.rstrip()

    def describe_growth(self):
        """Return what changes while it grows: count, time left and figures."""
        left = self._left()
        parts = [self._count(), f"{left} left" if left else "", self.figures]
        return "  ".join(filter(None, parts))

    def _count(self):
        n_done = self.n_total if self.n_done is None else int(self.n_done)
        unit = self.unit if self.n_total == 1 else f"{self.unit}s"
        if n_done == self.n_total:
            return f"{n_done:,} {unit}"
        return f"{n_done:,}/{self.n_total:,} {unit}"

    def _left(self):
        """Return the time left; None where it is not known, or over."""
        if not self.n_done or self.n_done == self.n_total:
            return None
        left = self.seconds * (self.n_total / self.n_done - 1)
        return format_seconds(max(0.0, left))


def format_seconds(seconds):
    """Return a duration as people read it.

    Examples
    --------
    >>> from sklearn_scan._console import format_seconds
    >>> [format_seconds(s) for s in (1.26, 83, 4000)]
    ['1.3 s', '1:23 min', '1:07 h']
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole, unit = round(seconds), "min"
    if whole >= 3600:
        whole, unit = round(seconds / 60), "h"
    return f"{whole // 60}:{whole % 60:02} {unit}"


def _choose_display(verbose):
    """Return where a line is shown: it can grow where nobody else writes meanwhile."""
    if not verbose:
        return _Silence()
    if verbose == 1 and _is_alone():
        if _stream_kind() == "ipykernel.iostream":
            return _Notebook()
        if _is_terminal():
            has_rich = importlib.util.find_spec("rich") is not None
            return _Bar() if has_rich else _CarriageReturn()
    return _Log(_UNTIL_HEARTBEAT[min(verbose, 2)])


def _is_alone():
    """Say whether this is the main thread of the main process, as in most calls."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    return in_main_thread and multiprocessing.parent_process() is None


def _stream_kind():
    return type(sys.stdout).__module__


def _is_terminal():
    # Where a progress bar of rich is shown already, it has put itself before stdout.
    if _stream_kind() == "rich.file_proxy" or os.environ.get("TERM") == "dumb":
        return False
    return hasattr(sys.stdout, "isatty") and sys.stdout.isatty()


class _Silence:
    """Shows nothing."""

    def open(self, line):
        pass

    def show(self, line, is_printed):
        pass

    def close(self, line):
        pass


class _Log:
    """Prints a line when it is over, and now and then before."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.said = None

    def open(self, line):
        self.last = time.perf_counter()

    def show(self, line, is_printed):
        if is_printed or time.perf_counter() - self.last >= self.seconds:
            self._say(line.describe())

    def close(self, line):
        text = line.describe(is_over=True)
        if text != self.said:
            self._say(text)

    def _say(self, text):
        print(text, flush=True)
        self.said, self.last = text, time.perf_counter()


class _Redrawn:
    """Draws a line again and again, but not too often."""

    interval = _TO_REDRAW

    def open(self, line):
        self.begin(line)
        self.last = time.perf_counter()

    def show(self, line, is_printed):
        if time.perf_counter() - self.last >= self.interval:
            self.draw(line)
            self.last = time.perf_counter()


class _CarriageReturn(_Redrawn):
    """Writes over a line of a terminal."""

    def begin(self, line):
        self.width = 0
        self.draw(line)

    def draw(self, line):
        text = f"{line.title:<13} {line.describe_growth()}"
        self._write(text[: shutil.get_terminal_size().columns - 1])

    def close(self, line):
        self._write(line.describe(is_over=True), end="\n")

    def _write(self, text, end=""):
        print(f"\r{text:<{self.width}}", end=end, flush=True)
        self.width = len(text)


class _Bar(_Redrawn):
    """Draws a bar of rich, and leaves a line of text."""

    def begin(self, line):
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, Progress, TextColumn

        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=12),
            TextColumn("{task.fields[growth]}", markup=False),
            # Its own: in that which all programs share, a bar that was left open
            # elsewhere would hide this one.
            console=RichConsole(),
            auto_refresh=False,
            transient=True,
        )
        self.task = self.progress.add_task(f"{line.title:<13}", growth="")
        self.progress.start()
        self.draw(line)

    def draw(self, line):
        self.progress.update(
            self.task,
            completed=line.n_done or 0,
            # Without a total the bar pulses.
            total=None if line.n_done is None else line.n_total,
            growth=line.describe_growth(),
            refresh=True,
        )

    def close(self, line):
        self.progress.stop()
        print(line.describe(is_over=True), flush=True)


class _Notebook(_Redrawn):
    """Updates one output of a cell."""

    interval = _TO_REDRAW_IN_NOTEBOOK

    def begin(self, line):
        from IPython.display import display

        content = {"text/plain": line.describe()}
        self.output = display(content, raw=True, display_id=True)

    def draw(self, line):
        self._update(line.describe())

    def close(self, line):
        self._update(line.describe(is_over=True))

    def _update(self, text):
        self.output.update({"text/plain": text}, raw=True)
