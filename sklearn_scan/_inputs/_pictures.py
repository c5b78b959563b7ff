# SPDX-License-Identifier: BSD-3-Clause
"""Pillow's pictures, from files or from memory, as one array of uint8."""

import math
import os
import shutil
import tempfile
import traceback
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from sklearn_scan._disk import explain_failure
from sklearn_scan._inputs._containers import as_list
from sklearn_scan._inputs._formats import find_channel_axis
from sklearn_scan._settings import get_config

_GRAY_MODES = {"1", "L", "LA", "La"}
_QUARTER_TURNS = {5, 6, 7, 8}  # among the orientations of EXIF

_N_NAMED = 10

_ADVICE = "Convert or remove them."


def find_pictures(X):
    """Return the pictures that the sequence `X` holds, as a list.

    Parameters
    ----------
    X : object
        What the user passed.

    Returns
    -------
    pictures : list of PIL.Image.Image or None
        None where `X` holds no pictures.

    Raises
    ------
    TypeError
        If `X` is one picture, or holds both pictures and other things.
    """
    if isinstance(X, Image.Image):
        raise TypeError("X is one picture. Pass a list of pictures, such as [picture].")
    elements = as_list(X) or []
    others = [i for i, e in enumerate(elements) if not isinstance(e, Image.Image)]
    if len(others) == len(elements):
        return None
    if others:
        raise TypeError(
            f"X holds pictures and other things: X[{others[0]}] is of type "
            f"{type(elements[others[0]]).__name__}. Pass pictures only, or arrays of "
            "the same shape only."
        )
    return elements


def stack_pictures(pictures, image_shape=None):
    """Draw pictures into one array, as `read_images` does with files.

    Parameters
    ----------
    pictures : list of PIL.Image.Image
        With 8 bits per channel. They are not changed.
    image_shape : tuple of int or None, default=None
        (h, w), (h, w, c) or (c, h, w) with 1 or 3 channels. If None, the pictures must
        have the same size, and the array is (h, w) where all of them are gray and
        (h, w, 3) otherwise.

    Returns
    -------
    images : ndarray or memmap of shape (n_pictures, *image_shape), dtype uint8
        Above 2 GiB a memmap of a temporary file, which goes when the array goes.
    """
    names = [f"X[{i}]" for i in range(len(pictures))]
    refuse = partial(refuse_faulty, names, what="pictures", advice=_ADVICE)
    refuse([find_fault(refuse_deep, picture) for picture in pictures])
    images = allocate(
        len(pictures), _common_shape(pictures) if image_shape is None else image_shape
    )
    places = zip(pictures, images, strict=True)
    refuse([find_fault(draw, *place) for place in places])
    return images


def allocate(n_images, image_shape):
    """Return an array for `n_images` of a shape with 1 or 3 channels."""
    image_shape = tuple(int(side) for side in image_shape)
    _check_channels(image_shape)
    shape = (n_images, *image_shape)
    n_bytes = math.prod(shape)
    if n_bytes <= get_config()["in_memory_bytes"]:
        return np.empty(shape, dtype=np.uint8)
    folder = tempfile.gettempdir()
    # A full disk would kill the process when it writes to the map; so the room is also
    # taken before that, lest others take it.
    n_free = shutil.disk_usage(folder).free
    if n_bytes > n_free:
        raise ValueError(
            f"The images take {n_bytes / 1e9:.1f} GB as an array of shape {shape}, and "
            f"{folder!r} has {n_free / 1e9:.1f} GB left. Name a larger disk in the "
            "environment variable TMPDIR, or choose a smaller image_shape."
        )
    try:
        with tempfile.TemporaryFile() as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, n_bytes)
            return np.memmap(file, dtype=np.uint8, mode="w+", shape=shape)
    except OSError as error:
        what = "The environment variable TMPDIR names the folder for decoded images."
        raise explain_failure(error, folder, what) from error


def draw(picture, place, crop=None):
    """Draw a picture into its place, an array of shape `image_shape`.

    Parameters
    ----------
    picture : PIL.Image.Image
        Not changed.
    place : ndarray of shape `image_shape`, dtype uint8
        Written to.
    crop : callable or None, default=None
        Takes an upright picture without transparency, and returns one of the size of
        the place. None to scale it until it fills the place, and crop around its
        centre.
    """
    refuse_deep(picture)
    size, mode = find_frame(place.shape)
    picture = ImageOps.exif_transpose(picture)
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture.convert("RGBA"))
    picture = picture.convert(mode)
    pixels = np.asarray(ImageOps.fit(picture, size) if crop is None else crop(picture))
    if mode == "RGB" and find_channel_axis(place.shape) == 0:
        pixels = pixels.transpose(2, 0, 1)
    place[...] = pixels.reshape(place.shape)


