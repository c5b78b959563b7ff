# SPDX-License-Identifier: BSD-3-Clause
"""Memory that a training step gives back is kept for the next step.

Activations are large, and the C library returns large blocks to the operating system as
soon as they are freed: every step then waits for the same pages to be mapped and zeroed
again. On two cores a ResNet-18 lost a sixth of its time in that.

Blocks of ever other sizes, as those of random views, leave holes in what is kept. These
add up, so that memory is given back now and then: where much more is held than a step
takes.
"""

import ctypes
import os
import sys
import threading
from contextlib import contextmanager
from functools import lru_cache

# Names and numbers of <malloc.h> of glibc, where others have no such function.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4

_WHILE_TRAINING = {
    _MMAP_MAX: 0,  # take no block from the system directly
    _TRIM_THRESHOLD: 2**31 - 1,  # return nothing
    _TOP_PAD: 2**26,
}
# The defaults; of the two thresholds, where a program arrives by itself after it has
# freed a block of 32 MiB.
_AFTERWARDS = {
    _MMAP_MAX: 65_536,
    _TRIM_THRESHOLD: 2**26,
    _TOP_PAD: 2**17,
    _MMAP_THRESHOLD: 2**25,
}

# What may be held beyond what a step takes: bytes, and a share of that.
_MOST_HOLES, _MOST_HOLES_SHARE = 2**28, 1 / 8

_lock = threading.Lock()
_n_users = 0


class KeptMemory:
    """What `kept_memory` keeps, of which too much is given back.

    Parameters
    ----------
    library : ctypes.CDLL or None
        The C library; None where nothing is kept.
    """

    def __init__(self, library):
        self._library = library
        self._taken = None

    def relieve(self):
        """Give memory back where holes have added up; to be called after every step.

        A step takes what is held after the first one, and after the first one that
        follows when memory was given back.
        """
        if self._library is None:
            return
        held = _held_bytes()
        if self._taken is None:
            self._taken = held
        elif held - self._taken > max(_MOST_HOLES, _MOST_HOLES_SHARE * self._taken):
            self._library.malloc_trim(0)
            self._taken = None


def _held_bytes():
    """Return the memory of this process that is not that of files."""
    with open("/proc/self/statm", encoding="ascii") as file:
        _, resident, shared, *_ = map(int, file.read().split())
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


def _forget_users():
    """Begin anew in a forked process, which has none of the threads of its parent."""
    global _lock, _n_users
    _lock, _n_users = threading.Lock(), 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_users)


@contextmanager
def kept_memory(device, *, trim=True):
    """Keep freed memory within the context, for the whole process.

    At the end the allocator has its defaults again, and, with `trim`, what is free goes
    back to the system.

    Yields
    ------
    memory : KeptMemory
        To be relieved after every step.
    """
    library = _find_library() if device.type == "cpu" else None
    memory = KeptMemory(library)
    if library is None:
        yield memory
        return
    _enter(library)
    try:
        yield memory
    finally:
        _leave(library, trim)


@lru_cache(maxsize=1)
def _find_library():
    """Return the C library, where its allocator can be told what to keep.

    Whoever has set up the allocator by the environment knows better.
    """
    is_set_up = any(n.startswith(("MALLOC_", "GLIBC_TUNABLES")) for n in os.environ)
    if sys.platform != "linux" or is_set_up:
        return None
    library = ctypes.CDLL(None)
    is_glibc = hasattr(library, "mallopt") and hasattr(library, "malloc_trim")
    can_tell = os.path.exists("/proc/self/statm")
    return library if is_glibc and can_tell else None


def _enter(library):
    global _n_users
    with _lock:
        _n_users += 1
        if _n_users == 1:
            _set(library, _WHILE_TRAINING)


def _leave(library, trim):
    global _n_users
    with _lock:
        _n_users -= 1
        if _n_users == 0:
            _set(library, _AFTERWARDS)
            if trim:
                library.malloc_trim(0)


def _set(library, options):
    for option, value in options.items():
        library.mallopt(option, value)
