# SPDX-License-Identifier: BSD-3-Clause
"""The table of labels, as CSV or Parquet.

File names come from anywhere. They are data of the table, and must be neither formulas
of a spreadsheet nor bytes that make the whole file unreadable.
"""

import csv
import importlib
import math
import os
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import click

from sklearn_scan._cli._writing import whole_file

#: By the ending of their files.
FORMATS = ("csv", "parquet")
COLUMNS = ("path", "cluster", "confidence", "second_cluster", "second_confidence")

# What a cell of a spreadsheet begins with that is computed; the last in full width.
_BEGINS_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")

_N_DECIMALS = 6


@dataclass(frozen=True)
class Labels:
    """The cluster of each file.

    Attributes
    ----------
    paths : list of str
        As they are written.
    clusters : ndarray of shape (n_files,)
        Cluster numbers; -1 for files that were skipped, of which no more is known.
    confidence : ndarray of shape (n_files,)
        Their probabilities.
    second, second_confidence : ndarray of shape (n_files,) or list of None
        The cluster of the next highest probability; None where there is one cluster.
    """

    paths: list[str]
    clusters: Any
    confidence: Any
    second: Any
    second_confidence: Any

    @classmethod
    def rank(cls, paths, probabilities, clusters):
        """Return the labels of files of known clusters, with their second choices."""
        import numpy as np

        from sklearn_scan.inspection._gallery._content import rank_clusters

        # Of files that were skipped there is nothing to rank.
        known = np.where(clusters < 0, 0, clusters)
        choices, chances = rank_clusters(probabilities, known)
        second = second_confidence = [None] * len(paths)
        if choices.shape[1] > 1:
            second_confidence = chances[:, 1]
            second = np.where(clusters < 0, None, choices[:, 1].astype(object))
        return cls(paths, clusters, chances[:, 0], second, second_confidence)

    def columns(self):
        """Return the columns, lists of primitives, by name."""
        values = (
            self.paths,
            [int(cluster) for cluster in self.clusters],
            [_rounded(value) for value in self.confidence],
            [None if cluster is None else int(cluster) for cluster in self.second],
            [_rounded(value) for value in self.second_confidence],
        )
        return dict(zip(COLUMNS, values, strict=True))


def name_files(paths, folder):
    r"""Return how files are named in a table: from their folder, as text.

    Parameters
    ----------
    paths : list of str
        Files in `folder`, or below it.
    folder : str or PathLike

    Returns
    -------
    names : list of str
        "./" stands before a name that begins like a formula; the path is still that of
        the file. Bytes that are no text are written as ``\xff``; there, it is not.
    """
    return [_name_file(os.path.relpath(path, folder)) for path in paths]


def warn_undecodable(paths, folder, streams):
    """Warn of names that the table does not have as they are."""
    names = [os.path.relpath(path, folder) for path in paths]
    if count := sum(_as_text(name) != name for name in names):
        streams.warn(
            f"File names with bytes that are no text: {count}. The table has "
            r"\xff and the like in their place."
        )


def _name_file(path):
    name = _as_text(PurePath(path).as_posix())
    return f"./{name}" if name.startswith(_BEGINS_FORMULA) else name


def _as_text(path):
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _rounded(value):
    is_known = value is not None and not math.isnan(value)
    return round(float(value), _N_DECIMALS) if is_known else None


def check_format(name):
    """Refuse, before hours of work, a format that cannot be written here."""
    if name == "parquet":
        try:
            for library in ("pandas", "pyarrow"):
                importlib.import_module(library)
        except ImportError as error:
            raise click.ClickException(
                "Parquet needs pandas and pyarrow, which `pip install "
                '"sklearn-scan[parquet]"` installs; CSV needs nothing.'
            ) from error


def write_labels(labels, path):
    """Write the table; the ending of `path` says in which format."""
    write = {".csv": _write_csv, ".parquet": _write_parquet}[path.suffix.lower()]
    with whole_file(path) as part:
        write(labels.columns(), part)


def _write_csv(columns, path):
    with path.open("w", encoding="utf-8", newline="") as file:
        # Texts in quotes: where commas are decimal, spreadsheets divide cells at ";".
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _write_parquet(columns, path):
    import pandas as pd

    table = pd.DataFrame(columns).astype({"second_cluster": "Int64"})
    table.to_parquet(path, engine="pyarrow", index=False)
