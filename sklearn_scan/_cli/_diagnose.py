# SPDX-License-Identifier: BSD-3-Clause
"""`sklearn-scan diagnose`: how sure a clustering is, and what to try."""

from pathlib import Path

import click

from sklearn_scan._cli._folder import MODEL
from sklearn_scan._cli._measuring import measure
from sklearn_scan._cli._model import load_model
from sklearn_scan._cli._streams import Result, speaking


@click.command(short_help="Say how sure a clustering is, and what to try.")
@click.argument("run", metavar="DIR", type=click.Path(exists=True, path_type=Path))
@speaking
def diagnose(run, streams):
    """Say how sure the clusters of a run are, and what may make them better.

    DIR is the folder that `cluster` has written, here or elsewhere.
    """
    found = measure(load_model(run / MODEL if run.is_dir() else run))
    return Result(found, "\n".join(_report(found)))


def _report(found):
    """Yield the lines of the report."""
    yield (
        f"{found['n_samples']:,} pictures in {found['n_clusters']} clusters, mean "
        f"confidence {found['confidence']:.2f}"
    )
    if found["agreement"] is not None:
        yield f"{found['agreement']:.0%} of neighbours are in the same cluster"
    yield ""
    yield from _tabulate_clusters(found["clusters"])
    if found["selection"]:
        yield ""
        yield from _tabulate_stages(found["selection"])
    yield ""
    yield "Advice:" if found["advice"] else "Nothing stands out."
    yield from (f"- {sentence}" for sentence in found["advice"])


def _tabulate_clusters(clusters):
    """Yield a table of the clusters, the doubtful ones first."""
    header = ("cluster", "pictures", "confidence", "neighbours that agree", "nearest")
    rows = [
        (
            str(each["cluster"]),
            f"{each['size']:,}",
            _number(each["confidence"]),
            _number(each["agreement"]),
            "" if each["nearest"] is None else str(each["nearest"]),
        )
        for each in sorted(clusters, key=lambda each: each["agreement"] or 0)
    ]
    return _tabulate(header, rows)


def _tabulate_stages(selection):
    """Yield a table of what was measured of each stage, and whether it was kept."""
    header = ("stage", "kept", "confident", "agrees with before", "same under views")
    rows = [
        (
            stage["stage"],
            "yes" if stage["kept"] else "no",
            *(_number(stage[n]) for n in ("confident", "agreement", "invariance")),
        )
        for stage in selection
    ]
    return _tabulate(header, rows)


def _tabulate(header, rows):
    """Yield the lines of a table of texts, aligned to the right."""
    columns = zip(header, *rows, strict=True)
    widths = [max(map(len, column)) for column in columns]
    for row in (header, *rows):
        yield "  ".join(map(str.rjust, row, widths)).rstrip()


def _number(value):
    return "" if value is None else f"{value:.2f}"
