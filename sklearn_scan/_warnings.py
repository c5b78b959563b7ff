# SPDX-License-Identifier: BSD-3-Clause
"""Warnings attributed to the code of the user, and not to the library."""

import inspect
import warnings

# Whose frames may lie between the code of the user and ours.
_LIBRARIES = ("sklearn_scan", "sklearn", "joblib", "contextlib", "skorch")


def warn_user(message, category=UserWarning):
    """Warn as if from the code that called into the library."""
    level, frame = 1, inspect.currentframe()
    while frame.f_back is not None and _package_of(frame) in _LIBRARIES:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def _package_of(frame):
    return frame.f_globals.get("__name__", "").partition(".")[0]
