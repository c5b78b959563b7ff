# SPDX-License-Identifier: BSD-3-Clause
"""Whatever ``X`` is, made into batches of tensors."""

from sklearn_scan._sources._array import ArraySource
from sklearn_scan._sources._files import find_paths, list_images, read_images
from sklearn_scan._sources._formats import ImageFormat, RowFormat, learn_format
from sklearn_scan._sources._validation import check_samples

__all__ = [
    "ArraySource",
    "ImageFormat",
    "RowFormat",
    "check_samples",
    "find_paths",
    "learn_format",
    "list_images",
    "read_images",
]
