# SPDX-License-Identifier: BSD-3-Clause
"""Image files: which there are, and their pictures as arrays of uint8."""

import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from joblib import cpu_count
from PIL import Image

from sklearn_scan._console import SILENT
from sklearn_scan._inputs._containers import as_list
from sklearn_scan._inputs._pictures import (
    Fault,
    allocate,
    describe_faults,
    draw,
    find_fault,
    find_frame,
    refuse_deep,
    refuse_faulty,
)
from sklearn_scan._typing import PathLike
from sklearn_scan._warnings import warn_user

DEFAULT_IMAGE_SHAPE = (64, 64, 3)

# Of what Pillow reads, that in which people keep pictures; the rest are documents,
# icons, films and the formats of single programs.
_FORMATS = {"AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP"}

_WHAT = "image files"
_ADVICE = (
    'Repair or remove them, pass on_error="skip", or pass a list of the paths of the '
    "others; sklearn_scan.list_images(folder) makes one."
)
_CHANGED = Fault("it was changed while it was read")


_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def list_images(folder: PathLike) -> list[str]:
    """List the image files in a folder and in the folders below it.

    Estimators take the folder as it is. The list serves to take parts of it, as
    `train_test_split` and searches do.

    Parameters
    ----------
    folder : str or os.PathLike
        An existing folder. Files are taken by the ending of their name, in upper or
        lower case: those of the formats AVIF, BMP, GIF, JPEG, JPEG 2000, PNG, PPM, TIFF
        and WebP. Left out are files and folders whose name starts with a dot, and
        folders that are links. Broken links are listed, and so is what is neither a
        file nor a folder, so that whoever reads them is told.

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
        and not path.is_dir()
    ]
    if not found:
        raise ValueError(
            f"The folder {os.fspath(folder)!r} holds no image file, nor do the folders "
            f"in it: no name ends in {', '.join(sorted(endings))}. Files with other "
            "endings can be passed as a list of their paths."
        )
    return [str(path) for path in sorted(found)]


def find_folder(X):
    """Return the folder that `X` is; None where it is something else."""
    return X if _is_path(X) else None


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
    elements = as_list(X)
    if elements is None:
        return None
    if not elements:
        raise ValueError("X is empty. Pass samples, or paths of image files.")
    others = [i for i, element in enumerate(elements) if not _is_path(element)]
    if len(others) == len(elements):
        return None
    if others:
        raise TypeError(
            f"X holds paths of files and other things: X[{others[0]}] is of type "
            f"{type(elements[others[0]]).__name__}. Pass paths only, or arrays of the "
            "same shape only."
        )
    return [str(os.fsdecode(path)) for path in elements]


def read_images(paths, image_shape=DEFAULT_IMAGE_SHAPE, console=SILENT):
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
    console : Console, default=SILENT
        Told how many are read.

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
    >>> from sklearn_scan._inputs import read_images
    >>> with NamedTemporaryFile(suffix=".png") as file:
    ...     Image.new("RGB", (40, 30), "red").save(file.name)
    ...     read_images([file.name], image_shape=(2, 2, 3))[0, 0, 0].tolist()
    [255, 0, 0]
    """
    images = allocate(len(paths), image_shape)
    with console.line("decoding", len(paths), "image") as line:
        refuse_files(paths, draw_files(paths, images, track=line.track))
    return images


def check_files(paths):
    """Return for each path the `Fault`, if there is no file; None if there is one."""
    return [find_fault(_check_file, path) for path in paths]


def check_headers(paths):
    """Return for each file the `Fault`, if its beginning is not that of a picture."""
    return _faults_of(partial(_check_header, path) for path in paths)


def check_contents(paths, track=iter):
    """Return for each file the `Fault`, if it cannot be decoded to its end."""
    return _faults_of((partial(_check_content, path) for path in paths), track)


def check_links(paths, folder):
    """Return for each path the `Fault`, if it is a link that leaves a folder.

    Whoever lists the files of a folder does not mean those that others link there.
    """
    root = os.path.realpath(folder)
    return [_find_leaving(path, root) for path in paths]


