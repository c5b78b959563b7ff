# SPDX-License-Identifier: BSD-3-Clause
"""The scripts in `examples`: what they import and pass exists, and they run."""

import ast
import importlib
import inspect
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(ROOT.glob("examples/*.py"))
PAGES = [path for path in SCRIPTS if path.name.startswith("plot_")]
MODULES = ("sklearn_scan", "sklearn")

every_script = pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)


def find_imports(tree):
    """Return the objects that a script imports by name from the libraries it shows."""
    return {
        alias.name: getattr(importlib.import_module(node.module), alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.startswith(MODULES)
        for alias in node.names
    }


def find_callee(function, imports):
    """Return what a call such as `Name(...)` or `Name.method(...)` calls, or None."""
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        owner = imports.get(function.value.id)
        return None if owner is None else getattr(owner, function.attr)
    return imports.get(function.id) if isinstance(function, ast.Name) else None


@every_script
def test_names_and_arguments_exist(path):
    tree = ast.parse(path.read_text())
    imports = find_imports(tree)
    assert any(obj.__module__.startswith("sklearn_scan") for obj in imports.values())
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        if callee := find_callee(call.func, imports):
            keywords = {keyword.arg: None for keyword in call.keywords if keyword.arg}
            inspect.signature(callee).bind_partial(**keywords)


@every_script
def test_page_has_a_title_and_whole_rules(path):
    """Sphinx warns of a rule that is shorter than its title, and needs a title."""
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert re.match(r"(=+)\n(.+)\n\1\n\n", docstring)
    lines = [line.removeprefix("# ") for line in path.read_text().splitlines()]
    for title, rule in pairwise(lines):
        if re.fullmatch("[=-]{4,}", rule) and title not in ('"""', "#", ""):
            assert len(rule) == len(title), title


def test_links_between_pages():
    text = "".join(path.read_text() for path in SCRIPTS)
    linked = set(re.findall(r"sphx_glr_auto_examples_(\w+\.py)", text))
    assert linked and linked <= {path.name for path in PAGES}


@pytest.mark.slow
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_page_runs(path, tmp_path):
    """Every page runs from any folder, without a display and without a warning."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("DISPLAY", None)
    environment.pop("MPLBACKEND", None)
    output = ["--output", "digits.png"] if path.name == "plot_digits.py" else []
    done = subprocess.run(
        [sys.executable, "-W", "error", path, *output],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout and not done.stderr
