# SPDX-License-Identifier: BSD-3-Clause
"""Hashes of the content of files, which are read only where they have changed."""

import hashlib
import os
import time
from functools import partial
from pathlib import Path

from joblib import Parallel, delayed

from sklearn_scan._disk._tables import Table

# A file that was written this short a time ago may be written again without its time
# of change being another.
_SECONDS_UNTIL_SETTLED = 2


class FileDigests:
    """What the content of files is known by.

    Parameters
    ----------
    folder : str or PathLike
        Where the digests of files are kept, with the sizes and times of change by which
        it is seen that a file is the same.
    """

    def __init__(self, folder):
        # Paths as bytes: the names of files may be no text.
        columns = ("path BLOB", "size INTEGER", "changed INTEGER", "digest BLOB")
        self.table = Table(Path(folder) / "sklearn_scan_files.sqlite", "files", columns)

    def find(self, paths):
        """Return a list of the digests of files.

        Parameters
        ----------
        paths : list of str
            Existing files.
        """
        places = [os.path.abspath(path) for path in paths]
        kept, digests = self.table.select(set(map(os.fsencode, places))), {}
        statuses = {place: os.stat(place) for place in places}
        for name, (*seen, digest) in kept.items():
            place = os.fsdecode(name)
            status = statuses[place]
            if seen == [status.st_size, status.st_mtime_ns]:
                digests[place] = digest
        unknown = [place for place in statuses if place not in digests]
        # Hashes are computed without the lock of the interpreter.
        found = Parallel(n_jobs=-1, require="sharedmem")(
            delayed(digest_file)(place) for place in unknown
        )
        self._keep(dict(zip(unknown, found, strict=True)), statuses)
        digests |= zip(unknown, found, strict=True)
        return [digests[place] for place in places]

    def _keep(self, digests, statuses):
        """Keep digests of files that have settled, by what they were beforehand."""
        now = time.time()
        self.table.insert(
            (os.fsencode(place), status.st_size, status.st_mtime_ns, digests[place])
            for place, status in statuses.items()
            if place in digests and now - status.st_mtime > _SECONDS_UNTIL_SETTLED
        )


def digest_file(path):
    """Return a hash of the content of a file."""
    found = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        for block in iter(partial(file.read, 2**20), b""):
            found.update(block)
    return found.digest()
