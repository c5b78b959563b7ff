# SPDX-License-Identifier: BSD-3-Clause
"""What every benchmark says about itself: header, hardware, tables, targets met."""

import json
import os
import platform
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import torch
from tabulate import tabulate

_ROOT = Path(__file__).resolve().parent.parent


def describe_run(device="auto"):
    """Return what is needed to judge the numbers of a run, as a dict."""
    return {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "commit": _commit(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": _device(device),
    }


def print_header(title, facts):
    """Print a Markdown heading and the facts of `describe_run`."""
    print(f"# {title}\n")
    for name, fact in facts.items():
        print(f"- {name}: {fact}")


class Table:
    """A Markdown table that is printed row by row, as results come in.

    Parameters
    ----------
    columns : dict of str to str
        For each key of a row the format of its numbers, such as ".4f".
    """

    def __init__(self, columns):
        self.columns = columns
        self.is_begun = False

    def add(self, row):
        """Print a row; what is missing or None is a dash."""
        cells = [self._format(row.get(key), spec) for key, spec in self.columns.items()]
        text = tabulate(
            [cells],
            headers=list(self.columns),
            tablefmt="pipe",
            disable_numparse=True,
            colalign=["right"] * len(cells),
        )
        lines = text.splitlines()
        print("\n".join(lines[2:] if self.is_begun else lines), flush=True)
        self.is_begun = True

    @staticmethod
    def _format(value, spec):
        if value is None:
            return "-"
        return value if isinstance(value, str) else format(value, spec)


def print_table(rows):
    """Print a Markdown table of finished rows: dicts of text, with the same keys."""
    alignment = ["left"] + ["right"] * (len(rows[0]) - 1)
    print(
        tabulate(
            rows,
            headers="keys",
            tablefmt="pipe",
            disable_numparse=True,
            colalign=alignment,
        ),
        flush=True,
    )


def print_target(text, is_met):
    """Print a target and whether it was met, and return the same as a dict."""
    print(f"{'met   ' if is_met else 'MISSED'}  {text}", flush=True)
    return {"target": text, "met": bool(is_met)}


def write_json(path, report):
    """Write a report; called after every fit, so that a killed run loses nothing.

    One line per row, so that a difference between two runs can be read.
    """
    partial = Path(f"{path}.partial")
    partial.write_text(_format_json(report) + "\n")
    partial.replace(path)


def _format_json(value, depth=0):
    """Return JSON of which mappings and lists of mappings are written line by line."""
    is_flat = depth > 3 or not isinstance(value, (dict, list))
    if is_flat or not any(isinstance(v, (dict, list)) for v in _values(value)):
        return json.dumps(value)
    indent = " " * (depth + 1)
    if isinstance(value, dict):
        parts = [
            f"{json.dumps(str(key))}: {_format_json(v, depth + 1)}"
            for key, v in value.items()
        ]
    else:
        parts = [json.dumps(v) for v in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    lines = ",\n".join(indent + part for part in parts)
    return f"{opening}\n{lines}\n{' ' * depth}{closing}"


def _values(value):
    return value.values() if isinstance(value, dict) else value


def peak_memory():
    """Return the largest memory that this process has held so far, in GiB."""
    import resource  # which Windows lacks

    scale = 2**30 if sys.platform == "darwin" else 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def current_memory():
    """Return the memory that this process holds, in GiB; at most, but on Linux."""
    status = Path("/proc/self/statm")
    if not status.exists():
        return peak_memory()
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**30


def _commit():
    commit = _git("rev-parse", "--short=12", "HEAD")
    if commit is None:
        return "unknown"
    return f"{commit} (dirty)" if _git("status", "--porcelain") else commit


def _git(*arguments):
    """Return what git says, or None where there is no git or no repository."""
    try:
        answer = subprocess.run(
            ["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()


def _cpu_model():
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _device(device):
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if torch.device(device).type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)
