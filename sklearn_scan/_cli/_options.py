# SPDX-License-Identifier: BSD-3-Clause
"""Options that several commands have."""

import os
from pathlib import Path

import click

#: A folder that must be there.
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


class NumberOrAuto(click.IntRange):
    """A number in a range, or the word "auto"."""

    def convert(self, value, param, ctx):
        """Return the number, or the word."""
        return value if value == "auto" else super().convert(value, param, ctx)


def _limit_threads(context, parameter, n_threads):
    """Set the number of threads of this process.

    It is read when torch is imported, which has not happened yet. Threads that decode
    pictures are counted by joblib.
    """
    if n_threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(n_threads)
        os.environ["LOKY_MAX_CPU_COUNT"] = str(n_threads)


def computing(command):
    """Add the options that say on what to compute."""
    command = click.option(
        "--threads",
        type=click.IntRange(1),
        metavar="NUMBER",
        callback=_limit_threads,
        expose_value=False,
        help="Threads of the CPU.  [default: all cores]",
    )(command)
    return click.option(
        "--device",
        default="auto",
        show_default=True,
        help='Where to compute, such as "cpu" or "cuda"; a GPU where there is one.',
    )(command)


def skipping(command):
    """Add the option that says what is done where pictures cannot be read."""
    return click.option(
        "--on-error",
        type=click.Choice(["raise", "skip"]),
        default="raise",
        show_default=True,
        help="Where pictures cannot be read: end before anything is computed, with "
        "their names; or leave them out. In the table, their cluster is -1.",
    )(command)


def overwriting(what):
    """Return the option that allows to replace what is there."""
    return click.option("--overwrite", is_flag=True, help=what)
