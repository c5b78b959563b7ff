# SPDX-License-Identifier: BSD-3-Clause
"""Checks of what a user passes as ``X``."""

import math
from dataclasses import replace
from numbers import Integral

import numpy as np
import torch
from sklearn.utils import check_array

from sklearn_scan._console import SILENT
from sklearn_scan._inputs._containers import as_list, refuse_containers
from sklearn_scan._inputs._files import (
    DEFAULT_IMAGE_SHAPE,
    check_files,
    find_folder,
    find_paths,
)
from sklearn_scan._inputs._formats import find_channel_axis, learn_format
from sklearn_scan._inputs._holding import check_images, hold_images
from sklearn_scan._inputs._lazy import LazyImages, Preparation
from sklearn_scan._inputs._pictures import find_pictures, stack_pictures
from sklearn_scan._inputs._skipping import Places, Sieve
from sklearn_scan._inputs._spec import InputSpec

_ACCEPTED = (
    "Accepted are image arrays of shape (n, h, w), (n, h, w, c) or (n, c, h, w), rows "
    "of shape (n, features), a list of pictures, and a folder or a list of paths of "
    "image files."
)


# The types that are kept; all others become the first.
_DTYPES = (np.float32, np.float64, np.uint8)


def learn_samples(
    X,
    image_shape=None,
    validate=check_array,
    preparation=None,
    *,
    is_lazy=False,
    folder=None,
    console=SILENT,
    on_error="raise",
):
    """Read what `fit` was given as an array of rows or of images.

    Parameters
    ----------
    X : array-like, memmap, torch.Tensor, str, path or sequence
        What the user passed. A str or path is a folder of image files; a sequence of
        them, the files. A sequence may also hold pictures of Pillow or arrays. A
        DataFrame with one column of any of these is taken for this column.
    image_shape : tuple of int or None, default=None
        The shape of one image, where `X` holds images as rows, files or pictures. If it
        is None, files are read as (64, 64, 3), and pictures at their size.
    validate : callable, default=check_array
        What scikit-learn checks arrays with; an estimator passes its `validate_data`.
    preparation : Preparation or None, default=None
        What an encoder expects: files are brought to its size and, if it has a way to
        do so, images in memory as well.
    is_lazy : bool, default=False
        Whether images that are brought to that size are decoded only when they are
        indexed.
    folder : Path or None, default=None
        Of the cache, in which decoded images are kept that do not fit into memory.
    console : Console, default=SILENT
        Told how many files are decoded.
    on_error : {"raise", "skip"}, default="raise"
        Whether files that cannot be read are refused, or left out with a warning.

    Returns
    -------
    X : ndarray or LazyImages of shape (n_samples, n_features) or (n_samples, \
            *image_shape)
        uint8 stays uint8 and float64 stays float64 (batches are converted as they are
        read), without a copy; other types become float32. Files become uint8.
    spec : InputSpec
        What the samples are; without the names of columns.

    Raises
    ------
    TypeError, ValueError
        Says what was given, what is needed and what to do.
    """
    root = find_folder(X)
    X, paths, pictures = _look_inside(X)
    shape = None if image_shape is None else _checked_shape(image_shape)
    if paths is not None and preparation is None:
        preparation = Preparation(DEFAULT_IMAGE_SHAPE if shape is None else shape)
    if _is_prepared(paths, preparation):
        images, spec = _prepare(X, paths, pictures, shape, validate, preparation)
        sieve = None if paths is None else Sieve(paths, on_error)
        images, skipped = _read(images, sieve, root, is_lazy, folder, console)
        if len(images) < 2:
            _refuse_few(len(images), "picture" if paths is None else "image file")
        format = preparation.find_format(images)
        return images, replace(spec, format=format, is_lazy=is_lazy, skipped=skipped)
    if pictures is not None:
        X = stack_pictures(pictures, shape)
    X = _validate(validate, X, ensure_min_samples=2)
    passed_shape = X.shape[1:]
    X = _as_images(X, image_shape)
    return X, InputSpec(learn_format(X), passed_shape)


