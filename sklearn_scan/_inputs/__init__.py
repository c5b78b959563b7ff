# SPDX-License-Identifier: BSD-3-Clause
"""Whatever ``X`` is, made into batches of tensors."""

from sklearn_scan._inputs._array import ArraySource, sharing
from sklearn_scan._inputs._files import find_paths, list_images, read_images
from sklearn_scan._inputs._formats import ImageFormat, RowFormat, learn_format
from sklearn_scan._inputs._holding import StoredImages, find_digests, find_missing
from sklearn_scan._inputs._lazy import LazyImages, Preparation
from sklearn_scan._inputs._mixin import SampleInputMixin
from sklearn_scan._inputs._pictures import UnreadableImagesError, find_pictures
from sklearn_scan._inputs._skipping import Places
from sklearn_scan._inputs._spec import InputSpec
from sklearn_scan._inputs._validation import check_samples, learn_samples

__all__ = [
    "ArraySource",
    "ImageFormat",
    "InputSpec",
    "LazyImages",
    "Places",
    "Preparation",
    "RowFormat",
    "SampleInputMixin",
    "StoredImages",
    "UnreadableImagesError",
    "check_samples",
    "find_digests",
    "find_missing",
    "find_paths",
    "find_pictures",
    "learn_format",
    "learn_samples",
    "list_images",
    "read_images",
    "sharing",
]
