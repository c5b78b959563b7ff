# SPDX-License-Identifier: BSD-3-Clause
"""Lock files that leave nothing behind."""

import os
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def hold(path):
    """Hold a lock file, between processes and between threads; delete it afterwards.

    A lock saves work that would be done twice, and no more: where the file system has
    none, the work goes on without.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    acquire = _acquire if fcntl is not None else _acquire_elsewhere
    release = acquire(path)
    try:
        yield
    finally:
        release()


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
    # Closing is not enough: a process that was forked meanwhile has it open as well.
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
