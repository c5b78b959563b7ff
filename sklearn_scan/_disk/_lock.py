# SPDX-License-Identifier: BSD-3-Clause
"""Lock files that leave nothing behind."""

import os
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def hold(path):
    """Hold a lock file, between processes and between threads; delete it afterwards.

    A lock saves work that would be done twice, and no more: where the file system has
    none, or the folder cannot be written to, the work goes on without.

    Parameters
    ----------
    path : str or PathLike
        Whose name begins with "sklearn_scan-" and ends with ".lock". What processes
        that were killed have left beside it under such names is deleted.
    """
    path = Path(path)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
    acquire = _acquire if fcntl is not None else _acquire_elsewhere
    release = acquire(path)
    sweep(path.parent, "sklearn_scan-*.lock")
    try:
        yield
    finally:
        release()


def sweep(folder, pattern):
    """Delete files of processes that are gone.

    Parameters
    ----------
    folder : Path
    pattern : str
        Of the names of files that a living process has locked, as `hold` and
        `keep_claim` do.
    """
    # Not by `glob`, which sorts and resolves; a folder may hold very many pictures.
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if fnmatch(entry.name, pattern):
                _delete_abandoned(Path(entry.path))


def keep_claim(path, descriptor):
    """Lock an open file, so that `sweep` leaves it alone.

    Returns
    -------
    release : callable or None
        Closes the file. None, once it is closed, where it was swept meanwhile.
    """
    if fcntl is not None:
        with suppress(OSError):  # without locks nothing is swept either
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_at(path, descriptor):
            os.close(descriptor)
            return None
    return partial(_unlock, descriptor)


def _delete_abandoned(path):
    """Delete a file that no living process has locked."""
    if fcntl is None:  # Windows deletes no file that is open
        with suppress(OSError):
            path.unlink()
        return
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(path, descriptor):
                path.unlink()
        finally:
            os.close(descriptor)


def _acquire(path):
    """Wait for a lock file; return what gives it back."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError:
            return _do_nothing
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, OSError):
                return _do_nothing
            raise
        if _is_at(path, descriptor):
            return lambda: _release(path, descriptor)
        # Its holder deleted it while we waited: others do not wait for this file.
        os.close(descriptor)


def _is_at(path, descriptor):
    """Say whether a path still leads to an open file."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _release(path, descriptor):
    # Deleted while it is held. Afterwards it might be the file of another holder.
    with suppress(OSError):
        path.unlink()
    _unlock(descriptor)


def _unlock(descriptor):
    # Closing is not enough: a process that was forked meanwhile has it open as well.
    if fcntl is not None:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _acquire_elsewhere(path):
    """Do the same where an open file cannot be deleted, and so never is too early."""
    from filelock import FileLock

    lock = FileLock(path)
    lock.acquire()

    def release():
        lock.release()
        with suppress(OSError):
            path.unlink(missing_ok=True)

    return release


def _do_nothing():
    pass
