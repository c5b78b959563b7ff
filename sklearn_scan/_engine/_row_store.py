# SPDX-License-Identifier: BSD-3-Clause
"""What an encoder made of each image, kept by the content of the image.

One table per encoder. Searches and later fits ask for other subsets of the same images,
so that whole arrays would not be found again; images are.
"""

from pathlib import Path

import numpy as np

from sklearn_scan._disk import Table, hold


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
        self.table = Table(path, "features", ("digest BLOB", "row BLOB"))

    def held(self):
        """Return a context in which no other process computes rows of this encoder."""
        return hold(self.table.path.with_suffix(".lock"))

    def fetch(self, digests):
        """Return a dict of the rows that are kept, by digest."""
        found = self.table.select(set(digests))
        return {
            digest: np.frombuffer(row, np.float32) for digest, (row,) in found.items()
        }

    def keep(self, digests, rows):
        """Keep rows of features, float32."""
        rows = [row.astype(np.float32).tobytes() for row in rows]
        self.table.insert(zip(digests, rows, strict=True))
