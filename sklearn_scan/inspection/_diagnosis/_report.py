# SPDX-License-Identifier: BSD-3-Clause
"""The report: text for a terminal, HTML for a notebook, a dict, and pictures."""

import html
import math
import textwrap
from typing import Any

import numpy as np

from sklearn_scan.inspection._diagnosis._findings import Finding
from sklearn_scan.inspection._rows import ImageRow, RowsDisplay

_WIDTH = 80
# Clusters in the table, the most doubtful ones; and the columns, by their key.
_MOST_CLUSTERS = 20
_COLUMNS = {
    "cluster": "cluster",
    "size": "size",
    "confidence": "confidence",
    "coverage": "sure",
    "agreement": "neighbours agree",
    "nearest": "nearest",
    "shared": "shared",
    "halves": "halves share",
    "stability": "stability",
}
_STAGES = {
    "stage": "stage",
    "kept": "kept",
    "confident": "confident",
    "agreement": "agrees with before",
    "invariance": "same under views",
}
# Above the images.
_HEADINGS = (" ", "members drawn at random; or a sample and its neighbours")
_STYLES = {"problem": "#b3261e", "warning": "#8a5a00", "note": "#555"}


class Diagnosis(RowsDisplay):
    """What was found of a clustering: `diagnose` returns it.

    ``print(report)`` writes one page of text; a notebook shows the same as HTML.

    Parameters
    ----------
    record : dict
        What was measured.
    findings : list of Finding
        What stands out, the worst first.
    rows : list of ImageRow
        The pictures.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Where pictures were plotted last.
    figure_ : matplotlib.figure.Figure
        Its figure.

    See Also
    --------
    sklearn_scan.diagnose : Makes one.
    """

    def __init__(
        self, record: dict[str, Any], findings: list[Finding], rows: list[ImageRow]
    ):
        self.record = record
        self.findings = findings
        self.rows = rows

    def to_dict(self) -> dict[str, Any]:
        """Return all that was measured and found.

        Returns
        -------
        found : dict
            Of which JSON can be made. "n_samples", "n_clusters", "n_neighbors" and
            "threshold"; "confidence", the mean; "coverage", the share of samples above
            the threshold; "agreement", the share of neighbours in the cluster of their
            sample, and "agreement_by_chance"; "clusters", a list of the same by
            cluster, with its "size", the "nearest" cluster by neighbours, the share of
            neighbours that are in that ("shared"), the "stability" and the
            "halves", their sizes and the "cut" between them; "empty", clusters without
            members; "pairs", the worst separated clusters and the "cut" between them;
            "neighbors", "views", "disagreeing", "selection" and "training"; and
            "findings". What was not measured, or is not finite, is None.
        """
        findings = [each.to_dict() for each in self.findings]
        return _make_plain(self.record | {"findings": findings})

    def __str__(self):
        return "\n".join(self._write_lines())

    def __repr__(self):
        codes = ", ".join(f"{each.code}: {each.severity}" for each in self.findings)
        return f"<Diagnosis of {self.record['n_clusters']} clusters: {codes or 'good'}>"

    def plot(self, *, cmap: Any = "gray", ax: Any = None) -> "Diagnosis":
        """Plot clusters that may be one, or two, and neighbours that disagree.

        A row of members for each cluster that may be merged, below the other; a row
        for each half of a cluster that may be split; and samples with their neighbours,
        of which those in another cluster have an orange frame and its number.

        Parameters
        ----------
        cmap : str or matplotlib.colors.Colormap, default="gray"
            Colours of gray images; "gray_r" for ink on paper.
        ax : matplotlib.axes.Axes or None, default=None
            Where to plot; None makes a figure.

        Returns
        -------
        self : Diagnosis
            With `ax_` and `figure_`.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If there is nothing to show.
        """
        if not self.rows:
            raise ValueError(
                "There is nothing to show: nothing was found that has pictures, or "
                "diagnose was given none. Pass it X, what the clusterer was fitted on, "
                "or images= where that is rows."
            )
        return self._draw_rows(self.rows, _HEADINGS, cmap=cmap, ax=ax)

    # Text.

    def _write_lines(self):
        yield self._summarize()
        if self.record["agreement"] is not None:
            yield (
                f"{self.record['agreement']:.0%} of neighbours are in the same cluster "
                f"({self.record['agreement_by_chance']:.0%} by chance)"
            )
        yield ""
        if not self.findings:
            yield "Nothing stands out."
        for number, finding in enumerate(self.findings, 1):
            head = f"{number}. {finding.severity.upper()} ({finding.code}) "
            yield from textwrap.wrap(
                head + finding.measured, _WIDTH, subsequent_indent="   "
            )
            for text in (finding.meaning, f"-> {finding.advice}"):
                indent = {"initial_indent": "   ", "subsequent_indent": "   "}
                yield from textwrap.wrap(text, _WIDTH, **indent)
        yield ""
        header, rows, n_left = self._tabulate_clusters()
        yield from _align(header, rows)
        if n_left:
            yield f"({n_left:,} more)"
        if self.record["selection"]:
            yield ""
            yield from _align(*self._tabulate_stages())

    def _summarize(self):
        record = self.record
        return (
            f"{record['n_samples']:,} samples in {record['n_clusters']:,} clusters; "
            f"mean confidence {record['confidence']:.2f}, {record['coverage']:.0%} "
            f"above {record['threshold']:g}"
        )

    def _tabulate_clusters(self):
        """Return header and rows of a table, the doubtful ones first, and what is left.

        Columns of which nothing is known are left out.
        """
        clusters = [
            each | {"halves": each["halves"]["cut"]} for each in self.record["clusters"]
        ]
        keys = [
            key for key in _COLUMNS if any(each[key] is not None for each in clusters)
        ]
        # An empty one first, and then by what agrees.
        clusters.sort(key=lambda each: (each["size"] > 0, each["agreement"] or 0))
        rows = [
            [_write(each[key]) for key in keys] for each in clusters[:_MOST_CLUSTERS]
        ]
        n_left = max(0, len(clusters) - _MOST_CLUSTERS)
        return [_COLUMNS[key] for key in keys], rows, n_left

    def _tabulate_stages(self):
        rows = [
            [_write(stage[key]) for key in _STAGES]
            for stage in self.record["selection"]
        ]
        return list(_STAGES.values()), rows

    # HTML.

    def _repr_html_(self):
        parts = [f"<p>{html.escape(self._summarize())}</p>"]
        if self.findings:
            items = "".join(map(_write_item, self.findings))
            parts.append(f"<ol>{items}</ol>")
        else:
            parts.append("<p>Nothing stands out.</p>")
        header, rows, n_left = self._tabulate_clusters()
        parts.append(_write_table(header, rows))
        if n_left:
            parts.append(f"<p>{n_left:,} more clusters</p>")
        if self.record["selection"]:
            parts.append(_write_table(*self._tabulate_stages()))
        return f"<div>{''.join(parts)}</div>"


def _write_item(finding):
    color = _STYLES[finding.severity]
    return (
        f'<li><b style="color: {color}">{html.escape(finding.severity)}</b> '
        f"<code>{html.escape(finding.code)}</code> {html.escape(finding.measured)} "
        f"{html.escape(finding.meaning)} <b>{html.escape(finding.advice)}</b></li>"
    )


def _write_table(header, rows):
    def write(cells, tag):
        return "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)

    body = "".join(f"<tr>{write(row, 'td')}</tr>" for row in rows)
    head = f"<thead><tr>{write(header, 'th')}</tr></thead>"
    return f"<table>{head}<tbody>{body}</tbody></table>"


def _align(header, rows):
    """Yield the lines of a table, aligned to the right; headers have a word a line."""
    heads = [name.split(" ") for name in header]
    height = max(map(len, heads))
    lines = [[""] * (height - len(head)) + head for head in heads]
    table = [*zip(*lines, strict=True), *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        yield "  ".join(map(str.rjust, row, widths)).rstrip()


def _write(value):
    """Return a cell of a table."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _make_plain(value):
    """Return a value of which JSON can be made."""
    if isinstance(value, dict):
        return {str(key): _make_plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_make_plain(part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