def _validate(validate, X, *, allow_nd=True, **options):
    """Return what scikit-learn accepts, if float32 can hold it."""
    X = validate(X, allow_nd=allow_nd, dtype=_DTYPES, **options)
    if X.dtype == np.float64:
        most = np.finfo(np.float32).max
        low, high = X.min(initial=0), X.max(initial=0)
        if low < -most or high > most:
            raise ValueError(
                f"X has values from {low:.3g} to {high:.3g}, and networks compute with "
                f"float32, which ends at {most:.3g}. Scale X."
            )
    return X


def _is_prepared(paths, preparation):
    """Say whether samples are brought to the size that an encoder expects."""
    if preparation is None:
        return False
    return paths is not None or preparation.crop is not None


def _prepare(X, paths, pictures, shape, validate, preparation):
    """Read what `fit` was given as lazy images of the size that an encoder expects."""
    pixels, passed_shape = None, preparation.image_shape
    items = pictures if paths is None else paths
    if items is not None:
        _refuse_other_shape(shape, preparation)
    else:
        _refuse_one_picture(X)
        items = _validate(validate, X, ensure_min_samples=2)
        passed_shape, items = items.shape[1:], _as_images(items, shape)
        if items.ndim == 2:
            raise ValueError(
                f"X holds rows of {items.shape[1]} features, and the encoder reads "
                "images. Pass image_shape=(h, w) or (h, w, c) to read the rows as "
                "images, or pass rows to an estimator without an encoder."
            )
        pixels = learn_format(items)
    spec = InputSpec(None, passed_shape, paths, preparation=preparation, pixels=pixels)
    return LazyImages(items, preparation, pixels), spec


def _read(images, sieve, root, is_lazy, folder, console):
    """Decode images, or find out which can be decoded later.

    Parameters
    ----------
    images : LazyImages
    sieve : Sieve or None
        For files; None for images in memory.
    root : str or None
        The folder in which files were listed.

    Returns
    -------
    images : ndarray, memmap, StoredImages or LazyImages
        Without those that are left out.
    skipped : dict of str or None
        The reasons for those; None where they are no files.
    """
    if sieve is None:
        if is_lazy:
            return images, None
        held, faults = hold_images(images, folder, console)
        images.refuse(range(len(images)), faults)
        return held, None
    sieve.drop_links(root)
    images = images.take(sieve.kept)
    if not is_lazy:
        held, faults = hold_images(images, folder, console)
        sieve.drop(faults)
        return held, sieve.settle()
    # What is refused anyhow is so where it is decoded, all at once: that spares to
    # decode files twice, and to open those of which the features are known.
    every = range(len(images))
    is_checked = sieve.on_error == "skip" or sieve.faults
    if is_checked or any(images.find_faults(every, check_files)):
        images = images.take(sieve.drop(check_images(images, folder, console)))
    return images, sieve.settle()


def _refuse_few(n_samples, what):
    noun = "sample" if n_samples == 1 else "samples"
    raise ValueError(
        f"Found {n_samples} {what} ({n_samples} {noun}), while a minimum of 2 is "
        "required."
    )


def check_samples(X, spec, name, validate=check_array, console=SILENT):
    """Read samples as those that `fit` saw; see `check_given`.

    Returns
    -------
    X : ndarray or LazyImages of shape (n_samples, n_features) or (n_samples, \
            *image_shape)
    """
    return check_given(X, spec, name, validate, console)[0]


