# SPDX-License-Identifier: BSD-3-Clause
"""Step 1: pretext tasks, each a scikit-learn transformer that stands on its own.

Every other file in this folder holds one task. They are found by themselves, so that
adding a task is adding a file.
"""

import importlib
import pkgutil

from sklearn_scan.pretext._base import BasePretext as _BasePretext


def _find_tasks():
    """Yield the name and the class of every task that is defined in this folder."""
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        for name, member in vars(importlib.import_module(module.name)).items():
            is_class = isinstance(member, type) and member.__module__ == module.name
            if is_class and _BasePretext in member.__mro__[1:]:
                yield name, member


_TASKS = dict(_find_tasks())
globals().update(_TASKS)
__all__ = sorted(_TASKS)
