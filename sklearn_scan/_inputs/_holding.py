# SPDX-License-Identifier: BSD-3-Clause
"""Where decoded images are held while they are looked at many times.

In memory where they fit; else on disk, in the folder of the cache, where later fits and
other folds find each image again by its content; and where even that is too small,
nowhere: they are decoded each time.
"""

import hashlib
import os
import shutil
import tempfile
import zlib
from numbers import Integral
from pathlib import Path

import numpy as np

from sklearn_scan._console import SILENT
from sklearn_scan._disk import FileDigests, Table, explain_failure, hold
from sklearn_scan._inputs._files import check_contents, check_files
from sklearn_scan._inputs._lazy import LazyImages
from sklearn_scan._inputs._pictures import allocate
from sklearn_scan._inputs._skipping import KnownFaults
from sklearn_scan._settings import get_config
from sklearn_scan._warnings import warn_user

# Images that are decoded before they are written together.
_CHUNK = 256
# Samples by which others are told.
_N_TOLD_BY = 64
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
        Those that can be decoded; as LazyImages after a warning, where there is no
        room.
    faults : list of Fault or None
        Of each.
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
        place = allocate(len(images), images.shape[1:])
        faults = images.read_into(place, everything, line.track)
    # In place: it may be larger than memory.
    kept = [i for i in everything if faults[i] is None]
    for k, i in enumerate(kept):
        if k < i:
            place[k] = place[i]
    return (place if len(kept) == len(images) else place[: len(kept)]), faults


def check_images(images, folder=None, console=SILENT):
    """Return the faults of images that are decoded later, and each time anew.

    Parameters
    ----------
    images : LazyImages
        Of files.
    folder : Path or None, default=None
        Of the cache, which knows files that were decoded before.
    console : Console, default=SILENT
        Told how many are decoded.

    Returns
    -------
    faults : list of Fault or None
        Of each.
    """
    faults = images.find_faults(range(len(images)), check_files)
    left = [i for i, fault in enumerate(faults) if fault is None]
    known = {}
    if folder is not None:
        digests = dict(zip(left, find_digests(images.take(left), folder), strict=True))
        known = KnownFaults(folder).find(set(digests.values()))
    unknown = [i for i in left if folder is None or digests[i] not in known]
    found = []
    if unknown:
        with console.line("checking", len(unknown), "image") as line:
            found = images.find_faults(unknown, check_contents, line.track)
        if folder is not None:
            KnownFaults(folder).keep([digests[i] for i in unknown], found)
    found = dict(zip(unknown, found, strict=True))
    for i in left:
        faults[i] = found[i] if i in found else known[digests[i]]
    return faults


def _has_room(n_bytes, folder, n_there=0):
    """Say whether there is room for bytes beside those that are there."""
    place, most = Path(folder), get_config()["decoded_bytes"]
    while not place.exists():
        place = place.parent
    is_allowed = most is None or n_there + n_bytes <= most
    return is_allowed and n_bytes <= _SHARE_OF_DISK * shutil.disk_usage(place).free


def _explain_lazy(images, folder, cache=None):
    warn_user(
        f"The images take {images.nbytes / 1e9:.1f} GB when they are decoded, for "
        f"which there is no room in {str(folder)!r}. They are decoded anew each time "
        "that they are looked at, which is slow. Choose a smaller image_shape or a "
        "memory= on a larger disk; make room by deleting what is in it; or allow more "
        "by sklearn_scan.set_config(decoded_bytes=...)."
    )
    if images.paths is None:
        faults = images.find_faults(range(len(images)), None)
    else:
        faults = check_images(images, cache)
    kept = [i for i, fault in enumerate(faults) if fault is None]
    return images.take(kept), faults


