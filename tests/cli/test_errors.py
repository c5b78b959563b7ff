# SPDX-License-Identifier: BSD-3-Clause
"""Errors: one sentence, no traceback, and an exit code; or JSON."""

import json

import pytest

from sklearn_scan._cli._errors import explain


@pytest.fixture
def empty(tmp_path):
    """Return an empty folder."""
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


@pytest.fixture
def command(pictures, tmp_path):
    """Return a command that takes everything."""
    return ["cluster", pictures, "--n-clusters", 3, "--out", tmp_path / "out"]


def test_usage(run, command, pictures, tmp_path):
    out = tmp_path / "out"
    for arguments, message in [
        (["cluster", pictures, "--out", out], "Missing option '--n-clusters'"),
        ([*command, "--n-clusters", 0], "0 is not in the range x>=1"),
        ([*command, "--encoder", "resnet19"], "'resnet19' is no encoder"),
        ([*command, "--unknown"], "No such option"),
        (["cluster", tmp_path / "gone", *command[2:]], "does not exist"),
        (["predict", tmp_path, pictures, "--out", "x.txt"], "'x.txt' must end in .csv"),
        (["unknown"], "No such command 'unknown'"),
    ]:
        result = run(*arguments, code=2)
        assert message in result.stderr and result.stdout == ""
        assert not out.exists()


def test_a_failure_is_one_line(run, command, empty):
    result = run("cluster", empty, *command[2:], code=1)
    assert result.stderr.startswith("Error: The folder ")
    assert "holds no image file" in result.stderr
    assert result.stderr.count("\n") == 1 and result.stdout == ""


def test_a_failure_of_the_fit_is_one_line(run, options, tmp_path):
    result = run(*options, "--n-clusters", 99, "--out", tmp_path, "-q", code=1)
    (line,) = [line for line in result.stderr.splitlines() if "Warning" not in line]
    assert line == "Error: n_samples=30 should be >= n_clusters=99."


def test_debug_shows_where(run, command, empty):
    result = run("cluster", empty, *command[2:], "--debug", code=1)
    assert "Traceback (most recent call last)" in result.stderr
    assert "in list_images" in result.stderr


@pytest.mark.parametrize("code", [1, 2])
def test_errors_are_json_if_asked(run, command, empty, code):
    given = ["cluster", empty, *command[2:]] if code == 1 else command[:2]
    result = run(*given, "--json", code=code)
    error = json.loads(result.stdout)["error"]
    assert error["exit_code"] == code
    expected = {1: ("ValueError", "holds no image file"), 2: ("Missing", "n-clusters")}
    kind, message = expected[code]
    assert kind in error["type"] and message in error["message"]
    assert result.stderr == ""


def test_what_was_not_foreseen_has_a_name():
    assert explain(ValueError("two\n  lines")) == "two lines"
    assert explain(KeyError("x")) == "KeyError: 'x' (--debug shows where)"
    assert explain(MemoryError()).startswith("MemoryError: no more is known")
