# SPDX-License-Identifier: BSD-3-Clause
"""Image clustering without labels, as a scikit-learn estimator.

>>> from sklearn_scan import SCANClustering
>>> SCANClustering(n_clusters=10)
SCANClustering()
"""

import importlib
from typing import TYPE_CHECKING

from sklearn_scan._version import __version__

if TYPE_CHECKING:
    from sklearn_scan._config import TrainingConfig
    from sklearn_scan._inputs import list_images
    from sklearn_scan._merging import merge, merge_tree
    from sklearn_scan._persistence import export_onnx, load, save
    from sklearn_scan._scan import SCANClustering
    from sklearn_scan._settings import config_context, get_config, set_config
    from sklearn_scan.inspection._diagnosis import diagnose

__all__ = [
    "SCANClustering",
    "TrainingConfig",
    "__version__",
    "config_context",
    "diagnose",
    "export_onnx",
    "get_config",
    "list_images",
    "load",
    "merge",
    "merge_tree",
    "save",
    "set_config",
]

# Imported when asked for: scikit-learn, skorch and torch take seconds to import, and
# a program that mentions the package need not use it in every run.
_HOMES = {
    "SCANClustering": "_scan",
    "TrainingConfig": "_config",
    "config_context": "_settings",
    "diagnose": "inspection._diagnosis",
    "export_onnx": "_persistence",
    "get_config": "_settings",
    "list_images": "_inputs",
    "load": "_persistence",
    "merge": "_merging",
    "merge_tree": "_merging",
    "save": "_persistence",
    "set_config": "_settings",
}
_MODULES = {
    "inspection",
    "metrics",
    "model_selection",
    "neighbors",
    "pretext",
    "recipes",
}


def __getattr__(name):
    if name in _HOMES:
        home = importlib.import_module(f"{__name__}.{_HOMES[name]}")
        return getattr(home, name)
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_HOMES, *_MODULES})
