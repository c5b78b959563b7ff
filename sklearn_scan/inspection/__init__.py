# SPDX-License-Identifier: BSD-3-Clause
"""Looking at what a clusterer sees, and at what it found."""

from sklearn_scan.inspection._confusion import ConfusionDisplay
from sklearn_scan.inspection._gallery import apply_edits, write_gallery
from sklearn_scan.inspection._prototypes import PrototypesDisplay
from sklearn_scan.inspection._views import draw_views, plot_views

__all__ = [
    "ConfusionDisplay",
    "PrototypesDisplay",
    "apply_edits",
    "draw_views",
    "plot_views",
    "write_gallery",
]
