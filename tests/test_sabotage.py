# SPDX-License-Identifier: BSD-3-Clause
"""Faults of the package are noticed by its tests; see `sabotage.py`."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("sabotage.py")


def sabotage(*arguments):
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_every_fault_fits_the_source():
    """A fault whose text has moved must follow it, or it would test nothing."""
    result = sabotage("--list")
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) >= 30


def test_names_are_told_apart():
    names = [fault.name for fault in runpy.run_path(str(SCRIPT))["FAULTS"]]
    assert len(set(names)) == len(names)
    assert sabotage("there is no such fault", "--list").returncode == 2


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({}, None),
        ({"file": "_gone.py"}, "there is no sklearn_scan/_gone.py"),
        ({"text": "no such line"}, "holds 0 times"),
        ({"text": "import"}, "times, and not once"),
        ({"tests": "losses gone"}, "there is no tests/test_gone.py"),
    ],
)
def test_a_fault_that_does_not_fit_says_why(change, complaint):
    fault = {
        "name": "the version is another",
        "file": "_version.py",
        "text": "__version__",
        "replacement": "version",
        "tests": "losses",
    }
    if change.get("text") == "import":
        change = change | {"file": "_scan.py"}
    found = runpy.run_path(str(SCRIPT))["Fault"](**fault | change).complaint()
    assert found is None if complaint is None else complaint in found


@pytest.mark.slow
def test_every_fault_is_caught():
    result = sabotage("--jobs", "2")
    assert result.returncode == 0, result.stdout + result.stderr
