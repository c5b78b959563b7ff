# SPDX-License-Identifier: BSD-3-Clause
"""How large clusters are."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_is_fitted, column_or_1d

from sklearn_scan._losses import is_confident
from sklearn_scan.inspection._plotting import (
    BLUE,
    QUIET,
    Display,
    find_bar_size,
    hide_spines,
    number_bars,
    write_legend,
)
from sklearn_scan.inspection._readable import keep_readable

# Of members that are not confident.
_LIGHT = "#9fc6de"


class ClusterSizesDisplay(Display):
    """A bar per cluster, from the largest: its confident members, and the others.

    Make one with `from_estimator` or `from_predictions`. All parameters are stored as
    attributes.

    Parameters
    ----------
    sizes : ndarray of shape (n_clusters,)
        The number of members of each cluster.
    n_confident : ndarray of shape (n_clusters,) or None, default=None
        How many of them are confident; None where this is not known.
    threshold : float or None, default=None
        Above which they are.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Where the bars were plotted last.
    figure_ : matplotlib.figure.Figure
        Its figure.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from sklearn_scan.inspection import ClusterSizesDisplay
    >>> display = ClusterSizesDisplay.from_predictions(
    ...     [0, 0, 1, 1, 1], confidence=[0.9, 1.0, 1.0, 0.8, 1.0]
    ... )
    >>> display.sizes, display.n_confident
    (array([2, 3]), array([1, 2]))
    >>> matplotlib.pyplot.close(display.figure_)
    """

    def __init__(self, sizes: Any, *, n_confident: Any = None, threshold: Any = None):
        self.sizes = sizes
        self.n_confident = n_confident
        self.threshold = threshold

    @classmethod
    def from_predictions(
        cls,
        labels: ArrayLike,
        confidence: ArrayLike | None = None,
        *,
        threshold: float = 0.9,
        n_clusters: int | None = None,
        ax: Any = None,
    ) -> "ClusterSizesDisplay":
        """Plot the sizes of given clusters.

        Parameters
        ----------
        labels : array-like of shape (n_samples,), dtype int
            Cluster numbers, from 0.
        confidence : array-like of shape (n_samples,) or None, default=None
            The largest probability of each sample. None plots the sizes alone.
        threshold : float, default=0.9
            A sample is confident if its probability is greater.
        n_clusters : int or None, default=None
            The number of clusters, where the last ones may be empty.
        ax : matplotlib.axes.Axes or None, default=None
            Where to plot; None makes a figure.

        Returns
        -------
        display : ClusterSizesDisplay
            With `ax_` and `figure_`.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the lengths differ, or a label is negative.
        """
        labels = column_or_1d(labels)
        check_consistent_length(labels, confidence)
        n_clusters = n_clusters or labels.max() + 1
        n_confident = None
        if confidence is None:
            threshold = None
        else:
            confident = is_confident(column_or_1d(confidence), threshold)
            n_confident = np.bincount(labels[confident], minlength=n_clusters)
        sizes = np.bincount(labels, minlength=n_clusters)
        return cls(sizes, n_confident=n_confident, threshold=threshold).plot(ax=ax)

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, threshold: float = 0.9, ax: Any = None
    ) -> "ClusterSizesDisplay":
        """Plot the sizes of the clusters that an estimator has found.

        Parameters
        ----------
        estimator : SCANClustering
            Fitted.
        threshold : float, default=0.9
            A sample is confident if its probability is greater. Not the `threshold` of
            the estimator, with which probabilities are compared before they are
            calibrated.
        ax : matplotlib.axes.Axes or None, default=None
            Where to plot; None makes a figure.

        Returns
        -------
        display : ClusterSizesDisplay
            With `ax_` and `figure_`.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        NotFittedError
            If the estimator is not fitted.
        """
        check_is_fitted(estimator, "prototypes_")
        estimator = keep_readable(estimator)
        return cls.from_predictions(
            estimator.labels_,
            estimator.confidence_,
            threshold=threshold,
            n_clusters=len(estimator.prototypes_),
            ax=ax,
        )

    def plot(self, *, ax: Any = None) -> "ClusterSizesDisplay":
        """Plot a bar per cluster, the largest first.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            Where to plot; None makes a figure.

        Returns
        -------
        self : ClusterSizesDisplay
            With `ax_` and `figure_`.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        sizes = np.asarray(self.sizes)
        ax = self._take_axes(ax, find_bar_size(len(sizes)))
        order = np.argsort(-sizes, kind="stable")
        places, heights, handles = np.arange(len(sizes)), sizes[order], []
        if self.n_confident is None:
            handles += [ax.bar(places, heights, color=BLUE, label="members")]
        else:
            below = np.asarray(self.n_confident)[order]
            share = below.sum() / max(1, sizes.sum())
            label = f"confidence above {self.threshold:g} ({share:.0%})"
            handles += [ax.bar(places, below, color=BLUE, label=label)]
            style = {"color": _LIGHT, "label": "others"}
            handles += [ax.bar(places, heights - below, bottom=below, **style)]
        equal = {"color": QUIET, "linewidth": 1, "linestyle": "--"}
        handles += [ax.axhline(sizes.mean(), label="equal sizes", **equal)]
        number_bars(ax, order)
        hide_spines(ax)
        write_legend(ax, handles)
        ax.set(xlabel="cluster, the largest first", ylabel="samples")
        return self
