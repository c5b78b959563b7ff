# SPDX-License-Identifier: BSD-3-Clause
"""Image files as one array of uint8, read once."""

import math
import os
import shutil
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from PIL import Image, ImageOps, UnidentifiedImageError

from sklearn_scan._sources._formats import find_channel_axis

DEFAULT_IMAGE_SHAPE = (64, 64, 3)

# Of what Pillow reads, that in which people keep pictures; the rest are documents,
# icons, films and the formats of single programs.
_FORMATS = {"AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP"}

# Larger arrays lie in a temporary file.
_MAX_BYTES_IN_MEMORY = 2 * 2**30

_N_NAMED = 5


def list_images(folder):
    """List the image files in a folder and in the folders below it.

    Estimators take the folder as it is. The list serves to take parts of it, as
    `train_test_split` and searches do.

    Parameters
    ----------
    folder : str or os.PathLike
        An existing folder. Files are taken by the ending of their name, in upper or
        lower case: those of the formats AVIF, BMP, GIF, JPEG, JPEG 2000, PNG, PPM, TIFF
        and WebP. Left out are files and folders whose name starts with a dot, and
        folders that are links.

    Returns
    -------
    paths : list of str
        At least one, sorted; each begins with `folder`.

    Raises
    ------
    TypeError
        If `folder` is no path.
    ValueError
        If there is no such folder, or no image file in it.

    Examples
    --------
    >>> import os
    >>> from tempfile import TemporaryDirectory
    >>> from PIL import Image
    >>> from sklearn_scan import list_images
    >>> with TemporaryDirectory() as folder:
    ...     for name in ["b.png", "a.jpg"]:
    ...         Image.new("RGB", (40, 30)).save(os.path.join(folder, name))
    ...     paths = list_images(folder)
    >>> [os.path.basename(path) for path in paths]
    ['a.jpg', 'b.png']
    """
    if not _is_path(folder):
        raise TypeError(
            f"folder is a {type(folder).__name__}, and a path is needed: a str or an "
            "os.PathLike."
        )
    if os.path.isfile(folder):
        raise ValueError(
            f"{os.fspath(folder)!r} is a file, and a folder is needed. Pass the folder "
            "that it lies in, or a list of the paths of files."
        )
    if not os.path.isdir(folder):
        raise ValueError(
            f"There is no folder {os.fspath(folder)!r}. Relative paths start at "
            f"{os.getcwd()!r}."
        )
    root, endings = Path(folder), _endings()
    found = [
        path
        for path in root.rglob("*")
        if path.suffix.lower() in endings
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
        and path.is_file()
    ]
    if not found:
        raise ValueError(
            f"The folder {os.fspath(folder)!r} holds no image file, nor do the folders "
            f"in it: no name ends in {', '.join(sorted(endings))}. Files with other "
            "endings can be passed as a list of their paths."
        )
    return [str(path) for path in sorted(found)]


def find_paths(X):
    """Return the paths of the image files that `X` stands for.

    Parameters
    ----------
    X : object
        What the user passed.

    Returns
    -------
    paths : list of str or None
        Of the files in the folder `X`, or those that the sequence `X` holds. None where
        `X` is neither.

    Raises
    ------
    TypeError, ValueError
        If `X` is no folder with image files in it, is empty, or holds both paths and
        other things.
    """
    if _is_path(X):
        return list_images(X)
    if not _may_hold_paths(X):
        return None
    elements = list(X)
    if not elements:
        raise ValueError("X is empty. Needed are samples, or paths of image files.")
    others = [i for i, element in enumerate(elements) if not _is_path(element)]
    if len(others) == len(elements):
        return None
    if others:
        raise TypeError(
            f"X holds paths of files and other things: X[{others[0]}] is a "
            f"{type(elements[others[0]]).__name__}. Needed are paths only, or arrays "
            "of the same shape only."
        )
    return [str(os.fsdecode(path)) for path in elements]


def read_images(paths, image_shape=DEFAULT_IMAGE_SHAPE):
    """Read image files into one array.

    Pictures are turned as their EXIF orientation says, laid on white where they are
    transparent, converted to gray or RGB, scaled until they fill the frame, and cropped
    around their centre. Of a film the first frame is taken.

    Parameters
    ----------
    paths : list of str
        Files that Pillow can read, with 8 bits per channel.
    image_shape : tuple of int, default=(64, 64, 3)
        (h, w), (h, w, c) or (c, h, w) with 1 or 3 channels.

    Returns
    -------
    images : ndarray or memmap of shape (n_files, *image_shape), dtype uint8
        Above 2 GiB a memmap of a temporary file, which goes when the array goes.

    Raises
    ------
    ValueError
        If a file cannot be read (all that cannot are counted, the first are named),
        `image_shape` has another number of channels, or the disk is too small.

    Examples
    --------
    >>> from tempfile import NamedTemporaryFile
    >>> from PIL import Image
    >>> from sklearn_scan._sources import read_images
    >>> with NamedTemporaryFile(suffix=".png") as file:
    ...     Image.new("RGB", (40, 30), "red").save(file.name)
    ...     read_images([file.name], image_shape=(2, 2, 3))[0, 0, 0].tolist()
    [255, 0, 0]
    """
    shape = tuple(int(side) for side in image_shape)
    _check_channels(shape)
    # Headers first: a bad file among many is found in seconds.
    _refuse_faulty(paths, _faults_of(partial(_check_header, path) for path in paths))
    images = _allocate((len(paths), *shape))
    places = zip(paths, images, strict=True)
    _refuse_faulty(paths, _faults_of(partial(_read_into, *place) for place in places))
    return images


