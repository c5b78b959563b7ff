# SPDX-License-Identifier: BSD-3-Clause
"""What `X` is: learned once in `fit`, and held against all later samples."""

from dataclasses import dataclass, field

import numpy as np

from sklearn_scan._inputs._formats import ImageFormat, RowFormat
from sklearn_scan._inputs._lazy import Preparation
from sklearn_scan._inputs._skipping import Places


@dataclass(frozen=True, eq=False)
class InputSpec:
    """What the `X` of `fit` was.

    Attributes
    ----------
    format : ImageFormat or RowFormat
        Layout and range of the samples, by which batches are decoded.
    passed_shape : tuple of int
        Shape of one sample as it was passed: images may be passed as rows.
    paths : list of str or None
        The files, where `X` was a folder or paths.
    feature_names : ndarray of shape (n_features,) or None
        Column names, where `X` had any.
    preparation : Preparation or None
        How images become what an encoder expects; None where they need not.
    pixels : ImageFormat or None
        Layout and range of images in memory before they are prepared.
    is_lazy : bool
        Whether images that are prepared are decoded only when they are indexed.
    skipped : dict of str or None
        For each file that was left out, why; None where no file was given.
    """

    format: ImageFormat | RowFormat
    passed_shape: tuple
    paths: list | None = field(default=None, repr=False)
    feature_names: object = field(default=None, repr=False)
    preparation: Preparation | None = None
    pixels: ImageFormat | None = None
    is_lazy: bool = False
    skipped: dict | None = field(default=None, repr=False)

    @property
    def places(self):
        """Where the samples are among those that were given."""
        if not self.skipped:
            return Places()
        kept = [i for i, path in enumerate(self.paths) if path not in self.skipped]
        return Places(len(self.paths), np.array(kept))

    @property
    def image_shape(self):
        """Shape of one image as it lies in memory; None for rows."""
        shape = self.format.sample_shape
        return shape if len(shape) > 1 else None
