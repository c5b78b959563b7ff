# SPDX-License-Identifier: BSD-3-Clause
"""Lines that grow: in a log, in a terminal, in a notebook."""

import io
import re
import sys
from contextlib import nullcontext, redirect_stdout
from threading import Thread
from types import ModuleType, SimpleNamespace

import pytest
from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor
from rich import get_console
from rich.live import Live
from rich.progress import Progress

from sklearn_scan import _console
from sklearn_scan._console import Console, format_seconds


class Terminal(io.StringIO):
    """A stream that people look at."""

    def isatty(self):
        return True

    @property
    def screen(self):
        """What is on the screen in the end, where nothing but returns was written."""
        lines = []
        for written in self.getvalue().split("\n"):
            line = ""
            for text in written.split("\r"):
                line = text + line[len(text) :]
            lines.append(line.rstrip())
        return lines


@pytest.fixture
def clock(monkeypatch):
    """Time that passes when a test says so."""
    now = SimpleNamespace(seconds=100.0)
    fake = SimpleNamespace(perf_counter=lambda: now.seconds)
    monkeypatch.setattr(_console, "time", fake)
    return now


@pytest.fixture
def main_process(monkeypatch):
    """Act as the main process, whoever runs the tests."""
    monkeypatch.setattr(_console.multiprocessing, "parent_process", lambda: None)


@pytest.fixture
def terminal(main_process, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "70")
    return Terminal()


@pytest.fixture
def no_rich(monkeypatch):
    monkeypatch.setattr(_console.importlib.util, "find_spec", lambda name: None)


def grow(clock, seconds, n_total=4, verbose=1, n_last=None, stream=None):
    """Let a line grow from 0 to `n_total` in steps that take `seconds` each."""
    seen_by = nullcontext() if stream is None else redirect_stdout(stream)
    with seen_by, Console("Name", verbose).line("stage", n_total, "epoch") as line:
        for n_done in range(1, n_total + 1):
            clock.seconds += seconds
            line.advance(n_done, figures=f"loss {1 / n_done:.3f}")
            if n_done == n_last:
                raise KeyboardInterrupt


def words(text):
    """Return the lines of a text with single spaces."""
    return [" ".join(line.split()) for line in text.splitlines()]


LAST = "[Name] stage 4 epochs 2.0 s loss 0.250"


# --- a log -------------------------------------------------------------------------


def test_a_log_is_told_once_when_the_line_is_over(clock, capsys):
    grow(clock, seconds=0.5)
    captured = capsys.readouterr()
    assert words(captured.out) == [LAST]
    assert captured.err == ""


def test_a_log_is_told_every_minute_that_a_line_still_grows(clock, capsys):
    grow(clock, seconds=25, n_total=7)
    assert words(capsys.readouterr().out) == [
        "[Name] stage 3/7 epochs 1:15 min, 1:40 min left loss 0.333",
        "[Name] stage 6/7 epochs 2:30 min, 25.0 s left loss 0.167",
        "[Name] stage 7 epochs 2:55 min loss 0.143",
    ]


def test_verbose_2_tells_a_log_every_five_seconds(clock, capsys):
    grow(clock, seconds=3, verbose=2)
    assert words(capsys.readouterr().out) == [
        "[Name] stage 2/4 epochs 6.0 s, 6.0 s left loss 0.500",
        "[Name] stage 4 epochs 12.0 s loss 0.250",
    ]


def test_what_is_printed_at_once_is_not_said_again(clock, capsys):
    with Console("Name", 2).line("stage", 2, "epoch") as line:
        for n_done in (1, 2):
            line.advance(n_done, is_printed=True)
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_an_interrupted_line_says_how_far_it_came(clock, capsys):
    with pytest.raises(KeyboardInterrupt):
        grow(clock, seconds=1, n_last=3)
    with pytest.raises(ZeroDivisionError), Console("Name", 1).line("a", 9, "image"):
        raise ZeroDivisionError
    assert words(capsys.readouterr().out) == [
        "[Name] stage 3/4 epochs 3.0 s loss 0.333",
        "[Name] a 0/9 images 0.0 s",
    ]


def test_what_is_tracked_is_counted(clock, capsys):
    with Console("Name", 1).line("a", 3000, "image") as line:
        assert list(line.track("ab")) == ["a", "b"]
        assert line.n_done == 2
        line.advance(1, n_total=1)
    assert words(capsys.readouterr().out) == ["[Name] a 1 image 0.0 s"]


def test_a_line_that_never_advanced_is_done_when_it_is_over(clock, capsys):
    with Console("Name", 1).line("a", 3000, "image"):
        clock.seconds += 2
    assert words(capsys.readouterr().out) == ["[Name] a 3,000 images 2.0 s"]


