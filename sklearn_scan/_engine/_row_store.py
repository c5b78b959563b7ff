# SPDX-License-Identifier: BSD-3-Clause
"""What an encoder made of each image, kept by the content of the image.

One database per encoder. Searches and later fits ask for other subsets of the same
images, so that whole arrays would not be found again; images are.
"""

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import numpy as np

from sklearn_scan._engine._lock import hold

# A file that was written this short a time ago may be written again without its time
# of change being another.
_SECONDS_UNTIL_SETTLED = 2
# SQLite takes no more than 32,766 values in one statement.
_MOST_VALUES = 30_000

_TABLES = """
    CREATE TABLE IF NOT EXISTS rows (digest BLOB PRIMARY KEY, features BLOB);
    CREATE TABLE IF NOT EXISTS files (
        path TEXT PRIMARY KEY, size INTEGER, changed INTEGER, digest BLOB
    );
"""


class RowStore:
    """Rows of features on disk, by the digest of what they are the features of.

    Parameters
    ----------
    folder : str or PathLike
        Made if it is not there.
    identity : str
        Of the encoder.
    """

    def __init__(self, folder, identity):
        self.path = Path(folder) / "sklearn_scan_features" / f"{identity}.sqlite"

    def held(self):
        """Return a context in which no other process computes rows of this encoder."""
        return hold(self.path.with_suffix(".lock"))

    def fetch(self, digests):
        """Return a dict of the rows that are kept, by digest."""
        found = self._select("rows", "digest, features", "digest", set(digests))
        return {digest: np.frombuffer(row, np.float32) for digest, row in found}

    def keep(self, digests, rows):
        """Keep rows of features, float32."""
        rows = [row.astype(np.float32).tobytes() for row in rows]
        self._insert("rows", zip(digests, rows, strict=True))

    def fetch_digests(self, paths):
        """Return a dict of the digests of those files that have not changed."""
        places = [os.path.abspath(path) for path in paths]
        columns = "path, size, changed, digest"
        found = {
            row[0]: row[1:] for row in self._select("files", columns, "path", places)
        }
        digests = {}
        for path, place in zip(paths, places, strict=True):
            if place not in found or not os.path.exists(place):
                continue
            status = os.stat(path)
            *seen, digest = found[place]
            if seen == [status.st_size, status.st_mtime_ns]:
                digests[path] = digest
        return digests

    def keep_digests(self, digests):
        """Keep the digests of files, a dict by path, if the files have settled."""
        kept = []
        for path, digest in digests.items():
            status = os.stat(path)
            if time.time() - status.st_mtime > _SECONDS_UNTIL_SETTLED:
                place = os.path.abspath(path)
                kept.append((place, status.st_size, status.st_mtime_ns, digest))
        self._insert("files", kept)

    def _select(self, table, columns, key, values):
        """Return the entries of a table whose key is one of some values."""
        if not self.path.exists():
            return []
        values, found = list(values), []
        with self._open() as database:
            for start in range(0, len(values), _MOST_VALUES):
                part = values[start : start + _MOST_VALUES]
                marks = ", ".join("?" * len(part))
                query = f"SELECT {columns} FROM {table} WHERE {key} IN ({marks})"
                found += database.execute(query, part).fetchall()
        return found

    def _insert(self, table, entries):
        entries = list(entries)
        if not entries:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        marks = ", ".join("?" * len(entries[0]))
        with self._open() as database, database:
            database.executescript(_TABLES)
            command = f"INSERT OR REPLACE INTO {table} VALUES ({marks})"
            database.executemany(command, entries)

    def _open(self):
        # Another process may be writing for a while.
        return closing(sqlite3.connect(self.path, timeout=60))
