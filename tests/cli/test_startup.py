# SPDX-License-Identifier: BSD-3-Clause
"""The command starts at once, and is there after an installation."""

import importlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

import sklearn_scan
from sklearn_scan._cli import main
from sklearn_scan._cli._model import VIEWS
from sklearn_scan._views import POLICIES

ROOT = Path(sklearn_scan.__file__).parents[1]
HEAVY = {"torch", "numpy", "sklearn", "pandas"}
ASK = """
import sys
from sklearn_scan._cli import main

main(sys.argv[1:], standalone_mode=False)
print(sorted(sys.modules))
"""


def python(*arguments):
    """Run Python on the package under test; return what it prints on stdout."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, check=True)
    return done.stdout.decode()


def test_the_module_is_a_command():
    version = sklearn_scan.__version__
    said = python("-m", "sklearn_scan", "--version")
    assert said == f"sklearn-scan {version}\n"


@pytest.mark.parametrize(
    "arguments", ["--version", "--help", "cluster --help", "diagnose --help"]
)
def test_help_and_version_import_nothing_heavy(arguments):
    *_, modules = python("-c", ASK, *arguments.split()).splitlines()
    assert not HEAVY & set(eval(modules))


def test_the_entry_point_is_the_command():
    path = ROOT / "pyproject.toml"
    if not path.exists():
        pytest.skip("the package is installed, without pyproject.toml")
    project = tomllib.loads(path.read_text())["project"]
    module, _, name = project["scripts"]["sklearn-scan"].partition(":")
    assert getattr(importlib.import_module(module), name) is main
    assert any(each.startswith("click") for each in project["dependencies"])


def test_help_says_what_exit_codes_mean_and_that_models_need_no_trust(run):
    assert "130  interrupted" in run("--help").stdout
    for command in ("predict", "diagnose"):
        said = " ".join(run(command, "--help").stdout.split())
        assert "has written, here or elsewhere" in said
        assert "trust" not in said


def test_threads_are_limited_before_torch_is_imported(run, tmp_path, monkeypatch):
    names = ("OMP_NUM_THREADS", "LOKY_MAX_CPU_COUNT")
    for name in names:
        monkeypatch.setenv(name, "1")
    folder = ["predict", tmp_path, tmp_path, "--out", tmp_path / "labels.csv"]
    run(*folder, "--threads", 3, code=1)
    assert [os.environ[name] for name in names] == ["3", "3"]


def test_every_option_is_explained():
    for command in main.commands.values():
        for option in command.params:
            is_option = isinstance(option, click.Option)
            assert not is_option or option.help, (command.name, option.name)


def test_the_views_are_those_of_images():
    assert set(VIEWS) == set(POLICIES) - {"vector"}
