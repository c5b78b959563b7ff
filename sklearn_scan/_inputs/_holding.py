# SPDX-License-Identifier: BSD-3-Clause
"""Where decoded images are held while they are looked at many times.

In memory where they fit; else on disk, in the folder of the cache, where later fits and
other folds find each image again by its content; and where even that is too small,
nowhere: they are decoded each time.
"""

import hashlib
import shutil
import tempfile
from numbers import Integral
from pathlib import Path

import numpy as np

from sklearn_scan._console import SILENT
from sklearn_scan._disk import FileDigests, Table, hold
from sklearn_scan._inputs._files import check_files
from sklearn_scan._inputs._lazy import LazyImages
from sklearn_scan._inputs._pictures import allocate
from sklearn_scan._settings import get_config
from sklearn_scan._warnings import warn_user

# Images that are decoded before they are written together.
_CHUNK = 256
# Of what is free; a disk that is full does harm to others.
_SHARE_OF_DISK = 0.95


def hold_images(images, folder=None, console=SILENT):
    """Return lazy images as an array, or as what is indexed like one.

    Parameters
    ----------
    images : LazyImages
        What is to be looked at many times.
    folder : Path or None, default=None
        Of the cache. None to use a temporary file, which goes with the array.
    console : Console, default=SILENT
        Told how many are decoded.

    Returns
    -------
    images : ndarray, memmap, StoredImages or LazyImages
        The last after a warning, where there is no room.
    """
    if images.nbytes <= get_config()["in_memory_bytes"]:
        return _decode(images, console)
    if folder is not None:
        return PixelStore(folder, images.preparation).complete(images, console)
    if _has_room(images.nbytes, tempfile.gettempdir()):
        return _decode(images, console)
    return _explain_lazy(images, tempfile.gettempdir())


def _decode(images, console):
    """Decode images into memory, or into a temporary file where they are many."""
    everything = range(len(images))
    with console.line("decoding", len(images), "image") as line:
        images.check(everything)
        place = allocate(len(images), images.shape[1:])
        images.read_into(place, everything, line.track)
    return place


def _has_room(n_bytes, folder, n_there=0):
    """Say whether there is room for bytes beside those that are there."""
    place, most = Path(folder), get_config()["decoded_bytes"]
    while not place.exists():
        place = place.parent
    is_allowed = most is None or n_there + n_bytes <= most
    return is_allowed and n_bytes <= _SHARE_OF_DISK * shutil.disk_usage(place).free


def _explain_lazy(images, folder):
    warn_user(
        f"The images take {images.nbytes / 1e9:.1f} GB when they are decoded, for "
        f"which there is no room in {str(folder)!r}. They are decoded anew each time "
        "that they are looked at, which is slow. Choose a smaller image_shape or a "
        "memory= on a larger disk; make room by deleting what is in it; or allow more "
        "by sklearn_scan.set_config(decoded_bytes=...)."
    )
    return images


def find_digests(images, folder):
    """Return what each of some samples is known by: a hash of its content.

    Parameters
    ----------
    images : ndarray, StoredImages or LazyImages
        Checked samples.
    folder : Path
        Of the cache. Files that have not changed since it knows them are not read.
    """
    if not isinstance(images, LazyImages):
        return [_digest_row(images[i]) for i in range(len(images))]
    if images.paths is None:
        return [images.digest(i) for i in range(len(images))]
    check_files(images.paths)
    return FileDigests(folder).find(images.paths)


def find_missing(digests, found):
    """Return the places of what is not found yet; of equal digests, of the first."""
    first = {digest: i for i, digest in reversed(list(enumerate(digests)))}
    return np.array(sorted(i for d, i in first.items() if d not in found), dtype=int)


def _digest_row(row):
    name = repr((row.shape, row.dtype.str)).encode()
    content = np.ascontiguousarray(row).tobytes()
    return hashlib.blake2b(name + content, digest_size=16).digest()


