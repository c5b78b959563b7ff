# SPDX-License-Identifier: BSD-3-Clause
"""`sklearn-scan diagnose`: what is wrong with a clustering, and what to change."""

from pathlib import Path

import click

from sklearn_scan._cli._folder import MODEL
from sklearn_scan._cli._model import load_model
from sklearn_scan._cli._streams import Result, speaking


@click.command(short_help="Say what is wrong with a clustering, and what to try.")
@click.argument("run", metavar="DIR", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--stability",
    is_flag=True,
    help="Measure how well clusters are found again in parts of the pictures; takes "
    "seconds, or minutes.",
)
@speaking
def diagnose(run, stability, streams):
    """Say what is wrong with the clusters of a run, and what may make them better.

    DIR is the folder that `cluster` has written, here or elsewhere. The pictures are
    not looked at.
    """
    from sklearn_scan.inspection._diagnosis import diagnose

    clusterer = load_model(run / MODEL if run.is_dir() else run)
    report = diagnose(clusterer, stability=stability)
    return Result(report.to_dict(), str(report))
