# SPDX-License-Identifier: BSD-3-Clause
"""Classes and functions by name, and which of them a file may ask for."""

import importlib
import sys

import numpy as np
import sklearn
from sklearn.base import BaseEstimator

from sklearn_scan._persistence._file import RefusedFileError

_OURS = ("sklearn_scan", "sklearn_scan.pretext", "sklearn_scan.model_selection")
# They hold no estimators, and importing them may change others.
_NOT_ASKED = {"experimental", "externals"}


def find_name(item):
    """Return "module:qualname" of a class or a function, by its public module.

    Raises
    ------
    TypeError
        If it has no name by which another program could find it.
    """
    if isinstance(item, np.ufunc):
        return f"numpy:{item.__name__}"
    module = getattr(item, "__module__", None)
    qualname = getattr(item, "__qualname__", None)
    for home in _list_homes(module):
        name = f"{home}:{qualname}"
        try:
            if look_up(name) is item:
                return name
        except (ImportError, AttributeError, ValueError):
            continue
    raise TypeError(
        f"{item!r} cannot be found by name in another program, as lambdas and "
        "functions within functions cannot. Define it at the top level of a module"
    )


def look_up(name):
    """Import a class or a function by its name. Whoever calls this trusts it."""
    module, _, qualname = name.partition(":")
    found = sys.modules.get(module) or importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


def walk_nodes(description):
    """Yield all objects of JSON, at any depth."""
    waiting = [description]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting.extend(node)
        elif isinstance(node, dict):
            waiting.extend(node.values())
            yield node


class Names:
    """What a file may ask for by name.

    Parameters
    ----------
    trusted : iterable of str, class or callable
        What the caller allows, besides estimators of this library and of scikit-learn.
    """

    def __init__(self, trusted=()):
        if isinstance(trusted, str) or trusted is True:
            raise TypeError(
                f"trusted={trusted!r} must be a list of names or of the classes and "
                "functions themselves."
            )
        given = {e if isinstance(e, str) else find_name(e): e for e in trusted}
        self._given = {n: None if isinstance(e, str) else e for n, e in given.items()}

    def find_class(self, name):
        """Return a class of estimators."""
        if name in self._given:
            return self._look_up_trusted(name)
        found = _find_known(name)
        if not _is_estimator(found):
            raise RefusedFileError(f"{name!r} is no estimator that may be loaded")
        return found

    def find_function(self, name):
        """Return a class or a function that is a parameter."""
        if name in self._given:
            return self._look_up_trusted(name)
        found = _find_known(name)
        if not _is_ufunc(found):
            raise RefusedFileError(f"{name!r} is not trusted")
        return found

    def list_untrusted(self, description):
        """Return all names in a description that the caller would have to allow."""
        asked = {
            (node["type"], str(node.get("name")))
            for node in walk_nodes(description)
            if node.get("type") in ("estimator", "function")
        }
        return sorted({name for kind, name in asked if not self._allows(kind, name)})

    def _allows(self, kind, name):
        if name in self._given:
            return True
        found = _find_known(name)
        return _is_estimator(found) if kind == "estimator" else _is_ufunc(found)

    def _look_up_trusted(self, name):
        if self._given[name] is not None:
            return self._given[name]
        try:
            return look_up(name)
        except (ImportError, AttributeError, ValueError) as error:
            raise RefusedFileError(
                f"{name!r} is trusted, and cannot be imported: {error}"
            ) from error


def _find_known(name):
    """Return a public class of this library or of scikit-learn, or a ufunc; or None.

    Nothing else is imported, and so nothing runs.
    """
    module, _, qualname = name.partition(":")
    if not qualname.isidentifier() or qualname.startswith("_"):
        return None
    if module == "numpy":
        found = getattr(np, qualname, None)
        return found if isinstance(found, np.ufunc) else None
    if module not in _OURS and not _is_of_sklearn(module):
        return None
    try:
        found = getattr(importlib.import_module(module), qualname, None)
    except ImportError:
        return None
    return found if _is_estimator(found) else None


def _is_estimator(found):
    return isinstance(found, type) and issubclass(found, BaseEstimator)


def _is_ufunc(found):
    return isinstance(found, np.ufunc)


def _is_of_sklearn(module):
    package, *parts = module.split(".")
    are_public = all(p.isidentifier() and p[0] != "_" and p != "tests" for p in parts)
    is_listed = bool(parts) and parts[0] in {*sklearn.__all__} - _NOT_ASKED
    return package == "sklearn" and is_listed and are_public


def _list_homes(module):
    """Return where a class may be public: the module up to its first private part."""
    if not isinstance(module, str):
        return []
    parts = module.split(".")
    private = next((i for i, p in enumerate(parts) if p.startswith("_")), len(parts))
    return list(dict.fromkeys([".".join(parts[:private]), module]))[private == 0 :]