class PixelStore:
    """Decoded images in one file, each once, by the digest of what it was decoded from.

    Parameters
    ----------
    folder : Path
        Of the cache.
    preparation : Preparation
        Of the images: there is one file for each.
    """

    def __init__(self, folder, preparation):
        self.folder = Path(folder)
        name = hashlib.blake2b(preparation.describe().encode(), digest_size=8)
        path = self.folder / "sklearn_scan_pixels" / f"{name.hexdigest()}.sqlite"
        self.table = Table(path, "slots", ("digest BLOB", "slot INTEGER"))
        self.pixels = path.with_suffix(".pixels")

    def complete(self, images, console=SILENT):
        """Decode the images that are not there; return all of them.

        Parameters
        ----------
        images : LazyImages
            Files or pictures.
        console : Console, default=SILENT
            Told how many are decoded, and how many were there.

        Returns
        -------
        images : StoredImages or LazyImages
            The latter after a warning, where there is no room for them.
        """
        with hold(self.table.path.with_suffix(".lock")):
            self._forget_damaged(images[:1].nbytes)
            digests = find_digests(images, self.folder)
            slots = self.table.select(set(digests))
            missing = find_missing(digests, slots)
            images.check(missing)
            n_there = self._n_bytes()
            if not _has_room(len(missing) * images[:1].nbytes, self.folder, n_there):
                return _explain_lazy(images, self.folder)
            if len(missing) < len(images):
                console.say_cached(len(images) - len(missing), len(images))
            if len(missing):
                slots |= self._decode(images, missing, digests, console)
        content = hashlib.blake2b(b"".join(digests), digest_size=16).hexdigest()
        places = np.array([slots[digest][0] for digest in digests])
        return StoredImages(
            self.pixels, images.shape[1:], places, content, len(missing)
        )

    def _decode(self, images, indices, digests, console):
        """Decode the images at `indices`, and write them; return their slots."""
        slots = {}
        with console.line("decoding", len(indices), "image") as line:
            for start in range(0, len(indices), _CHUNK):
                part = indices[start : start + _CHUNK]
                slots |= self._add(images[part], [digests[i] for i in part])
                line.advance(start + len(part))
        return slots

    def _n_bytes(self):
        return self.pixels.stat().st_size if self.pixels.exists() else 0

    def _forget_damaged(self, n_bytes):
        """Begin anew where the file is shorter than the table says, or gone."""
        if self._n_bytes() < self.table.count() * n_bytes:
            self.table.clear()

    def _add(self, images, digests):
        """Write images behind those that are there; return their slots."""
        n_before = self.table.count()
        self.table.path.parent.mkdir(parents=True, exist_ok=True)
        # What an interrupted run has written after the last slot is written over.
        with open(self.pixels, "r+b" if self.pixels.exists() else "wb") as file:
            file.seek(n_before * images[0].nbytes)
            file.write(images.tobytes())
        entries = [(digest, n_before + k) for k, digest in enumerate(digests)]
        self.table.insert(entries)
        return {digest: (slot,) for digest, slot in entries}


class StoredImages:
    """Images in a file of a `PixelStore`, indexed like an array.

    A slice gives another sequence; integers, and arrays of them, give arrays.

    Parameters
    ----------
    path : Path
        Of the file.
    image_shape : tuple of int
        Of one image.
    slots : ndarray of shape (n_images,)
        Where each image lies in the file.
    content : str
        A hash of all images, by which they are known to caches of what they become.
    n_decoded : int
        How many of them were decoded just now; the others were in the file.
    """

    dtype = np.dtype(np.uint8)
    ndim = property(lambda self: len(self.shape))
    size = property(lambda self: int(np.prod(self.shape)))
    nbytes = size

    def __init__(self, path, image_shape, slots, content, n_decoded=0):
        self.path = path
        self.image_shape = tuple(image_shape)
        self.slots = slots
        self.content = content
        self.n_decoded = n_decoded

    @property
    def shape(self):
        """Shape of the array that all images would make."""
        return (len(self.slots), *self.image_shape)

    def __len__(self):
        return len(self.slots)

    def __getitem__(self, key):
        if isinstance(key, slice):
            return StoredImages(
                self.path, self.image_shape, self.slots[key], f"{self.content} {key}"
            )
        if isinstance(key, Integral):
            return self[np.array([key])][0]
        slots = self.slots[key]
        images = np.empty((len(slots), *self.image_shape), dtype=self.dtype)
        n_bytes = int(np.prod(self.image_shape))
        # Not as a memmap: what it has touched counts as memory of the process, and
        # large pages around it as well.
        with open(self.path, "rb", buffering=0) as file:
            for image, slot in zip(images, slots, strict=True):
                file.seek(int(slot) * n_bytes)
                if file.readinto(image.data) < n_bytes:
                    raise OSError(
                        f"The cache {str(self.path)!r} has become shorter than it was. "
                        "Fit again, and its images are decoded anew."
                    )
        return images

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self[np.arange(len(self))], dtype=dtype)

    def __getstate__(self):
        # How many were decoded is no part of what a cache knows them by.
        return vars(self) | {"n_decoded": 0}