def draw_files(paths, images, crop=None, track=iter):
    """Draw the pictures of files into the rows of an array, in threads; see `draw`.

    `track` is given an iterator, and returns one that counts what it yields. Returned
    is for each file the `Fault`, or None.
    """
    places = zip(paths, images, strict=True)
    return _faults_of((partial(_read_into, *place, crop) for place in places), track)


#: Raise where files cannot be read, given their paths and their faults.
refuse_files = partial(refuse_faulty, what=_WHAT, advice=_ADVICE)


def warn_skipped(reasons, n_given):
    """Warn of files that are left out, by the reasons."""
    said = describe_faults(reasons, n_given, _WHAT, "`skipped_`")
    warn_user(f"{said}\nThey are left out.")


def get_status(path):
    """Return by what it is seen that a file was changed; None, where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def find_changed(paths, statuses):
    """Return for each file the `Fault`, if its status is another than it was."""
    return [
        None if get_status(path) == status else _CHANGED
        for path, status in zip(paths, statuses, strict=True)
    ]


def _is_path(X):
    return isinstance(X, (str, os.PathLike))


def _endings():
    formats = Image.registered_extensions()
    return {ending for ending, name in formats.items() if name in _FORMATS}


def _faults_of(readings, track=iter):
    """Run functions in threads; return for each why it failed, or None.

    Pillow decodes without the lock of the interpreter. Not joblib, which takes as long
    to start its threads for a batch of small pictures as these take to decode them.
    """
    with ThreadPoolExecutor(max_workers=_count_threads()) as pool:
        return list(track(pool.map(find_fault, readings)))


def _count_threads():
    """Return how many threads may decode.

    Parallel searches tell each of their processes its share of the cores by this
    variable, and whoever limits the threads of a machine does the same.
    """
    share = os.environ.get("OMP_NUM_THREADS", "")
    return (
        min(cpu_count(), int(share)) if share.isdigit() and int(share) else cpu_count()
    )


def _check_file(path):
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError as error:
        raise FileNotFoundError(error.errno, _why_missing(path), path) from error
    # What is no file may never end, or have the reader wait for ever.
    if not stat.S_ISREG(mode):
        kinds = (kind for is_kind, kind in _KINDS if is_kind(mode))
        raise OSError(errno.EINVAL, f"{next(kinds, 'a thing')}, and no file", path)


def _find_leaving(path, root):
    if not os.path.islink(path):
        return None
    place = os.path.realpath(path)
    if os.path.commonpath([root, place]) == root or not os.path.exists(place):
        return None
    return Fault(f"a link to {place!r}, which is outside of the folder")


def _check_header(path):
    with _open(path) as image:
        refuse_deep(image)


def _check_content(path):
    with _open_checked(path) as image:
        refuse_deep(image)
        # JPEG files are read to their end, and decoded at an eighth of their size.
        image.draft(image.mode, (1, 1))
        image.load()


def _read_into(path, place, crop):
    """Read one file into its place, an array of shape `image_shape`."""
    size, mode = find_frame(place.shape)
    with _open_checked(path) as image:
        # JPEG files are decoded at the size needed. Twice the size leaves the
        # resampling something to average; square, as the picture may lie on its side.
        image.draft(mode, (2 * max(size), 2 * max(size)))
        draw(image, place, crop)


def _open(path):
    _check_file(path)
    return Image.open(path)


def _open_checked(path):
    """Open a picture whose checksums are right, where its format has any.

    Pillow decodes PNG files without a look at them, and a bit that has changed becomes
    another picture.
    """
    image = _open(path)
    if image.format != "PNG":
        return image
    with image:
        image.verify()
    return _open(path)


def _why_missing(path):
    if os.path.islink(path):
        return f"a link to {os.readlink(path)!r}, which does not exist"
    return "no such file" if os.path.isabs(path) else f"no such file in {os.getcwd()}"
