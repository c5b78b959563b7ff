# SPDX-License-Identifier: BSD-3-Clause
"""The folder that `cluster` writes, and the other commands read."""

import json
import os
import shutil
from pathlib import Path

import click

from sklearn_scan._cli._writing import write_json

SUMMARY, MODEL, PAGE = "summary.json", "model.safetensors", "clusters.html"
#: What a run may write, beside the summary and the cache.
RESULTS = ("labels.csv", "labels.parquet", MODEL, PAGE)

_FORMAT, _VERSION = "sklearn_scan.run", 1
RUNNING, FINISHED = "running", "finished"
# Names in messages about a folder of others.
_N_NAMED = 3


class RunFolder:
    """A folder of results.

    It is known by its summary, which is written first, and names all files that are of
    the run. Other files are never touched.

    Parameters
    ----------
    path : Path
        Need not be there.
    """

    def __init__(self, path):
        self.path = Path(path)

    @property
    def cache(self):
        """Where steps that are done are kept, for a run that goes on."""
        return self.path / "cache"

    @property
    def checkpoint(self):
        """Where the state of the step is kept that is not done."""
        return self.cache / "sklearn_scan_checkpoint"

    def read_summary(self):
        """Return the summary of the run; empty where there is none."""
        try:
            summary = json.loads((self.path / SUMMARY).read_bytes())
        except (OSError, ValueError):
            return {}
        is_ours = isinstance(summary, dict) and summary.get("format") == _FORMAT
        return summary if is_ours and summary.get("version") == _VERSION else {}

    def write_summary(self, record):
        """Write the summary of the run; return it."""
        summary = {"format": _FORMAT, "version": _VERSION} | record
        write_json(summary, self.path / SUMMARY)
        return summary

    def require(self):
        """Return the summary of a run that has finished."""
        summary = self.read_summary()
        if summary.get("status") != FINISHED:
            state = "is not finished" if summary else "is not there"
            raise click.ClickException(
                f"{str(self.path)!r} is needed with the results of `sklearn-scan "
                f"cluster`, and its {SUMMARY} {state}."
            )
        return summary

    def claim(self, wanted):
        """Refuse to write where there are files of others.

        Parameters
        ----------
        wanted : list of str
            What the run is to write.
        """
        summary = self.read_summary()
        if summary:
            ours = {SUMMARY, *summary["files"]}
            others = [n for n in wanted if (self.path / n).exists() and n not in ours]
        else:
            others = self._list_all()
        if others:
            named = ", ".join(map(repr, others[:_N_NAMED]))
            more = f" and {len(others) - _N_NAMED} more" if others[_N_NAMED:] else ""
            raise click.ClickException(
                f"{str(self.path)!r} holds files that no earlier run has written: "
                f"{named}{more}. Choose another --out; or pass --overwrite, which "
                "replaces those that have the names of results, and leaves others "
                "alone."
            )

    def has(self, names):
        """Say whether all these files are there."""
        return all((self.path / name).is_file() for name in names)

    def add_file(self, name):
        """Note in the summary that a file is of the run."""
        summary = self.read_summary()
        files = list(dict.fromkeys([*summary["files"], name]))
        self.write_summary(summary | {"files": files})

    def discard(self, names):
        """Delete results of an earlier run."""
        for name in set(names) & set(RESULTS):
            (self.path / name).unlink(missing_ok=True)

    def forget_checkpoint(self):
        """Delete the state of a fit that is done."""
        shutil.rmtree(self.checkpoint, ignore_errors=True)

    def _list_all(self):
        """Return what is in the folder, but for what systems hide there."""
        if not self.path.exists():
            return []
        return sorted(n for n in os.listdir(self.path) if not n.startswith("."))