def digest_some(samples):
    """Return a hash of a few of the samples, by which other samples are told."""
    paths = getattr(samples, "paths", None)
    digest = hashlib.blake2b(repr((samples.shape, paths)).encode())
    if paths is None:
        places = np.unique(np.linspace(0, len(samples) - 1, _N_TOLD_BY).astype(int))
        digest.update(np.ascontiguousarray(samples[places]).data)
    return digest.hexdigest()


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
    images.refuse(range(len(images)), check_files(images.paths))
    images.note_statuses()
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
        self.table = _open_slots(path)
        self.faults = KnownFaults(self.folder, preparation.describe())
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
            Those that can be decoded; the latter after a warning, where there is no
            room for them.
        faults : list of Fault or None
            Of each.
        """
        every = range(len(images))
        faults = [None for _ in every]
        if images.paths is not None:
            faults = images.find_faults(every, check_files)
        left = [i for i in every if faults[i] is None]
        images = images.take(left)
        if left:
            held, found = self._complete(images, console)
        else:
            held, found = images, []
        for i, fault in zip(left, found, strict=True):
            faults[i] = fault
        return held, faults

    def _complete(self, images, console):
        n_bytes = int(np.prod(images.shape[1:]))
        with hold(self.table.lock):
            self._forget_damaged(n_bytes)
            digests = find_digests(images, self.folder)
            slots = self.table.select(set(digests))
            known = self.faults.find(set(digests) - slots.keys())
            known = {digest: fault for digest, fault in known.items() if fault}
            missing = find_missing(digests, slots | known)
            n_there = self._n_bytes()
            if not _has_room(len(missing) * n_bytes, self.folder, n_there):
                return _explain_lazy(images, self.folder, self.folder)
            if len(missing) < len(images):
                console.say_cached(len(images) - len(missing), len(images))
            if len(missing):
                found = self._decode(images, missing, digests, console)
                slots |= found[0]
                known |= found[1]
        faults = [known.get(digest) for digest in digests]
        digests = [digest for digest in digests if digest not in known]
        content = hashlib.blake2b(b"".join(digests), digest_size=16).hexdigest()
        places = np.array([slots[digest] for digest in digests]).reshape(-1, 2)
        n_decoded = len(missing)
        held = StoredImages(self.pixels, images.shape[1:], places, content, n_decoded)
        return held, faults

    def _decode(self, images, indices, digests, console):
        """Decode the images at `indices`, and write them.

        Returns
        -------
        slots : dict of tuple
            Where they are, by digest.
        faults : dict of Fault
            Of those that cannot be decoded, by digest.
        """
        slots, faults, n_there = {}, {}, self._n_slots()
        place = np.empty((_CHUNK, *images.shape[1:]), dtype=images.dtype)
        with console.line("decoding", len(indices), "image") as line:
            for start in range(0, len(indices), _CHUNK):
                part = indices[start : start + _CHUNK]
                names = [digests[i] for i in part]
                found = images.read_into(place[: len(part)], part)
                kept = [k for k, fault in enumerate(found) if fault is None]
                slots |= self._add(place[kept], [names[k] for k in kept], n_there)
                n_there += len(kept)
                bad = [k for k, fault in enumerate(found) if fault is not None]
                faults |= {names[k]: found[k] for k in bad}
                self.faults.keep([names[k] for k in bad], [found[k] for k in bad])
                line.advance(start + len(part))
        return slots, faults

    def _n_bytes(self):
        return self.pixels.stat().st_size if self.pixels.exists() else 0

    def _forget_damaged(self, n_bytes):
        """Begin anew where the file is shorter than the table says, or gone."""
        if self._n_bytes() < self._n_slots() * n_bytes:
            self.table.clear()

    def _add(self, images, digests, n_before):
        """Write images behind the first so many; return their entries."""
        if not len(images):
            return {}
        # What an interrupted run has written after the last slot is written over.
        try:
            self.table.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.pixels, "r+b" if self.pixels.exists() else "wb") as file:
                file.seek(n_before * images[0].nbytes)
                file.write(images.tobytes())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            what = "It is for decoded images, of which those are kept that are written."
            raise explain_failure(error, self.pixels, what) from error
        checksums = [zlib.crc32(image) for image in images]
        entries = {
            digest: (n_before + k, checksum)
            for k, (digest, checksum) in enumerate(zip(digests, checksums, strict=True))
        }
        self.table.insert((digest, *entry) for digest, entry in entries.items())
        return entries

    def _n_slots(self):
        last = self.table.largest("slot")
        return 0 if last is None else last + 1


def _open_slots(path):
    """Return the table that says where images are in the file beside it."""
    columns = ("digest BLOB", "slot INTEGER", "checksum INTEGER")
    return Table(path, "checked_slots", columns)


class StoredImages:
    """Images in a file of a `PixelStore`, indexed like an array.

    A slice gives another sequence; integers, and arrays of them, give arrays.

    Parameters
    ----------
    path : Path
        Of the file.
    image_shape : tuple of int
        Of one image.
    slots : ndarray of shape (n_images, 2)
        Where each image lies in the file, and its checksum.
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
            for image, (slot, checksum) in zip(images, slots.tolist(), strict=True):
                file.seek(slot * n_bytes)
                n_read = file.readinto(image.data)
                if n_read < n_bytes or zlib.crc32(image) != checksum:
                    self._refuse_damaged(slot)
        return images

    def _refuse_damaged(self, slot):
        _open_slots(self.path.with_suffix(".sqlite")).delete("slot", slot)
        raise OSError(
            f"The cache {str(self.path)!r} is damaged: an image in it is not what was "
            "decoded. Fit again, and it is decoded anew."
        )

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self[np.arange(len(self))], dtype=dtype)

    def __getstate__(self):
        # How many were decoded is no part of what a cache knows them by.
        return vars(self) | {"n_decoded": 0}
