# SPDX-License-Identifier: BSD-3-Clause
"""What commands say, and where: results on stdout, all else on stderr."""

import functools
import json
import math
import sys
import warnings
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

import click

from sklearn_scan._cli._errors import printable


@dataclass(frozen=True)
class Result:
    """What a command has found.

    Attributes
    ----------
    record : dict
        For `--json`.
    text : str
        For people.
    """

    record: dict[str, Any]
    text: str


class Streams:
    """The two streams of a command.

    Parameters
    ----------
    verbosity : int
        0 to say nothing but warnings and errors, 1 to report progress, 2 for more.
    as_json : bool
        Whether the result is printed as JSON.

    Attributes
    ----------
    warnings : list of str
        What was warned of so far.
    """

    def __init__(self, verbosity, as_json):
        self.verbosity = verbosity
        self.as_json = as_json
        self.warnings = []

    def say(self, text):
        """Print a line on stderr, if lines are wanted."""
        if self.verbosity:
            click.echo(printable(text), err=True)

    def warn(self, text):
        """Print a warning on stderr, and keep it for the record."""
        self.warnings.append(text)
        click.echo(printable(f"Warning: {text}"), err=True)

    @contextmanager
    def listening(self):
        """Bring to stderr what the library prints, and what it warns of."""
        with warnings.catch_warnings(), redirect_stdout(sys.stderr):
            warnings.showwarning = self._show_warning
            yield

    def show(self, result):
        """Print a result on stdout."""
        if self.as_json:
            click.echo(json.dumps(as_json(result.record), indent=2, allow_nan=False))
        elif self.verbosity:
            click.echo(printable(result.text))

    def _show_warning(self, message, category, filename, lineno, file=None, line=None):
        self.warn(" ".join(str(message).split()))


def as_json(value):
    """Return a value of which JSON can be made: what is not finite becomes None."""
    if isinstance(value, dict):
        return {str(key): as_json(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def speaking(command):
    """Give a command its `streams`, and the options that say what it prints.

    The command returns a `Result`.
    """

    @click.option("-q", "--quiet", is_flag=True, help="Print errors and warnings only.")
    @click.option("-v", "--verbose", is_flag=True, help="Print more of the progress.")
    @click.option(
        "--json",
        "as_json",
        is_flag=True,
        help="Print the result, or the error, as JSON on stdout.",
    )
    @click.option(
        "--debug",
        is_flag=True,
        expose_value=False,  # it is for whoever reports errors
        help="Print the traceback of an error.",
    )
    @functools.wraps(command)
    def run(*args, quiet, verbose, as_json, **kwargs):
        streams = Streams(0 if quiet else 1 + verbose, as_json)
        with streams.listening():
            result = command(*args, streams=streams, **kwargs)
        streams.show(result)

    return run
