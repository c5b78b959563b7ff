# SPDX-License-Identifier: BSD-3-Clause
"""Files that cannot be read: all of them found, then refused or left out."""

import hashlib
from dataclasses import dataclass

import numpy as np
import PIL

from sklearn_scan._disk import Table
from sklearn_scan._inputs._files import check_links, refuse_files, warn_skipped
from sklearn_scan._inputs._pictures import Fault


@dataclass(frozen=True, eq=False)
class Places:
    """Where samples are among those that were given, some of which are left out.

    Attributes
    ----------
    n_given : int, default=0
        How many were given, where some are left out.
    kept : ndarray of int or None, default=None
        Which of them are left; None for all.
    """

    n_given: int = 0
    kept: np.ndarray | None = None

    def spread(self, rows, fill=np.nan):
        """Return an array with a row for all that were given, some of them filled."""
        if self.kept is None:
            return rows
        spread = np.full((self.n_given, *rows.shape[1:]), fill, dtype=rows.dtype)
        spread[self.kept] = rows
        return spread

    def number(self, indices):
        """Return indices of samples as those among all that were given; -1 stays."""
        if self.kept is None:
            return indices
        return np.where(indices < 0, -1, self.kept[indices])

    def gather(self, neighbors):
        """Return neighbours of all that were given as those of the samples."""
        if self.kept is None:
            return neighbors
        here = np.full(self.n_given + 1, -1)  # the last for -1, which is none
        here[self.kept] = np.arange(len(self.kept))
        return here[neighbors[self.kept]]


class Sieve:
    """Finds the readable among files, step by step, and remembers the others.

    Parameters
    ----------
    paths : list of str
        All that were given.
    on_error : {"raise", "skip"}
        What is done with the others.
    """

    def __init__(self, paths, on_error):
        self.paths = paths
        self.on_error = on_error
        self.kept = np.arange(len(paths))
        self.faults = {}

    def drop(self, faults):
        """Leave out files that are left, by their faults; return the places of others.

        Parameters
        ----------
        faults : list of Fault or None
            Of each that is left.

        Returns
        -------
        places : ndarray of int
            Of the others, among those that were left.
        """
        self.faults |= {
            int(self.kept[k]): fault
            for k, fault in enumerate(faults)
            if fault is not None
        }
        places = np.array([k for k, fault in enumerate(faults) if fault is None], int)
        self.kept = self.kept[places]
        return places

    def drop_links(self, folder):
        """Leave out links that leave the folder in which the files were listed."""
        if folder is not None:
            self.drop(check_links(self.paths, folder))

    def settle(self):
        """Refuse the files that were left out, or warn of them; return the reasons."""
        n_given = len(self.paths)
        faults = [self.faults.get(i) for i in range(n_given)]
        if self.on_error == "raise" or len(self.kept) == 0:
            refuse_files(self.paths, faults)
        reasons = {self.paths[i]: self.faults[i].reason for i in sorted(self.faults)}
        if reasons:
            warn_skipped(reasons, n_given)
        return reasons

    @property
    def places(self):
        """Where the files are that are left."""
        return Places(len(self.paths), self.kept) if self.faults else Places()


class KnownFaults:
    """What is known of the content of files: whether it can be decoded.

    Parameters
    ----------
    folder : Path
        Of the cache.
    how : str, default=""
        What is done with pictures, where it may fail on some.
    """

    def __init__(self, folder, how=""):
        self.how = hashlib.blake2b(f"{PIL.__version__} {how}".encode(), digest_size=8)
        columns = ("digest BLOB", "fault TEXT")
        self.table = Table(folder / "sklearn_scan_files.sqlite", "checked", columns)

    def find(self, digests):
        """Return a dict of what is known: for each digest the `Fault`, or None."""
        found = self.table.select({self._name(digest) for digest in digests})
        return {
            digest: Fault(found[name][0], lasts=True) if found[name][0] else None
            for digest in digests
            if (name := self._name(digest)) in found
        }

    def keep(self, digests, faults):
        """Keep what was found, but for what may be otherwise at another time."""
        self.table.insert(
            (self._name(digest), fault.reason if fault else "")
            for digest, fault in zip(digests, faults, strict=True)
            if fault is None or fault.lasts
        )

    def _name(self, digest):
        # Another version of Pillow may read what this one cannot.
        return digest + self.how.digest()
