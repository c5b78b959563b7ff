# SPDX-License-Identifier: BSD-3-Clause
"""The layers that docs/architecture.md draws: imports go downwards only."""

import ast
from pathlib import Path

import pytest

import sklearn_scan

ROOT = Path(sklearn_scan.__file__).parent
LAYERS = (
    {"__main__"},
    {"_cli"},
    {"recipes", "inspection", "_persistence"},
    {"model_selection", "_merging"},
    {"_scan"},
    {"_predict", "_params"},
    {"_calibration", "_novelty"},
    {"_backbone", "_stages", "_config"},
    {"pretext"},
    {"neighbors", "_losses"},
    {"_engine", "_nets", "_views", "_inputs", "_tiled_search"},
    {"_disk", "_world", "_criteria"},
    {"metrics", "_console", "_devices", "_typing", "_compat", "_version"}
    | {"_warnings", "_settings"},
)
LEVEL = {name: k for k, layer in enumerate(LAYERS) for name in layer}
FILES = sorted(ROOT.rglob("*.py"))


def home(path):
    """Return the part of the package that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_parts(path):
    """Return the parts of the package that a file imports from."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            package, *rest = name.split(".")
            if package == "sklearn_scan" and rest:
                yield rest[0]


def test_every_part_has_a_layer():
    assert {home(path) for path in FILES} - {"__init__"} == set(LEVEL)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_downwards(path):
    here = home(path)
    if here == "__init__":
        return
    for part in imported_parts(path):
        assert part == here or LEVEL[part] > LEVEL[here]
