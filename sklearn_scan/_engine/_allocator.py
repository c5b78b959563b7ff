# SPDX-License-Identifier: BSD-3-Clause
"""Memory that a training step gives back is kept for the next step.

Activations are large, and the C library returns large blocks to the operating system as
soon as they are freed: every step then waits for the same pages to be mapped and zeroed
again. On two cores a ResNet-18 lost a sixth of its time in that.
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

_lock = threading.Lock()
_n_users = 0


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
    """
    library = _find_library() if device.type == "cpu" else None
    if library is None:
        yield
        return
    _enter(library)
    try:
        yield
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
    return library if is_glibc else None


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
