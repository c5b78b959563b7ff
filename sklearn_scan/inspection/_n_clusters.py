# SPDX-License-Identifier: BSD-3-Clause
"""How well each number of clusters suits."""

from typing import Any

from numpy.typing import ArrayLike

from sklearn_scan._scan import SCANClustering
from sklearn_scan._typing import RandomState
from sklearn_scan.inspection._plotting import (
    ACCENT,
    BLUE,
    QUIET,
    Display,
    hide_spines,
    write_legend,
)
from sklearn_scan.model_selection import NumberOfClusters, estimate_n_clusters

_SIZE = 5.6, 3.6
# Numbers that may be written below the axis, which is logarithmic.
_TICKS = (2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 1000)


class NumberOfClustersDisplay(Display):
    """A curve over the number of clusters, and the number that it speaks for.

    The curve is the criterion that decides; the band, its standard deviation over parts
    of the samples. The triangles are what this and two other criteria say. The shaded
    interval has all three, and their medians in single parts.

    Make one with `from_estimator` or `from_estimate`. All parameters are stored as
    attributes.

    Parameters
    ----------
    estimate : NumberOfClusters
        As `estimate_n_clusters` returns it.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Where the curve was plotted last.
    figure_ : matplotlib.figure.Figure
        Its figure.

    See Also
    --------
    sklearn_scan.model_selection.estimate_n_clusters : The same as numbers.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn_scan.inspection import NumberOfClustersDisplay
    >>> X, _ = make_blobs(200, centers=4, cluster_std=0.5, random_state=1)
    >>> display = NumberOfClustersDisplay.from_estimator(X, random_state=0)
    >>> display.estimate.n_clusters
    4
    >>> matplotlib.pyplot.close(display.figure_)
    """

    def __init__(self, estimate: NumberOfClusters):
        self.estimate = estimate

    @classmethod
    def from_estimate(
        cls, estimate: NumberOfClusters, *, ax: Any = None
    ) -> "NumberOfClustersDisplay":
        """Plot an estimate.

        Parameters
        ----------
        estimate : NumberOfClusters
            As `estimate_n_clusters` returns it.
        ax : matplotlib.axes.Axes or None, default=None
            Where to plot; None makes a figure.

        Returns
        -------
        display : NumberOfClustersDisplay
            With `ax_` and `figure_`.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        return cls(estimate).plot(ax=ax)

    @classmethod
    def from_estimator(
        cls,
        X: ArrayLike | SCANClustering,
        *,
        numbers: ArrayLike | str = "auto",
        n_resamples: int = 5,
        max_samples: int = 1500,
        random_state: RandomState = None,
        ax: Any = None,
    ) -> "NumberOfClustersDisplay":
        """Estimate the number of clusters, and plot it.

        Parameters
        ----------
        X, numbers, n_resamples, max_samples, random_state
            As in `estimate_n_clusters`: a fitted clusterer, or an embedding.
        ax : matplotlib.axes.Axes or None, default=None
            Where to plot; None makes a figure.

        Returns
        -------
        display : NumberOfClustersDisplay
            With `ax_` and `figure_`.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        NotFittedError, ValueError
            As `estimate_n_clusters`.
        """
        estimate = estimate_n_clusters(
            X,
            numbers=numbers,
            n_resamples=n_resamples,
            max_samples=max_samples,
            random_state=random_state,
        )
        return cls(estimate).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> "NumberOfClustersDisplay":
        """Plot the curve, the estimate and its interval.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            Where to plot; None makes a figure.

        Returns
        -------
        self : NumberOfClustersDisplay
            With `ax_` and `figure_`.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        found = self.estimate
        ax = self._take_axes(ax, _SIZE)
        numbers, scores = found.numbers, found.scores
        low, high = found.interval
        label = f"interval: {low} to {high}"
        style = {"color": QUIET, "alpha": 0.15, "linewidth": 0, "label": label}
        # As wide as the numbers themselves, so that a single one is seen.
        handles = [ax.axvspan(low - 0.4, high + 0.4, **style)]
        ax.fill_between(
            numbers,
            scores - found.deviations,
            scores + found.deviations,
            color=BLUE,
            alpha=0.2,
            linewidth=0,
        )
        style = {"color": BLUE, "marker": ".", "label": found.criterion}
        handles += ax.plot(numbers, scores, **style)
        style = {"color": ACCENT, "linewidth": 1.5, "linestyle": "--"}
        label = f"estimate: {found.n_clusters}"
        handles += [ax.axvline(found.n_clusters, label=label, **style)]
        style = {"color": ACCENT, "marker": "^", "linestyle": "none"}
        votes, at_the_axis = list(found.votes.values()), ax.get_xaxis_transform()
        style |= {"label": "votes", "transform": at_the_axis}
        handles += ax.plot(votes, [0.03] * len(votes), **style)
        self._write_numbers()
        hide_spines(ax)
        write_legend(ax, handles, ncols=1)
        ax.set(xlabel="number of clusters", ylabel=f"mean {found.criterion}")
        return self

    def _write_numbers(self):
        """Give small numbers the room that they need, and write some of all."""
        numbers = self.estimate.numbers
        self.ax_.set_xscale("log")
        self.ax_.minorticks_off()
        shown = [k for k in _TICKS if numbers[0] <= k <= numbers[-1]] or numbers
        self.ax_.set_xticks(shown, [str(number) for number in shown])
