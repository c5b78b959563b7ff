# SPDX-License-Identifier: BSD-3-Clause
"""The pictures of samples, at any size, from whatever the user has."""

import os
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from sklearn.utils.validation import validate_data

from sklearn_scan._inputs import (
    LazyImages,
    Preparation,
    check_samples,
    find_paths,
    find_pictures,
    learn_samples,
)

_MOST_AT_ONCE = 512

# Pixels of an image in a figure, at most.
_SIDE_IN_FIGURES = 96


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures that are drawn at the size in which they are asked for.

    Attributes
    ----------
    items : list of str, list of PIL.Image.Image or ndarray
        Paths of files, pictures, or images.
    pixels : ImageFormat or None
        How an array is read.
    shape : tuple of int
        Height and width, by which all are cropped.
    is_limited : bool
        Whether the pictures have no more pixels than `shape`, so that nothing is gained
        beyond it.
    least_side : int
        The size to which such pictures are enlarged if they are smaller.
    """

    items: Any
    pixels: Any
    shape: tuple
    is_limited: bool
    least_side: int = 0

    def __len__(self):
        return len(self.items)

    @property
    def is_gray(self):
        """Whether there is one channel."""
        return self.pixels is not None and self.pixels.channel_axis is None

    def find_size(self, side):
        """Return height and width at which the longer one is `side`, or less."""
        longer = max(self.shape)
        if self.is_limited:
            side = min(side, max(longer, self.least_side))
        return tuple(max(1, round(side * length / longer)) for length in self.shape)

    def read(self, indices, side):
        """Draw some pictures.

        Parameters
        ----------
        indices : ndarray of int
            Which.
        side : int
            Pixels of the longer side.

        Returns
        -------
        pictures : ndarray of shape (n, h, w) or (n, h, w, 3), dtype uint8
        """
        size = self.find_size(side)
        preparation = Preparation(size if self.is_gray else (*size, 3))
        images = LazyImages(self.items, preparation, self.pixels)
        parts = range(0, len(indices), _MOST_AT_ONCE)
        drawn = [images[indices[start : start + _MOST_AT_ONCE]] for start in parts]
        return np.concatenate(drawn) if drawn else np.empty((0, *images.shape[1:]))


def open_pictures(estimator, X, images=None, *, least_side=0):
    """Find the pictures of the samples that an estimator was fitted on.

    Parameters
    ----------
    estimator : SCANClustering
        Fitted.
    X : array-like, folder or sequence of paths
        What it was fitted on.
    images : array-like, folder, sequence of paths or None
        What is shown instead.
    least_side : int
        To how many pixels smaller pictures are enlarged.

    Returns
    -------
    pictures : Pictures or None
        None where the samples are rows.
    paths : list of str or None
        Their files.
    """
    name, n_samples = type(estimator).__name__, len(estimator.labels_)
    if images is None:
        pictures, paths, n_found = _open_fitted(estimator, X)
        what, advice = "X", "Pass what it was fitted on."
    else:
        pictures, paths = _open_any(images)
        what, advice, n_found = "images", "Pass one for each.", len(pictures)
    if n_found != n_samples:
        raise ValueError(
            f"{what} has {n_found} samples, but {name} was fitted on {n_samples}. "
            f"{advice}"
        )
    if images is None and paths is not None:
        _check_order(paths, estimator.input_spec_.paths, name)
    if pictures is not None:
        pictures = replace(pictures, least_side=least_side)
    return pictures, paths


def read_pictures(estimator, X, images, indices):
    """Return the pictures of some samples as they are drawn in a figure.

    Parameters
    ----------
    estimator, X, images
        See `open_pictures`.
    indices : ndarray of int
        Which samples. Of files, only theirs are read.

    Returns
    -------
    pictures : ndarray of shape (n, h, w) or (n, h, w, 3), dtype float32
        With black at 0 and white at 1.
    """
    pictures, _ = open_pictures(estimator, X, images)
    if pictures is None:
        raise ValueError(
            f"{type(estimator).__name__} was fitted on rows of "
            f"{estimator.n_features_in_} features, which cannot be drawn. Pass their "
            "pictures as images=, or fit it with image_shape if the rows are images."
        )
    return pictures.read(indices, _SIDE_IN_FIGURES) / np.float32(255)


def _open_any(images):
    paths, items = find_paths(images), find_pictures(images)
    if paths is not None:
        return Pictures(paths, None, (1, 1), is_limited=False), paths
    if items is not None:
        return Pictures(items, None, items[0].size[::-1], is_limited=True), None
    images, spec = learn_samples(images)
    if images.ndim == 2:
        raise ValueError(
            f"images has shape {images.shape}: rows cannot be drawn. Pass images, a "
            "folder or a list of paths."
        )
    return _open_array(images, spec.format), None


def _open_fitted(estimator, X):
    """Return the pictures in what `fit` was given, their files, and their number."""
    spec, name = estimator.input_spec_, type(estimator).__name__
    if spec.image_shape is not None:
        paths, items = find_paths(X), find_pictures(X)
        if paths is not None or items is not None:
            items = items if paths is None else paths
            frame = tuple(spec.format.tensor_shape[1:])
            return Pictures(items, None, frame, is_limited=False), paths, len(items)
    # As `predict` does: columns of a DataFrame in another order are refused.
    validate = partial(validate_data, estimator, reset=False)
    X = check_samples(X, spec, name, validate)
    if spec.image_shape is None:
        return None, None, len(X)
    is_lazy = isinstance(X, LazyImages)
    images, format = (X.items, X.pixels) if is_lazy else (X, spec.format)
    return _open_array(images, format), None, len(X)


def _open_array(images, format):
    """Open an array of images, of which the first three channels are drawn, or one."""
    n_channels, *shape = format.tensor_shape
    if format.channel_axis is not None:
        kept = slice(3) if n_channels >= 3 else 0
        at_end = format.channel_axis == 2
        images = images[..., kept] if at_end else images[:, kept]
        axis = format.channel_axis if n_channels >= 3 else None
        format = replace(format, sample_shape=images.shape[1:], channel_axis=axis)
    return Pictures(images, format, tuple(shape), is_limited=True)


def _check_order(paths, fitted, name):
    """Refuse files whose names are not those of `fit`; folders may have moved."""
    for given, known in zip(paths, fitted or paths, strict=True):
        if os.path.basename(given) != os.path.basename(known):
            raise ValueError(
                f"X has the file {given!r} where {name} was fitted on {known!r}. Pass "
                "what it was fitted on, in the same order."
            )