def _is_path(X):
    return isinstance(X, (str, os.PathLike))


def _may_hold_paths(X):
    """Say whether `X` is a list, a tuple, or a 1-d array or Series of text or objects.

    Numbers are left out for speed.
    """
    if isinstance(X, (list, tuple)):
        return True
    kind = getattr(getattr(X, "dtype", None), "kind", None)
    return getattr(X, "ndim", None) == 1 and kind in {"O", "U", "T"}


def _endings():
    formats = Image.registered_extensions()
    return {ending for ending, name in formats.items() if name in _FORMATS}


def _check_channels(shape):
    channel_axis = find_channel_axis(shape)
    n_channels = 1 if channel_axis is None else shape[channel_axis]
    if n_channels not in (1, 3):
        raise ValueError(
            f"image_shape={shape} has {n_channels} channels, and image files are read "
            "with 1 (gray) or 3 (RGB)."
        )


def _allocate(shape):
    n_bytes = math.prod(shape)
    if n_bytes <= _MAX_BYTES_IN_MEMORY:
        return np.empty(shape, dtype=np.uint8)
    folder = tempfile.gettempdir()
    # A full disk would kill the process when it writes to the map.
    n_free = shutil.disk_usage(folder).free
    if n_bytes > n_free:
        raise ValueError(
            f"The images take {n_bytes / 1e9:.1f} GB as an array of shape {shape}, and "
            f"{folder!r} has {n_free / 1e9:.1f} GB left. Name a larger disk in the "
            "environment variable TMPDIR, or choose a smaller image_shape."
        )
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype=np.uint8, mode="w+", shape=shape)


def _faults_of(readings):
    """Run functions in threads; return for each why it failed, or None.

    Pillow decodes without the lock of the interpreter. The threads write to one array,
    so that a user's choice of processes must not hold here.
    """
    return Parallel(n_jobs=-1, require="sharedmem")(
        delayed(_fault_of)(reading) for reading in readings
    )


def _fault_of(reading):
    try:
        reading()
    except UnidentifiedImageError:
        return "no picture that Pillow can read"
    except FileNotFoundError as error:
        is_absolute = os.path.isabs(error.filename)
        return "no such file" if is_absolute else f"no such file in {os.getcwd()}"
    # Decoders raise what occurs to them: SyntaxError, struct.error, zlib.error, ...
    except Exception as error:
        return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _refuse_faulty(paths, faults):
    faulty = [
        f"  {path}: {fault}"
        for path, fault in zip(paths, faults, strict=True)
        if fault is not None
    ]
    if not faulty:
        return
    n_more = len(faulty) - _N_NAMED
    lines = [*faulty[:_N_NAMED], *([f"  and {n_more} more"] if n_more > 0 else [])]
    raise ValueError(
        f"{len(faulty)} of {len(paths)} image files cannot be read:\n"
        + "\n".join(lines)
        + "\nRepair or remove them, or pass a list of the paths of the others; "
        "sklearn_scan.list_images(folder) makes one."
    )


def _check_header(path):
    with Image.open(path) as image:
        # No value of these can be called white: their range is known to the user.
        if image.mode in ("I", "F") or image.mode.startswith("I;"):
            raise ValueError(
                f"more than 8 bits per pixel (mode {image.mode}); read such files into "
                "an array, whose range is then learned"
            )


def _read_into(path, place):
    """Read one file into its place, an array of shape `image_shape`."""
    channel_axis = find_channel_axis(place.shape)
    height, width = place.shape[1:] if channel_axis == 0 else place.shape[:2]
    is_gray = channel_axis is None or place.shape[channel_axis] == 1
    image = _read_image(path, (width, height), "L" if is_gray else "RGB")
    pixels = np.asarray(image)
    if channel_axis == 0 and not is_gray:
        pixels = pixels.transpose(2, 0, 1)
    place[...] = pixels.reshape(place.shape)


def _read_image(path, size, mode):
    with Image.open(path) as image:
        # JPEG files are decoded at the size needed. Twice the size leaves the
        # resampling something to average; square, as the picture may lie on its side.
        image.draft(mode, (2 * max(size), 2 * max(size)))
        image = ImageOps.exif_transpose(image)
        if image.has_transparency_data:
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image.convert("RGBA"))
        return ImageOps.fit(image.convert(mode), size)
