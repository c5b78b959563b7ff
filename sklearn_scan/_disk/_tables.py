# SPDX-License-Identifier: BSD-3-Clause
"""Tables of SQLite, which several processes may read and write."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

# SQLite takes no more than 32,766 values in one statement.
_MOST_VALUES = 30_000


@dataclass(frozen=True)
class Table:
    """A table in a file, of which the first column is the key.

    Attributes
    ----------
    path : Path
        The file, made when something is written.
    name : str
        Of the table.
    columns : tuple of str
        Names and types, as in "digest BLOB".
    """

    path: Path
    name: str
    columns: tuple

    def select(self, keys):
        """Return a dict of the entries with these keys, each without its key."""
        if not self.path.exists():
            return {}
        keys, found = list(keys), {}
        key, *others = (column.split()[0] for column in self.columns)
        wanted = ", ".join([key, *others])
        with closing(self._connect()) as database:
            for start in range(0, len(keys), _MOST_VALUES):
                part = keys[start : start + _MOST_VALUES]
                marks = ", ".join("?" * len(part))
                query = f"SELECT {wanted} FROM {self.name} WHERE {key} IN ({marks})"
                found |= {row[0]: row[1:] for row in database.execute(query, part)}
        return found

    def insert(self, entries):
        """Add entries, tuples of all columns; those of the same key are replaced."""
        entries = list(entries)
        if not entries:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        marks = ", ".join("?" * len(self.columns))
        with closing(self._connect()) as database, database:
            command = f"INSERT OR REPLACE INTO {self.name} VALUES ({marks})"
            database.executemany(command, entries)

    def count(self):
        """Return the number of entries."""
        if not self.path.exists():
            return 0
        with closing(self._connect()) as database:
            query = f"SELECT COUNT(*) FROM {self.name}"
            return database.execute(query).fetchone()[0]

    def _connect(self):
        # Another process may be writing for a while.
        database = sqlite3.connect(self.path, timeout=60)
        key, *others = self.columns
        columns = ", ".join([f"{key} PRIMARY KEY", *others])
        database.execute(f"CREATE TABLE IF NOT EXISTS {self.name} ({columns})")
        return database
