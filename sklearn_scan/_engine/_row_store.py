# SPDX-License-Identifier: BSD-3-Clause
"""What an encoder made of each image, kept by the content of the image.

One table per encoder. Searches and later fits ask for other subsets of the same images,
so that whole arrays would not be found again; images are.
"""

import zlib
from pathlib import Path

import numpy as np

from sklearn_scan._disk import Table, hold
from sklearn_scan._warnings import warn_user


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
        self.folder = Path(folder)
        path = self.folder / "sklearn_scan_features" / f"{identity}.sqlite"
        columns = ("digest BLOB", "row BLOB", "checksum INTEGER")
        self.table = Table(path, "checked_features", columns)

    def held(self):
        """Return a context in which no other process computes rows of this encoder."""
        return hold(self.table.lock)

    def fetch(self, digests):
        """Return a dict of the rows that are kept, by digest; none that is damaged."""
        found = self.table.select(set(digests))
        rows = {
            digest: np.frombuffer(row, np.float32)
            for digest, (row, checksum) in found.items()
            if zlib.crc32(row, zlib.crc32(digest)) == checksum
        }
        if len(rows) < len(found):
            warn_user(
                f"The cache {str(self.table.path)!r} holds {len(found) - len(rows)} "
                "damaged rows of features. They are computed anew."
            )
        return rows

    def keep(self, digests, rows):
        """Keep rows of features, float32."""
        entries = []
        for digest, row in zip(digests, rows, strict=True):
            row = row.astype(np.float32).tobytes()
            entries.append((digest, row, zlib.crc32(row, zlib.crc32(digest))))
        self.table.insert(entries)
