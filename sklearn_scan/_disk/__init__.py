# SPDX-License-Identifier: BSD-3-Clause
"""What is kept on disk between fits, and shared by processes."""

from sklearn_scan._disk._digests import FileDigests
from sklearn_scan._disk._lock import hold
from sklearn_scan._disk._tables import Table
from sklearn_scan._disk._writing import (
    DamagedFileError,
    check_writable,
    explain_failure,
    read_checked,
    sync,
    whole_file,
    write_checked,
)

__all__ = [
    "DamagedFileError",
    "FileDigests",
    "Table",
    "check_writable",
    "explain_failure",
    "hold",
    "read_checked",
    "sync",
    "whole_file",
    "write_checked",
]
