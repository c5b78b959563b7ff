# SPDX-License-Identifier: BSD-3-Clause
"""What displays share: matplotlib when it is needed, axes, colours, cluster numbers."""

from typing import Any

import numpy as np

ACCENT, QUIET = "#d1495b", "0.4"
BLUE, ORANGE, VERMILION = "#0072b2", "#e69f00", "#d55e00"

# Of Okabe and Ito, "Color universal design" (2008): told apart by the colour-blind.
_FEW_COLORS = (
    BLUE,
    VERMILION,
    "#009e73",
    ORANGE,
    "#cc79a7",
    "#56b4e9",
    "#000000",
    "#f0e442",
)
# Further colours are chosen among so many levels of red, green and blue, and are
# neither so dark nor so light that they would not be seen on paper.
_N_LEVELS, _DARKEST, _LIGHTEST = 14, 0.35, 0.85

# Numbers of more clusters are not written below bars, or upright.
_MOST_NUMBERS, _MOST_UPRIGHT = 120, 25
_INCHES_PER_BAR = 0.27
# Bars are no wider than they would be beside so many.
_FEWEST_BARS = 6
_LEAST_INCHES, _MOST_INCHES = 5.2, 13.0


def import_pyplot(caller):
    """Import pyplot for `caller`, which is named where matplotlib is missing."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f'{caller} needs matplotlib: pip install "sklearn-scan[plot]".'
        ) from error
    return plt


class Display:
    """Base of displays that are plotted into one axes."""

    ax_: Any
    figure_: Any

    def _take_axes(self, ax, size):
        """Take the axes of the user, or make some in a figure of `size` inches."""
        plt = import_pyplot(type(self).__name__)
        if ax is None:
            _, ax = plt.subplots(figsize=size, layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        return ax

    def _settle_layout(self):
        """Let axes have their final size, for what depends on it."""
        if (engine := self.figure_.get_layout_engine()) is not None:
            engine.execute(self.figure_)
        self.ax_.apply_aspect()


# --- bars of clusters --------------------------------------------------------------


def find_bar_size(n_bars, height=3.4):
    """Return width and height, in inches, of a figure with a bar per cluster."""
    return np.clip(_INCHES_PER_BAR * n_bars, _LEAST_INCHES, _MOST_INCHES), height


def number_bars(ax, clusters):
    """Write the numbers of clusters below their bars, as far as they can be read."""
    n_bars = len(clusters)
    margin = max(0, _FEWEST_BARS - n_bars) / 2
    ax.set_xlim(-0.6 - margin, n_bars - 0.4 + margin)
    if n_bars > _MOST_NUMBERS:
        ax.set_xticks([])
        return
    is_upright = n_bars <= _MOST_UPRIGHT
    ax.set_xticks(
        range(n_bars),
        [str(cluster) for cluster in clusters],
        rotation=0 if is_upright else 90,
        fontsize=9 if is_upright else 6.5,
    )
    ax.tick_params(axis="x", length=0)


def write_legend(ax, handles, **kwargs):
    """Write a legend above the axes, where it covers nothing."""
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.3}
    style = {"frameon": False, "fontsize": "small", "ncols": 2}
    ax.legend(handles=handles, **style | place | kwargs)


def hide_spines(ax):
    """Leave the axes of numbers alone."""
    ax.spines[["top", "right"]].set_visible(False)


# --- colours -----------------------------------------------------------------------


def find_cluster_colors(n_clusters):
    """Return a colour for each cluster.

    The first eight are told apart by the colour-blind. Each further one is as far as
    possible from those before, so that a cluster keeps its colour whatever the number
    of clusters.

    Parameters
    ----------
    n_clusters : int
        How many.

    Returns
    -------
    colors : ndarray of shape (n_clusters, 3)
        Red, green and blue, in [0, 1].
    """
    from matplotlib.colors import to_rgb

    chosen = [np.array(to_rgb(color)) for color in _FEW_COLORS[:n_clusters]]
    if n_clusters > len(chosen):
        levels = np.linspace(0, 1, _N_LEVELS)
        others = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 3)
        places = _to_oklab(others)
        is_seen = (places[:, 0] > _DARKEST) & (places[:, 0] < _LIGHTEST)
        others, places = others[is_seen], places[is_seen]
        taken = _to_oklab(np.array([*chosen, [1.0, 1.0, 1.0]]))  # white is the paper
        nearest = np.linalg.norm(places[:, None] - taken, axis=2).min(axis=1)
        while len(chosen) < n_clusters:
            farthest = nearest.argmax()
            chosen.append(others[farthest])
            distance = np.linalg.norm(places - places[farthest], axis=1)
            nearest = np.minimum(nearest, distance)
    return np.array(chosen).reshape(-1, 3)


def _to_oklab(rgb):
    """Return colours in the space of Ottosson, "A perceptual color space" (2020)."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    cones = linear @ np.array(
        [
            [0.4122214708, 0.2119034982, 0.0883024619],
            [0.5363325363, 0.6806995451, 0.2817188376],
            [0.0514459929, 0.1073969566, 0.6299787005],
        ]
    )
    return np.cbrt(cones) @ np.array(
        [
            [0.2104542553, 1.9779984951, 0.0259040371],
            [0.7936177850, -2.4285922050, 0.7827717662],
            [-0.0040720468, 0.4505937099, -0.8086757660],
        ]
    )
