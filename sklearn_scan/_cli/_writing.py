# SPDX-License-Identifier: BSD-3-Clause
"""Results as files that are whole or not there."""

import json

from sklearn_scan._cli._streams import as_json


def whole_file(path):
    """Yield where to write a file; it takes its place when all of it is written.

    See `sklearn_scan._disk.whole_file`, which is imported when something is written.
    """
    from sklearn_scan._disk import whole_file

    return whole_file(path)


def write_json(record, path):
    """Write a dict as JSON."""
    with whole_file(path) as part:
        text = json.dumps(as_json(record), indent=2, allow_nan=False)
        part.write_text(f"{text}\n", encoding="ascii")
