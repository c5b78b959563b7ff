# SPDX-License-Identifier: BSD-3-Clause
"""Random views of a batch: drawn per sample, on the device of the data."""

from sklearn_scan._views._base import View, Views
from sklearn_scan._views._color import ColorJitter, Grayscale, Invert
from sklearn_scan._views._geometry import Affine, Flip, Geometry, ResizedCrop
from sklearn_scan._views._policy import (
    POLICIES,
    build_views,
    check_views,
    choose_policy,
    make_strong_views,
)
from sklearn_scan._views._strong import Cutout, RandomOperations
from sklearn_scan._views._vector import FeatureDropout, FeatureNoise

__all__ = [
    "POLICIES",
    "Affine",
    "ColorJitter",
    "Cutout",
    "FeatureDropout",
    "FeatureNoise",
    "Flip",
    "Geometry",
    "Grayscale",
    "Invert",
    "RandomOperations",
    "ResizedCrop",
    "View",
    "Views",
    "build_views",
    "check_views",
    "choose_policy",
    "make_strong_views",
]
