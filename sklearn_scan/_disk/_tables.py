# SPDX-License-Identifier: BSD-3-Clause
"""Tables of SQLite, which several processes may read and write."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sklearn_scan._warnings import warn_user

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

    @property
    def lock(self):
        """The path for `hold`, of whoever adds what is missing."""
        return self.path.with_name(f"sklearn_scan-{self.path.stem}.lock")

    def select(self, keys):
        """Return a dict of the entries with these keys, each without its key."""
        keys = list(keys)
        key, *others = (column.split()[0] for column in self.columns)
        wanted = ", ".join([key, *others])

        def read(database):
            found = {}
            for start in range(0, len(keys), _MOST_VALUES):
                part = keys[start : start + _MOST_VALUES]
                marks = ", ".join("?" * len(part))
                query = f"SELECT {wanted} FROM {self.name} WHERE {key} IN ({marks})"
                found |= {row[0]: row[1:] for row in database.execute(query, part)}
            return found

        return self._read(read, {})

    def insert(self, entries):
        """Add entries, tuples of all columns; those of the same key are replaced."""
        entries = list(entries)
        marks = ", ".join("?" * len(self.columns))
        command = f"INSERT OR REPLACE INTO {self.name} VALUES ({marks})"
        if entries:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._run("write", lambda database: database.executemany(command, entries))

    def largest(self, column):
        """Return the largest value in a column; None where there is no entry."""
        query = f"SELECT MAX({column}) FROM {self.name}"
        return self._read(lambda database: database.execute(query).fetchone()[0], None)

    def delete(self, column, value):
        """Delete the entries that have a value in a column."""
        command = f"DELETE FROM {self.name} WHERE {column} = ?"
        self._run("write", lambda database: database.execute(command, (value,)))

    def clear(self):
        """Delete all entries."""
        self._run("write", lambda data: data.execute(f"DELETE FROM {self.name}"))

    def _read(self, action, otherwise):
        return self._run("read", action, otherwise) if self.path.exists() else otherwise

    def _run(self, what, action, otherwise=None):
        """Return what an action returns; warn of a damaged file, and go on without."""
        key, *others = self.columns
        columns = ", ".join([f"{key} PRIMARY KEY", *others])
        try:
            # Another process may be writing for a while.
            with closing(sqlite3.connect(self.path, timeout=60)) as database, database:
                database.execute(f"CREATE TABLE IF NOT EXISTS {self.name} ({columns})")
                return action(database)
        except sqlite3.Error as error:
            warn_user(
                f"The cache cannot {what} {str(self.path)!r} ({error}), and goes on "
                "without it. Delete the file if it is damaged."
            )
            return otherwise