def find_frame(image_shape):
    """Return size and mode of the pictures that fill an array of a shape."""
    channel_axis = find_channel_axis(image_shape)
    height, width = image_shape[1:] if channel_axis == 0 else image_shape[:2]
    is_gray = channel_axis is None or image_shape[channel_axis] == 1
    return (width, height), "L" if is_gray else "RGB"


def refuse_deep(picture):
    """Raise where pixels have more than 8 bits."""
    # No value of these can be called white: their range is known to the user.
    if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
        raise ValueError(
            f"more than 8 bits per pixel (mode {picture.mode}); read such files into "
            "an array, whose range is then learned"
        )


class UnreadableImagesError(ValueError):
    """Images cannot be read; `faults` says of each why, by its name."""

    def __init__(self, message, faults=None):
        super().__init__(message)
        self.faults = faults or {}


@dataclass(frozen=True)
class Fault:
    """Why a picture cannot be read.

    Attributes
    ----------
    reason : str
        For the user.
    lasts : bool
        Whether the same content cannot be read at another time either.
    """

    reason: str
    lasts: bool = False


# Errors whose messages were written for those who read them.
_SPEAKING = (OSError, SyntaxError, MemoryError, Image.DecompressionBombError)


def find_fault(function, *args):
    """Call a function that reads a picture; return the `Fault`, or None."""
    try:
        function(*args)
    except UnidentifiedImageError:
        return Fault("no picture that Pillow can read", lasts=True)
    # Decoders raise what occurs to them: SyntaxError, struct.error, zlib.error, ...
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if not (isinstance(error, _SPEAKING) or _is_ours(error)):
            reason = f"its content is broken ({reason})"
        # What the system says has a number; it may say something else tomorrow.
        lasts = getattr(error, "errno", None) is None
        return Fault(reason, lasts and not isinstance(error, MemoryError))


def _is_ours(error):
    """Return whether an error was raised by this package."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_globals["__name__"].startswith(__package__)


def refuse_faulty(names, faults, *, what, advice):
    """Raise where pictures cannot be read, count them and name the first.

    Parameters
    ----------
    names : list of str
    faults : list of Fault or None
        Of each.
    what, advice : str
        What they are, and what to do.
    """
    reasons = {
        name: fault.reason
        for name, fault in zip(names, faults, strict=True)
        if fault is not None
    }
    if reasons:
        rest = "`faults` of this error"
        said = describe_faults(reasons, len(names), what, rest)
        raise UnreadableImagesError(f"{said}\n{advice}", reasons)


def describe_faults(reasons, n_given, what, rest):
    """Return text that counts pictures that cannot be read, and names the first.

    Parameters
    ----------
    reasons : dict of str
        Why, by name.
    n_given : int
        How many there are in all.
    what, rest : str
        What they are, and where all of them are listed.
    """
    lines = [f"  {name}: {reason}" for name, reason in reasons.items()]
    n_more = len(lines) - _N_NAMED
    if n_more > 0:
        lines[_N_NAMED:] = [f"  and {n_more} more; {rest} has all"]
    return "\n".join([f"{len(reasons)} of {n_given} {what} cannot be read:", *lines])


def _common_shape(pictures):
    sizes = [_upright_size(picture) for picture in pictures]
    other = next((i for i, size in enumerate(sizes) if size != sizes[0]), None)
    if other is not None:
        raise ValueError(
            f"X holds pictures of {len(set(sizes))} sizes: X[0] is "
            f"{' x '.join(map(str, sizes[0]))} pixels, and X[{other}] is "
            f"{' x '.join(map(str, sizes[other]))}. Give image_shape, such as "
            "(64, 64, 3), to which they are then scaled and cropped."
        )
    width, height = sizes[0]
    are_gray = all(picture.mode in _GRAY_MODES for picture in pictures)
    return (height, width) if are_gray else (height, width, 3)


def _upright_size(picture):
    orientation = picture.getexif().get(ExifTags.Base.Orientation)
    return picture.size[::-1] if orientation in _QUARTER_TURNS else picture.size


def _check_channels(image_shape):
    channel_axis = find_channel_axis(image_shape)
    n_channels = 1 if channel_axis is None else image_shape[channel_axis]
    if n_channels not in (1, 3):
        raise ValueError(
            f"image_shape={image_shape} has {n_channels} channels, and pictures "
            "are read with 1 (gray) or 3 (RGB)."
        )