def test_silence(clock, capsys):
    grow(clock, seconds=100, verbose=0)
    Console("Name", 0).say("anything")
    Console("Name", 0).sum_up("fit", 3, "sample", "")
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (59.94, "59.9 s"), (59.96, "1:00 min"), (3599.6, "1:00 h")],
)
def test_durations(seconds, text):
    assert format_seconds(seconds) == text


# --- a terminal --------------------------------------------------------------------


def test_a_line_is_written_over(clock, terminal, no_rich):
    grow(clock, seconds=0.5, stream=terminal)
    assert words("\n".join(terminal.screen)) == [LAST]
    frames = terminal.getvalue().split("\r")
    assert words(frames[1]) == ["stage 4 epochs"]
    assert words(frames[3]) == ["stage 2/4 epochs 1.0 s left loss 0.500"]
    # A frame that is wider than the terminal would not be written over.
    assert max(len(frame) for frame in frames[:-1]) < 70


def test_a_terminal_is_not_drawn_too_often(clock, terminal, no_rich):
    grow(clock, 0.001, stream=terminal, n_total=350)
    assert terminal.getvalue().count("\r") == 1 + 3 + 1


def test_a_bar_gives_way_to_a_line(clock, terminal):
    grow(clock, seconds=0.5, stream=terminal)
    written = terminal.getvalue()
    assert "━" in written
    # Whatever comes last is the line, alone, and the cursor is there again.
    assert words(re.split(r"\x1b\[[?\d]*[A-Za-z]", written)[-1]) == [LAST]
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")


def test_a_bar_that_others_left_open_hides_nothing(clock, terminal):
    console, left_open = get_console(), Live(refresh_per_second=1)
    console.set_live(left_open)
    try:
        grow(clock, seconds=0.5, stream=terminal)
    finally:
        console.clear_live()
    assert "━" in terminal.getvalue()


def test_a_bar_is_gone_after_an_interrupt(clock, terminal):
    with pytest.raises(KeyboardInterrupt):
        grow(clock, seconds=1, stream=terminal, n_last=3)
    assert words(terminal.getvalue())[-1].endswith("3/4 epochs 3.0 s loss 0.333")


def test_brackets_are_text(clock, terminal):
    # Rich would read "[red]" as a colour.
    line = Console("red", 1).line("stage", 2, "epoch")
    with redirect_stdout(terminal), line:
        clock.seconds += 1
        line.advance(1, figures="[bold]")
    assert terminal.getvalue().count("[bold]") > 1
    assert terminal.getvalue().count("[red]") == 1


# --- where others write, or nobody looks ------------------------------------------


def has_codes(text):
    return "\r" in text or "\x1b" in text


def test_a_dumb_terminal_is_a_log(clock, terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    grow(clock, seconds=0.5, stream=terminal)
    assert words(terminal.getvalue()) == [LAST]
    assert not has_codes(terminal.getvalue())


def test_what_can_only_be_written_to_is_a_log(clock, main_process):
    written = []
    stream = SimpleNamespace(write=written.append, flush=lambda: None)
    grow(clock, seconds=0.5, stream=stream)
    assert words("".join(written)) == [LAST]


def test_threads_do_not_draw(clock, terminal):
    thread = Thread(target=grow, args=(clock, 0.5), kwargs={"stream": terminal})
    thread.start()
    thread.join()
    assert words(terminal.getvalue()) == [LAST]
    assert not has_codes(terminal.getvalue())


def test_workers_do_not_draw():
    answers = Parallel(n_jobs=2)(delayed(_console._is_alone)() for _ in range(2))
    get_reusable_executor().shutdown()
    assert answers == [False, False]


def test_no_bar_is_drawn_below_another(clock, terminal):
    with redirect_stdout(terminal), Progress(auto_refresh=False) as progress:
        progress.add_task("of another library")
        grow(clock, seconds=0.5)
    assert "[Name] stage 4 epochs" in " ".join(words(terminal.getvalue()))
    assert terminal.getvalue().count("stage") == 1


# --- a notebook --------------------------------------------------------------------


class Cell:
    """The output of a cell, by what is displayed in it."""

    def __init__(self):
        self.outputs = []

    def display(self, content, raw, display_id):
        assert raw and display_id
        self.outputs.append([content["text/plain"]])
        return self

    def update(self, content, raw):
        assert raw
        self.outputs[-1].append(content["text/plain"])


def test_a_notebook_shows_one_line_that_changes(clock, main_process, monkeypatch):
    cell, stream = Cell(), type("OutStream", (io.StringIO,), {})()
    type(stream).__module__ = "ipykernel.iostream"
    module = ModuleType("IPython.display")
    module.display = cell.display
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    grow(clock, seconds=0.5, stream=stream)
    assert stream.getvalue() == ""
    (output,) = cell.outputs
    assert words(output[0]) == ["[Name] stage 4 epochs ..."]
    assert words(output[-1]) == [LAST]
    assert len(output) == 1 + 4 + 1
    assert not any(has_codes(text) for text in output)
