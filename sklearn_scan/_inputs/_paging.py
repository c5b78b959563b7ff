# SPDX-License-Identifier: BSD-3-Clause
"""Memmaps that are read without becoming memory of the process."""

import mmap

import numpy as np

# Bytes that are read of a memmap before its pages are given back. What is mapped counts
# as memory of the process, up to the whole file.
_BYTES_UNTIL_RELEASED = 2**27

# Pages of the others may hold changes that are nowhere else.
_MODES = ("r", "r+", "w+")


def release(array, n_read):
    """Give back the pages of a memmap that were read, where they are many.

    The file stays as it is, and so does what the system keeps of it.

    Parameters
    ----------
    array : ndarray, memmap or other sequence
        Of arrays that are no memmap, and no view of one, nothing is given back.
    n_read : int
        Bytes that were read since pages were given back.

    Returns
    -------
    n_read : int
        0 where pages were given back.
    """
    if n_read < _BYTES_UNTIL_RELEASED:
        return n_read
    if (pages := find_map(array)) is not None:
        pages.madvise(mmap.MADV_DONTNEED)
    return 0


def find_map(array):
    """Return the `mmap` whose pages an array is a view of, if they can be given back.

    Returns
    -------
    map : mmap.mmap or None
    """
    while array is not None:
        if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap):
            has_advice = hasattr(mmap, "MADV_DONTNEED")
            return array.base if array.mode in _MODES and has_advice else None
        array = getattr(array, "base", None)
    return None