def check_given(X, spec, name, validate=check_array, console=SILENT, on_error="raise"):
    """Read samples as those that `fit` saw, and say which they are.

    Parameters
    ----------
    X : array-like, memmap, torch.Tensor, str, path or sequence
        See `learn_samples`.
    spec : InputSpec
        What `fit` saw.
    name : str
        Of the estimator, for messages.
    validate : callable, default=check_array
        What scikit-learn checks arrays with.
    console : Console, default=SILENT
        Told how many files are decoded.
    on_error : {"raise", "skip"}, default="raise"
        Whether files that cannot be read are refused, or left out with a warning.

    Returns
    -------
    X : ndarray or LazyImages of shape (n_samples, n_features) or (n_samples, \
            *image_shape)
    places : Places
        Where they are among those that were given.

    Raises
    ------
    TypeError, ValueError
        Says what was given, what is needed and what to do.
    """
    root = find_folder(X)
    X, paths, pictures = _look_inside(X)
    sieve = None if paths is None else Sieve(paths, on_error)
    if _is_prepared(paths, spec.preparation):
        images = _prepare_as_fitted(X, spec, paths, pictures, validate)
        images, _ = _read(images, sieve, root, spec.is_lazy, None, console)
        return images, _find_places(sieve)
    if paths is not None or pictures is not None:
        X = _read_as_fitted(spec, name, pictures, sieve, root, console)
    _check_rank(spec, name, X)
    X = _validate(validate, X)
    rows_are_images = len(spec.passed_shape) == 1
    X = _as_images(X, spec.image_shape if rows_are_images else None)
    spec.format.check(X)
    return X, _find_places(sieve)


def _find_places(sieve):
    return Places() if sieve is None else sieve.places


def _look_inside(X):
    """Return `X`, as one array where it holds arrays, its paths and its pictures."""
    if isinstance(X, torch.Tensor):
        X = _tensor_to_array(X)
    refuse_containers(X)
    paths, pictures = find_paths(X), find_pictures(X)
    if paths is None and pictures is None:
        _refuse_text(X)
        X = _stack_arrays(X)
    return X, paths, pictures


def _as_images(X, image_shape):
    """Return rows as images, where a shape is given; refuse what has no place."""
    if X.ndim == 2 and image_shape is not None:
        X = _rows_to_images(X, image_shape)
    if X.ndim > 4 or 0 in X.shape:
        raise ValueError(f"X has shape {X.shape}. {_ACCEPTED}")
    if X.ndim > 2 and image_shape is not None and X.shape[1:] != tuple(image_shape):
        raise ValueError(
            f"X holds images of shape {X.shape[1:]}, but image_shape="
            f"{tuple(image_shape)} was given. Leave image_shape out for image arrays: "
            "it is needed only where X holds images as rows."
        )
    return X


def _refuse_text(X):
    """Explain, before numpy does, that text and nothing are not samples."""
    if X is None:
        raise ValueError(f"X is None. {_ACCEPTED}")
    first = X
    while isinstance(first, (list, tuple)) and len(first):
        first = first[0]
    if isinstance(first, (str, bytes)) or hasattr(first, "__fspath__"):
        raise TypeError(
            f"X holds text where numbers are needed (the first is {first!r}). "
            f"{_ACCEPTED}"
        )


def _tensor_to_array(X):
    X = X.detach().cpu().resolve_neg()
    return (X.float() if X.dtype in (torch.bfloat16, torch.float16) else X).numpy()


def _prepare_as_fitted(X, spec, paths, pictures, validate):
    """Return images of any size as lazy images of the size that the encoder expects."""
    items = pictures if paths is None else paths
    if items is not None:
        return LazyImages(items, spec.preparation)
    rows_are_images = len(spec.passed_shape) == 1
    _refuse_one_picture(X)
    X = check_array(X, allow_nd=True, dtype=_DTYPES)
    if X.ndim == 2 and rows_are_images:
        X = _validate(validate, X, allow_nd=False)
        X = _as_images(X, spec.pixels.sample_shape)
    if X.ndim < 3:
        raise ValueError(f"X has shape {X.shape}, and images are needed. {_ACCEPTED}")
    if X.dtype == np.uint8:
        return LazyImages(X, spec.preparation, learn_format(X))
    pixels = spec.pixels
    if pixels is None:
        # Of files no range was learned, and a few dark images do not tell theirs.
        white = 1.0 if X.max() <= 1 else 255.0
        pixels = replace(learn_format(X), low=0.0, high=white)
        if X.min() < 0 or X.max() > white:
            raise ValueError(
                f"The images have values from {X.min():g} to {X.max():g}, and the "
                "estimator was fitted on files or pictures. Pass images in [0, 1] or "
                "[0, 255]."
            )
    pixels.check(X)
    axis = find_channel_axis(X.shape[1:])
    pixels = replace(pixels, sample_shape=X.shape[1:], channel_axis=axis)
    return LazyImages(X, spec.preparation, pixels)


