# SPDX-License-Identifier: BSD-3-Clause
"""What an editor and a type checker see of the public interface."""

import inspect
from importlib import resources
from typing import get_type_hints

import pytest

import sklearn_scan
from sklearn_scan import inspection, metrics, neighbors, pretext, recipes

CLASSES = [
    sklearn_scan.SCANClustering,
    sklearn_scan.TrainingConfig,
    inspection.ConfusionDisplay,
    inspection.PrototypesDisplay,
    *(getattr(pretext, name) for name in pretext.__all__),
]
METHODS = ("__init__", "fit", "predict", "predict_proba", "transform", "score", "plot")
FUNCTIONS = [
    sklearn_scan.list_images,
    neighbors.mine_neighbors,
    recipes.paper_recipe,
    inspection.apply_edits,
    inspection.draw_views,
    inspection.plot_views,
    inspection.write_gallery,
    *(
        value
        for name in metrics.__all__
        if inspect.isfunction(value := getattr(metrics, name))
    ),
]


def methods():
    for cls in CLASSES:
        for name in METHODS:
            method = getattr(cls, name, None)
            if method is not None and method.__module__.startswith("sklearn_scan"):
                yield pytest.param(method, id=f"{cls.__name__}.{name}")


@pytest.mark.parametrize("function", [*methods(), *FUNCTIONS])
def test_every_public_argument_has_a_type(function):
    hints = get_type_hints(function)
    for name, parameter in inspect.signature(function).parameters.items():
        if name != "self" and parameter.kind is not parameter.VAR_KEYWORD:
            assert name in hints


def test_type_checkers_are_told_that_there_are_types():
    assert resources.files("sklearn_scan").joinpath("py.typed").is_file()


def parameters_in_docstring(cls):
    """Return the names under the heading "Parameters" of a class."""
    text = inspect.getdoc(cls)
    section = text.partition("Parameters\n----------\n")[2]
    section = section.partition("\n\n")[0] + "\n"
    lines = [line for line in section.splitlines() if line and line[0] != " "]
    names = [name.strip() for line in lines for name in line.split(" : ")[0].split(",")]
    return [name for name in names if name.isidentifier()]


@pytest.mark.parametrize("cls", [c for c in CLASSES if hasattr(c, "get_params")])
def test_every_parameter_is_documented(cls):
    expected = list(inspect.signature(cls).parameters)
    assert sorted(parameters_in_docstring(cls)) == sorted(expected)


def test_what_docstrings_share_has_the_margin_of_the_others():
    # As Python 3.13 compiles docstrings, without a margin.
    text = "Do.\n\nParameters\n----------\n{shared_parameters}\n"
    task = type("Task", (pretext.SimCLR,), {"__doc__": text})
    found = parameters_in_docstring(task)
    assert {"encoder", "views", "verbose"} <= set(found)
