# SPDX-License-Identifier: BSD-3-Clause
"""Checks of what a user passes as ``X``."""

import math
from numbers import Integral

import numpy as np
import torch
from sklearn.utils.validation import validate_data

from sklearn_scan._sources._files import DEFAULT_IMAGE_SHAPE, find_paths, read_images
from sklearn_scan._sources._formats import learn_format

_ACCEPTED = (
    "Accepted are image arrays of shape (n, h, w), (n, h, w, c) or (n, c, h, w), rows "
    "of shape (n, features), and a folder or a list of paths of image files."
)


def check_samples(estimator, X, *, image_shape=None, reset):
    """Validate `X` and return it as an array of rows or of images.

    With `reset`, sets `n_features_in_`, `feature_names_in_` and `image_shape_` of the
    estimator, `paths_` if `X` is files, and what later samples are checked against;
    without, checks.

    Parameters
    ----------
    estimator : estimator instance
        Named in messages; carries the fitted attributes.
    X : array-like, memmap, torch.Tensor, str, path or sequence of them
        What the user passed. A str or path is a folder of image files; a sequence of
        them, the files.
    image_shape : tuple of int or None
        The shape of one image, where `X` holds images as rows or is files; these are
        read as (64, 64, 3) if it is None. Without `reset`, what it was in `fit` holds.
    reset : bool
        True in `fit`; False where `X` must look like the training data.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features) or (n_samples, *image_shape)
        uint8 stays uint8 and float64 stays float64 (batches are converted as they are
        read), without a copy; other types become float32. Files become uint8.

    Raises
    ------
    TypeError, ValueError
        Says what was given, what is needed and what to do.
    """
    if isinstance(X, torch.Tensor):
        X = X.detach().cpu().resolve_neg()
        X = (X.float() if X.dtype in (torch.bfloat16, torch.float16) else X).numpy()
    paths = find_paths(X)
    if paths is None:
        _refuse_text(X)
        X = _stack_images(X)
    elif reset:
        shape = DEFAULT_IMAGE_SHAPE if image_shape is None else image_shape
        X = read_images(paths, _checked_shape(shape))
    else:
        X = _read_as_fitted(estimator, paths)
    if not reset:
        _check_rank(estimator, X)
        rows_are_images = len(estimator._passed_shape) == 1
        image_shape = estimator.image_shape_ if rows_are_images else None
    X = validate_data(
        estimator,
        X,
        reset=reset,
        allow_nd=True,
        ensure_min_samples=2 if reset else 1,
        dtype=[np.float32, np.float64, np.uint8],
    )
    passed_shape = X.shape[1:]
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
    if reset:
        _set_paths(estimator, paths)
        estimator._passed_shape = passed_shape
        estimator._format = learn_format(X)
        estimator.image_shape_ = X.shape[1:] if X.ndim > 2 else None
    else:
        estimator._format.check(X)
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


def _read_as_fitted(estimator, paths):
    """Read image files as the samples that `fit` saw."""
    name = type(estimator).__name__
    if estimator.image_shape_ is None:
        raise ValueError(
            f"X is image files (the first is {paths[0]!r}), but {name} was fitted on "
            f"rows of {estimator.n_features_in_} features. Pass such rows, or fit "
            f"{name} on images."
        )
    images = read_images(paths, estimator.image_shape_)
    # Images may have been fitted as rows.
    return images.reshape(len(images), *estimator._passed_shape)


def _set_paths(estimator, paths):
    """Set `paths_`, or remove it where an earlier fit has left it."""
    estimator.__dict__.pop("paths_", None)
    if paths is not None:
        estimator.paths_ = paths


def _stack_images(X):
    """Stack a sequence of pictures, such as those of Pillow, into one array."""
    is_sequence = isinstance(X, (list, tuple)) and len(X) > 0
    if not is_sequence or not hasattr(X[0], "__array_interface__"):
        return X
    shapes = {np.shape(image) for image in X}
    if len(shapes) > 1:
        raise ValueError(
            f"X holds samples of {len(shapes)} shapes, among them "
            f"{' and '.join(map(str, sorted(shapes)[:2]))}. Needed is one shape: "
            "resize and convert the images to the same size and channels."
        )
    return np.stack([np.asarray(image) for image in X])


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


def _check_rank(estimator, X):
    """Refuse images where rows were fitted, and the other way round."""
    shape = X.shape if hasattr(X, "shape") else np.asarray(X).shape
    fitted = estimator._passed_shape
    if len(shape) > 2 or len(fitted) > 1:
        if shape[1:] != fitted:
            raise ValueError(
                f"X has shape {shape}, but {type(estimator).__name__} was fitted on "
                f"samples of shape {fitted}: X must have shape (n, "
                f"{', '.join(map(str, fitted))})."
            )
