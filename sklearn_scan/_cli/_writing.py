# SPDX-License-Identifier: BSD-3-Clause
"""Files that are whole or not there."""

import json
import os
from contextlib import contextmanager

from sklearn_scan._cli._streams import as_json


@contextmanager
def whole_file(path):
    """Yield where to write a file; it takes its place when all of it is written.

    Parameters
    ----------
    path : Path
        A file of this name is replaced. Where it is a link, the link is.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_json(record, path):
    """Write a dict as JSON."""
    with whole_file(path) as part:
        text = json.dumps(as_json(record), indent=2, allow_nan=False)
        part.write_text(f"{text}\n", encoding="ascii")
