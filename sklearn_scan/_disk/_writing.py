# SPDX-License-Identifier: BSD-3-Clause
"""Files that are whole or not there, whatever ends the process that writes them."""

import errno
import hashlib
import os
import secrets
from contextlib import contextmanager, suppress
from pathlib import Path

from sklearn_scan._disk._lock import keep_claim, sweep

#: How names end of files that are being written. What a process leaves behind that was
#: killed is deleted by the next that writes into the folder.
PART = ".scan-part"

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}

# Before content that is checked when it is read: a name, then the digest.
_HEAD = b"sklearn_scan checked 1\n"
_DIGEST_SIZE = 32


class DamagedFileError(ValueError):
    """The content of a file is not what was written."""


#: What has become of earlier work where something cannot be written.
_UNCHANGED = "What was there before is as it was."


@contextmanager
def whole_file(path, what=_UNCHANGED, *, is_synced=True):
    """Yield where to write a file; it takes its place when all of it is on the disk.

    Until then a file of this name stays as it is, also where the process is killed or
    the disk is full.

    Parameters
    ----------
    path : str or PathLike
        A file of this name is replaced. Where it is a link, the link is.
    what : str
        What has become of earlier work, for the error.
    is_synced : bool, default=True
        Whether to wait until the content is on the disk. Without, a power cut may leave
        a damaged file; nothing else can.

    Raises
    ------
    OSError
        Says what could not be written, where, why, and what to do.
    """
    path = Path(path)
    try:
        with _claimed_part(path.parent) as part:
            yield part
            if is_synced:
                sync(part)
            os.replace(part, path)
            if is_synced:
                with suppress(OSError):  # not all file systems have this
                    sync(path.parent)
    except OSError as error:
        raise explain_failure(error, path, what) from error


def write_checked(path, content, what=_UNCHANGED, *, is_synced=True):
    """Write bytes, so that `read_checked` sees whether they were damaged."""
    with whole_file(path, what, is_synced=is_synced) as part, open(part, "wb") as file:
        file.write(_HEAD + _digest(content))
        file.write(content)


def read_checked(path):
    """Return the bytes that `write_checked` wrote.

    Raises
    ------
    DamagedFileError
        If they are others.
    OSError
        If the file cannot be read.
    """
    written = memoryview(Path(path).read_bytes())
    n_head = len(_HEAD) + _DIGEST_SIZE
    content = written[n_head:]
    if bytes(written[:n_head]) != _HEAD + _digest(content):
        raise DamagedFileError("its content does not agree with its checksum")
    return content


def explain_failure(error, path, what):
    """Return an OSError as one that says what to do.

    Parameters
    ----------
    error : OSError
        Of writing.
    path : str or PathLike
        What was to be written.
    what : str
        A last sentence: what it is, or what has become of earlier work.
    """
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno in _FULL:
        advice = "Make room on that disk, or choose a folder on another one."
    elif error.errno in _FORBIDDEN:
        advice = "Choose a folder that you may write to, or allow it."
    else:
        advice = "Choose another folder."
    # Those of other libraries may need other arguments.
    kind = type(error) if type(error).__module__ == "builtins" else OSError
    explained = kind(f"Cannot write {os.fspath(path)!r}: {reason}. {advice} {what}")
    explained.errno = error.errno
    return explained


def check_writable(folder, what):
    """Make a folder, and raise where nothing can be written there.

    Before hours of work, and not after them.

    Parameters
    ----------
    folder : str or PathLike
    what : str
        What the folder is for.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with _claimed_part(Path(folder)):
            pass
    except OSError as error:
        raise explain_failure(error, folder, what) from error


@contextmanager
def _claimed_part(folder):
    """Yield the path of a new file, which is deleted if it is still there afterwards.

    It is locked: so others see that its process is alive.
    """
    sweep(folder, f".*{PART}")
    part, release = None, None
    while release is None:  # another process may sweep what is not locked yet
        # Not named after the file, whose name may be as long as names can be.
        part = folder / f".{secrets.token_hex(8)}{PART}"
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        release = keep_claim(part, descriptor)
    try:
        yield part
    finally:
        # Windows deletes no file that is open.
        if os.name == "nt":
            release()
        with suppress(OSError):
            part.unlink(missing_ok=True)
        if os.name != "nt":
            release()


def sync(path):
    """Wait until a file, or the list of a folder, is on the disk."""
    is_folder = os.path.isdir(path)
    # Windows writes back what was opened for writing alone, and no folders.
    descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(content):
    return hashlib.blake2b(content, digest_size=_DIGEST_SIZE).digest()
