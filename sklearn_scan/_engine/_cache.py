# SPDX-License-Identifier: BSD-3-Clause
"""The cache of `memory=`: what was computed before is not computed again.

What is cached is a module-level function of arrays and primitives that returns arrays
and primitives: joblib can neither hash tensors nor, reliably, modules.
"""

import os
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from joblib import Memory
from sklearn.utils.validation import check_memory

from sklearn_scan._disk._lock import hold
from sklearn_scan._engine._fingerprint import fingerprint
from sklearn_scan._version import __version__


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
        return cls(check_memory(str(memory) if path_like else memory))

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
        lock each of them would compute what they share.

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
        remember = self.memory.cache(function, ignore=list(ignore))
        with self._held(lock):
            try:
                return remember(*args, **kwargs)
            except Unfinished as unfinished:
                return unfinished.result

    def _held(self, lock):
        if self.folder is None:
            return nullcontext()
        return hold(self.folder / f"sklearn_scan-{lock()}.lock")


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
