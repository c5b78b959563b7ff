# SPDX-License-Identifier: BSD-3-Clause
"""The cache of `memory=`: what was computed before is not computed again.

What is cached is a module-level function of arrays and primitives that returns arrays
and primitives: joblib can neither hash tensors nor, reliably, modules.
"""

import hashlib
import os
import pickle
import re
import threading
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial, wraps
from pathlib import Path

import numpy as np
from joblib import Memory
from sklearn.utils.validation import check_memory

from sklearn_scan._disk import DamagedFileError, explain_failure, hold
from sklearn_scan._engine._fingerprint import fingerprint
from sklearn_scan._version import __version__
from sklearn_scan._warnings import warn_user
from sklearn_scan._world import world

# What joblib calls a result while it is written: by process and, at last, thread.
_UNFINISHED_FILE = re.compile(r"\.pkl\.[0-9a-f]{32}-(\d+)-(\d+)$")


class Unfinished(Exception):
    """Takes the result of a stage that a callback stopped past the cache.

    What raises is not stored; the next fit would take it for the finished one.

    Parameters
    ----------
    result : object
        What the function would have returned.
    """

    def __init__(self, result):
        super().__init__(result)
        self.result = result


@dataclass(frozen=True)
class StageCache:
    """A `joblib.Memory`, of which one process at a time computes what is missing.

    Attributes
    ----------
    memory : joblib.Memory, default=Memory(None)
        Where results are kept, if anywhere.
    """

    memory: object = field(default_factory=partial(Memory, None))

    @classmethod
    def open(cls, memory):
        """Return the cache of a parameter `memory`: a path, a `joblib.Memory`, None."""
        path_like = isinstance(memory, os.PathLike)
        try:
            return cls(check_memory(str(memory) if path_like else memory))
        except OSError as error:
            what = "It is the folder of memory=."
            raise explain_failure(error, str(memory), what) from error

    @property
    def is_active(self):
        """Whether anything is remembered."""
        return not (isinstance(self.memory, Memory) and self.memory.location is None)

    @property
    def folder(self):
        """Where it lies; None where nothing is remembered, or not in a folder."""
        location = getattr(self.memory, "location", None)
        return None if location is None else Path(location)

    def fetch(self, function, *args, ignore=(), lock, **kwargs):
        """Return what a function returned for these arguments before, or call it.

        A parallel search starts several candidates of one fold at once; without the
        lock each of them would compute what they share. What is kept has a checksum,
        and is computed anew, with a warning, where it was damaged.

        Parameters
        ----------
        function : callable
            Of a module, from arrays and primitives to arrays and primitives. It may
            raise `Unfinished`.
        *args, **kwargs : object
            Its arguments.
        ignore : tuple of str, default=()
            Arguments that are not part of the key.
        lock : callable
            Returns a name for the result, and is called where there is a cache.
        """
        if not self.is_active:
            return _call(function, *args, **kwargs)
        if world().size > 1:
            return self._fetch_together(function, ignore, lock, args, kwargs)
        return self._fetch(function, ignore, lock, args, kwargs)

    def _fetch_together(self, function, ignore, lock, args, kwargs):
        """Let the first process look for a result; all compute it, if it must be."""
        if world().rank:
            is_known, result = world().agree(None)
            return result if is_known else _call(function, *args, **kwargs)
        computed = []

        @wraps(function)
        def compute(*args, **kwargs):
            if not computed:
                world().agree((False, None))
            computed.append(True)
            return function(*args, **kwargs)

        result = self._fetch(compute, ignore, lock, args, kwargs)
        if not computed:
            world().agree((True, result))
        return result

    def _fetch(self, function, ignore, lock, args, kwargs):
        with self._held(lock):
            try:
                return self._fetch_sealed(function, ignore, args, kwargs)
            except Unfinished as unfinished:
                return unfinished.result
            finally:
                self.sweep()

    def sweep(self):
        """Delete what joblib was writing in processes that are gone."""
        store = getattr(self.memory, "store_backend", None)
        folder = Path(getattr(store, "location", "")) / "sklearn_scan"
        # Of another machine, and on Windows, no process can be asked for.
        if store is None or os.name == "nt" or world().rank:
            return
        for path in folder.rglob("*.pkl.*"):
            found = _UNFINISHED_FILE.search(path.name)
            if found and _is_abandoned(*map(int, found.groups())):
                with suppress(OSError):
                    path.unlink()

    def _fetch_sealed(self, function, ignore, args, kwargs):
        """Return what a function returned before, if it is not damaged, or call it."""
        computed = []

        @wraps(function)
        def compute(*args, **kwargs):
            computed.append(function(*args, **kwargs))
            return seal(computed[0])

        remember = self.memory.cache(compute, ignore=list(ignore))
        if not isinstance(self.memory, Memory):
            found = remember(*args, **kwargs)
            return computed[0] if computed else unseal(found)
        kept = remember.call_and_shelve(*args, **kwargs)
        if computed:
            return computed[0]
        try:
            return unseal(kept.get())
        except Exception as error:  # reading what is damaged raises anything
            name = function.__name__.replace("_", " ").strip()
            warn_user(
                f"The cache {str(self.folder)!r} holds a damaged result of {name!r} "
                f"({error}). It is computed anew."
            )
            kept.clear()
        remember.call_and_shelve(*args, **kwargs)
        return computed[0] if computed else function(*args, **kwargs)

    def _held(self, lock):
        if self.folder is None:
            return nullcontext()
        return hold(self.folder / f"sklearn_scan-{lock()}.lock")


def seal(result):
    """Return a result as arrays of bytes, of which the first is their checksum.

    Arrays in it are not copied.
    """
    buffers = []
    head = pickle.dumps(result, protocol=5, buffer_callback=buffers.append)
    parts = [_as_bytes(head), *(_as_bytes(buffer.raw()) for buffer in buffers)]
    return [_as_bytes(_digest(parts)), *parts]


def unseal(sealed):
    """Return the result that was sealed.

    Raises
    ------
    DamagedFileError
        If it is another.
    """
    digest, *parts = sealed
    if digest.tobytes() != _digest(parts):
        raise DamagedFileError("it does not agree with its checksum")
    return pickle.loads(parts[0], buffers=parts[1:])


def _as_bytes(buffer):
    return np.frombuffer(buffer, dtype=np.uint8)


def _digest(parts):
    digest = hashlib.blake2b()
    for part in parts:
        digest.update(f"{len(part)} ".encode())
        digest.update(part)
    return digest.digest()


def _call(function, *args, **kwargs):
    try:
        return function(*args, **kwargs)
    except Unfinished as unfinished:
        return unfinished.result


def _is_abandoned(process, thread):
    """Say whether a thread of a process writes no more."""
    if process == os.getpid():
        return thread == id(threading.current_thread())
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:  # it is of another user
        return False
    return False


def identify_estimator(estimator):
    """Return a hash of what an unfitted estimator is: its class and its parameters.

    Raises
    ------
    TypeError
        Where a parameter cannot be identified in a later process.
    """
    parts = {"class": fingerprint(type(estimator)), "version": __version__}
    for name, value in estimator.get_params(deep=False).items():
        try:
            parts[name] = fingerprint(value)
        except TypeError as error:
            raise TypeError(
                f"its parameter {name!r} cannot be identified later, as {error}"
            ) from error
    return fingerprint(parts)
