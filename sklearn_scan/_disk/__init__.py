# SPDX-License-Identifier: BSD-3-Clause
"""What is kept on disk between fits, and shared by processes."""

from sklearn_scan._disk._digests import FileDigests
from sklearn_scan._disk._lock import hold
from sklearn_scan._disk._tables import Table

__all__ = ["FileDigests", "Table", "hold"]