def _refuse_one_picture(X):
    """Explain that an array of one picture would be read as many rows of it."""
    shape = getattr(X, "shape", ())
    if len(shape) == 3 and shape[2] in (3, 4):
        raise ValueError(
            f"X has shape {tuple(shape)}, which is that of one picture in colour. Pass "
            "X[None], of shape (1, h, w, c), or several pictures."
        )


def _refuse_other_shape(shape, preparation):
    """Explain that files are brought to the size that an encoder has of its own."""
    if shape is not None and preparation.crop is not None:
        raise ValueError(
            f"image_shape={shape} was given, and the encoder reads images of shape "
            f"{tuple(preparation.image_shape)}. Leave image_shape out; image_size= of "
            "Pretrained chooses another size, where the encoder has one."
        )


def _read_as_fitted(spec, name, pictures, sieve, root, console):
    """Read image files or pictures as the samples that `fit` saw."""
    if spec.image_shape is None:
        is_what = "pictures"
        if sieve is not None:
            is_what = f"files (the first is {sieve.paths[0]!r})"
        raise ValueError(
            f"X is {is_what}, but {name} was fitted on rows of "
            f"{spec.passed_shape[0]} features. Pass such rows, or fit {name} on "
            "images."
        )
    if sieve is None:
        images = stack_pictures(pictures, spec.image_shape)
    else:
        images = LazyImages(sieve.paths, Preparation(spec.image_shape))
        images, _ = _read(images, sieve, root, False, None, console)
        images = np.asarray(images)
    # Images may have been fitted as rows.
    return images.reshape(len(images), *spec.passed_shape)


def _stack_arrays(X):
    """Stack a sequence of arrays or tensors into one array; leave all else."""
    elements = as_list(X)
    if not elements or getattr(elements[0], "ndim", 0) == 0:
        return X
    for i, element in enumerate(elements):
        if not hasattr(element, "__array__") and not isinstance(element, (list, tuple)):
            raise TypeError(
                f"X holds arrays and other things: X[{i}] is of type "
                f"{type(element).__name__}. Pass arrays of the same shape only."
            )
    elements = [_tensor_to_array(e) if torch.is_tensor(e) else e for e in elements]
    shapes = [np.shape(element) for element in elements]
    other = next((i for i, shape in enumerate(shapes) if shape != shapes[0]), None)
    if other is not None:
        raise ValueError(
            f"X holds samples of {len(set(shapes))} shapes: X[0] has shape "
            f"{shapes[0]}, and X[{other}] has shape {shapes[other]}. All samples must "
            "have the same shape: resize and convert images to the same size and "
            "number of channels."
        )
    return np.stack(elements)


def _checked_shape(image_shape):
    shape = tuple(image_shape)
    is_shape = all(isinstance(side, Integral) and side > 0 for side in shape)
    if not is_shape or len(shape) not in (2, 3):
        raise ValueError(
            "The 'image_shape' parameter must be (h, w), (h, w, c) or (c, h, w) in "
            f"positive integers. Got image_shape={shape!r} instead."
        )
    return shape


def _rows_to_images(X, image_shape):
    shape = _checked_shape(image_shape)
    if X.shape[1] != math.prod(shape):
        raise ValueError(
            f"X has rows of {X.shape[1]} features, but image_shape={shape} needs "
            f"{' x '.join(map(str, shape))} = {math.prod(shape)}."
        )
    return X.reshape(len(X), *shape)


def _check_rank(spec, name, X):
    """Refuse images where rows were fitted, and the other way round."""
    shape = X.shape if hasattr(X, "shape") else np.asarray(X).shape
    fitted = spec.passed_shape
    if len(shape) > 2 or len(fitted) > 1:
        if shape[1:] != fitted:
            raise ValueError(
                f"X has shape {shape}, but {name} was fitted on samples of shape "
                f"{fitted}: X must have shape (n, {', '.join(map(str, fitted))})."
            )
