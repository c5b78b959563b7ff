# SPDX-License-Identifier: BSD-3-Clause
"""Errors as a sentence, or as JSON, and an exit code."""

import io
import json
import sys
import traceback

import click

# What the library raises to say what is wrong. Others were not foreseen, and the name
# of their class tells more than what they say.
_FORESEEN = (ValueError, OSError, ImportError)


class Interrupted(click.ClickException):
    """Ctrl-C, with a message that says how to go on."""

    exit_code = 130

    def show(self, file=None):
        """Print the message, which is no error."""
        click.echo(self.format_message(), file=file)


class CommandLine(click.Group):
    """A group of commands whose errors have no traceback, unless `--debug` is given."""

    def main(
        self, args=None, prog_name=None, complete_var=None, standalone_mode=True, **more
    ):
        """Run a command, and leave with its exit code."""
        run = super().main
        if not standalone_mode:
            return run(args, prog_name, complete_var, False, **more)
        # Not of click's context: there is none where options are not understood.
        given = set(sys.argv[1:] if args is None else args)
        try:
            code = run(args, prog_name, complete_var, False, **more)
        except (Exception, KeyboardInterrupt) as error:
            if "--debug" in given:
                traceback.print_exception(error)
            code = report(error, as_json="--json" in given)
        sys.exit(code if isinstance(code, int) else 0)


def report(error, *, as_json):
    """Tell the user of an error; return the exit code."""
    error = as_click(error)
    if as_json:
        cause = error.__cause__ or error
        record = {
            "type": type(cause).__name__,
            "message": error.format_message(),
            "exit_code": error.exit_code,
        }
        click.echo(json.dumps({"error": record}, indent=2))
    else:
        shown = io.StringIO()
        error.show(shown)
        click.echo(printable(shown.getvalue()), nl=False, err=True)
    return error.exit_code


def as_click(error):
    """Return any exception as one of click's, which has a message and a code."""
    if isinstance(error, click.ClickException):
        return error
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        found = Interrupted("Interrupted.")
    else:
        found = click.ClickException(explain(error))
    found.__cause__ = error
    return found


def explain(error):
    """Return what an exception says, on one line."""
    message = " ".join(str(error).split())
    if isinstance(error, _FORESEEN) and message:
        return message
    name = type(error).__name__
    return f"{name}: {message or 'no more is known'} (--debug shows where)"


def printable(text):
    """Return text that does nothing to a terminal but be shown there.

    File names may hold control characters, and bytes that are no text.
    """
    return "".join(
        letter
        if letter.isprintable() or letter == "\n"
        else letter.encode("unicode_escape").decode()
        for letter in text
    )
