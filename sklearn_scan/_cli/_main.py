# SPDX-License-Identifier: BSD-3-Clause
"""The group of all commands."""

import click

from sklearn_scan._cli._cluster import cluster
from sklearn_scan._cli._diagnose import diagnose
from sklearn_scan._cli._errors import CommandLine
from sklearn_scan._cli._gallery import gallery
from sklearn_scan._cli._predict import predict
from sklearn_scan._version import __version__

# "\b" keeps the lines of a paragraph apart.
_HELP = """\
Cluster pictures that nobody labelled, and look at what was found.

\b
sklearn-scan cluster photographs --n-clusters 12 --encoder dinov2 --out found
sklearn-scan predict found next_month --out next_month.csv
"""
_EXIT_CODES = """\
\b
Exit codes:
  0    done
  1    the run failed
  2    the command was not understood
  130  interrupted (Ctrl-C)
"""


@click.group(
    cls=CommandLine,
    help=_HELP,
    epilog=_EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(
    __version__, prog_name="sklearn-scan", message="%(prog)s %(version)s"
)
def main():
    """Run a command."""


for command in (cluster, predict, gallery, diagnose):
    main.add_command(command)
