# SPDX-License-Identifier: BSD-3-Clause
"""The command line: one file per command, and what they share.

Nothing here imports torch before a command runs, so that help and errors of usage come
at once.
"""

from sklearn_scan._cli._main import main

__all__ = ["main"]
