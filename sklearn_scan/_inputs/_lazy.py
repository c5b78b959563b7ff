# SPDX-License-Identifier: BSD-3-Clause
"""Images that are decoded when they are asked for, at the size an encoder reads."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral

import numpy as np
from PIL import ExifTags, Image

from sklearn_scan._inputs._files import (
    DEFAULT_IMAGE_SHAPE,
    check_contents,
    check_headers,
    draw_files,
    find_changed,
    get_status,
    refuse_files,
)
from sklearn_scan._inputs._formats import ImageFormat, find_channel_axis
from sklearn_scan._inputs._pictures import draw, find_fault, refuse_deep, refuse_faulty

# Images that are decoded together while all are looked at in order.
_CHUNK = 64


@dataclass(frozen=True)
class Preparation:
    """How pictures of any size become what an encoder reads.

    Attributes
    ----------
    image_shape : tuple of int, default=(64, 64, 3)
        (h, w), (h, w, c) or (c, h, w) with 1 or 3 channels.
    crop : callable or None, default=None
        From an upright picture to one of that size; see `draw`.
    mean, std : tuple of float or None, default=None
        Per channel, of values from 0 to 1, as the encoder expects them taken off. None
        for those of the images.
    name : str, default=""
        What the crop is known by, in this process and in later ones.
    """

    image_shape: tuple = DEFAULT_IMAGE_SHAPE
    crop: Callable | None = None
    mean: tuple | None = None
    std: tuple | None = None
    name: str = ""

    def describe(self):
        """Return what the pixels of prepared images depend on, as text."""
        return f"{tuple(self.image_shape)} {self.name}"

    def find_format(self, images):
        """Return the format of the images once they are prepared."""
        if self.mean is None or self.std is None:
            return ImageFormat.learn(images)
        shape = tuple(self.image_shape)
        axis = find_channel_axis(shape)
        return ImageFormat(shape, axis, 0.0, 255.0, tuple(self.mean), tuple(self.std))


class LazyImages:
    """A sequence of images that are prepared each time they are indexed.

    It has the shape of the array that all of them would make, and an index of integers
    gives a part of this array. A slice gives another sequence.

    Parameters
    ----------
    items : list of str, list of PIL.Image.Image or ndarray
        Paths of files; pictures; or images of shape (n, h, w), (n, h, w, c) or
        (n, c, h, w).
    preparation : Preparation
        What is done with each.
    pixels : ImageFormat or None, default=None
        How an array is read.
    """

    dtype = np.dtype(np.uint8)
    ndim = property(lambda self: len(self.shape))
    size = property(lambda self: int(np.prod(self.shape)))
    nbytes = size

    def __init__(self, items, preparation, pixels=None):
        self.items = items
        self.preparation = preparation
        self.pixels = pixels
        # Of the files, when their content was digested.
        self.statuses = None

    @property
    def shape(self):
        """Shape of the array that all images would make."""
        return (len(self.items), *self.preparation.image_shape)

    @property
    def paths(self):
        """The files; None where images are in memory."""
        are_paths = len(self.items) > 0 and isinstance(self.items[0], str)
        return self.items if are_paths else None

    def __len__(self):
        return len(self.items)

    def __iter__(self):
        for start in range(0, len(self), _CHUNK):
            yield from self[np.arange(start, min(start + _CHUNK, len(self)))]

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self[np.arange(len(self))], dtype=dtype)

    def __getitem__(self, key):
        if isinstance(key, slice):
            items = self.items[key]
            return type(self)(items, self.preparation, self.pixels)
        if isinstance(key, Integral):
            return self[np.array([key])][0]
        images = np.empty((len(key), *self.shape[1:]), dtype=self.dtype)
        self.refuse(key, self.read_into(images, key))
        return images

    def take(self, indices):
        """Return the images at `indices` as another sequence."""
        if isinstance(self.items, np.ndarray):
            return type(self)(self.items[indices], self.preparation, self.pixels)
        items = [self.items[i] for i in indices]
        return type(self)(items, self.preparation, self.pixels)

    def read_into(self, images, indices, track=iter):
        """Decode the images at `indices` into the rows of an array.

        `track` is given an iterator, and returns one that counts what it yields.

        Returns
        -------
        faults : list of Fault or None
            Of each, where it cannot be decoded.
        """
        crop = self.preparation.crop
        if self.paths is None:
            places = zip(map(self._open, indices), images, strict=True)
            return list(track(find_fault(draw, *place, crop) for place in places))
        paths = [self.paths[i] for i in indices]
        faults = draw_files(paths, images, crop, track)
        if self.statuses is None:
            return faults
        statuses = [self.statuses[i] for i in indices]
        changed = find_changed(paths, statuses)
        return [b or a for a, b in zip(faults, changed, strict=True)]

    def note_statuses(self):
        """Remember the files as they are; a later change is a fault."""
        self.statuses = [get_status(path) for path in self.paths]

    def find_faults(self, indices, check, track=iter):
        """Return the faults of images, of files by one of the functions `check_...`."""
        if self.paths is not None:
            paths = [self.paths[i] for i in indices]
            more = {} if track is iter else {"track": track}
            return check(paths, **more)
        return [find_fault(self._check_picture, i) for i in indices]

    def refuse(self, indices, faults):
        """Raise where images at `indices` have faults."""
        if self.paths is not None:
            refuse_files([self.paths[i] for i in indices], faults)
            return
        names = [f"X[{i}]" for i in indices]
        refuse_faulty(names, faults, what="pictures", advice="Convert or remove them.")

    def check(self, indices):
        """Raise, early, where images at `indices` cannot be decoded.

        The beginnings of files are looked at, and their contents where one is faulty.
        """
        if any(self.find_faults(indices, check_headers)):
            self.check_contents(indices)

    def check_contents(self, indices):
        """Raise where images cannot be decoded to their end, and name all."""
        self.refuse(indices, self.find_faults(indices, check_contents))

    def digest(self, index):
        """Return a hash of an image in memory, before it is prepared."""
        picture = self._open(index)
        found = hashlib.blake2b(digest_size=16)
        found.update(repr(_describe(picture)).encode())
        found.update(picture.tobytes())
        return found.digest()

    def __getstate__(self):
        # By which caches know them: files that were changed are others.
        seen = [get_status(path) for path in self.paths or ()]
        return vars(self) | {"statuses": seen}

    def _check_picture(self, index):
        if self.pixels is None:
            refuse_deep(self.items[index])

    def _open(self, index):
        """Return an image that is in memory as a picture."""
        item = self.items[index]
        if self.pixels is None:
            return item
        low, high = self.pixels.low, self.pixels.high
        if item.dtype != np.uint8:
            values = (np.asarray(item, np.float32) - low) * (255 / (high - low))
            item = values.clip(0, 255).round().astype(np.uint8)
        if self.pixels.channel_axis == 0:
            item = item.transpose(1, 2, 0)
        if item.ndim == 3 and item.shape[2] == 1:
            item = item[..., 0]
        return Image.fromarray(np.ascontiguousarray(item))


def _describe(picture):
    """Return what a picture looks like, besides its pixels."""
    picture.load()  # or some have no palette yet
    palette = picture.palette and (picture.palette.mode, picture.getpalette("RGBA"))
    orientation = picture.getexif().get(ExifTags.Base.Orientation)
    transparency = picture.info.get("transparency")
    return picture.mode, picture.size, palette, transparency, orientation
