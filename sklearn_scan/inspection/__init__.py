# SPDX-License-Identifier: BSD-3-Clause
"""Looking at what a clusterer sees."""

from sklearn_scan.inspection._views import draw_views, plot_views

__all__ = ["draw_views", "plot_views"]
