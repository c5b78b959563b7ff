# SPDX-License-Identifier: BSD-3-Clause
"""Whether a clusterer is right as often as it is sure."""

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from sklearn_scan._criteria import find_agreement
from sklearn_scan._typing import SamplesLike
from sklearn_scan.inspection._plotting import (
    BLUE,
    ORANGE,
    QUIET,
    Display,
    hide_spines,
    write_legend,
)
from sklearn_scan.inspection._readable import keep_readable, take_readable
from sklearn_scan.metrics import (
    bin_by_confidence,
    check_probabilities,
    find_right,
    mean_distance,
)

# Numbers of samples are written onto so many bars.
_MOST_NUMBERS = 12

# For each kind: the colour, what is observed, its distance to confidence, and the axis.
_TEXTS = {
    "accuracy": (BLUE, "accuracy", "expected calibration error", "accuracy"),
    "agreement": (
        ORANGE,
        "neighbours in the same cluster",
        "mean distance",
        "agreement of neighbours (not accuracy)",
    ),
}


class ReliabilityDisplay(Display):
    """Confidence against accuracy, or against the agreement of neighbours.

    Samples are put into bins by their confidence, the largest probability. Where
    confidence can be taken for what it says, the accuracy in each bin is the confidence
    there, and bars end at the diagonal. Accuracy needs classes; clusters are matched
    with them one to one.

    Without classes, the share of a sample's neighbours that are in its cluster is shown
    instead. *This is not accuracy*: neighbours that are in a wrong cluster together
    agree. It can show doubt that confidence hides, and never that a clustering is
    right.

    Make one with `from_estimator` or `from_predictions`. All parameters are stored as
    attributes.

    Parameters
    ----------
    confidence : ndarray of shape (n_bins,)
        The mean confidence of the samples in each bin; NaN where there is none.
    observed : ndarray of shape (n_bins,)
        Their mean accuracy or agreement.
    counts : ndarray of shape (n_bins,)
        Their number.
    kind : {"accuracy", "agreement"}
        What is observed.

    Attributes
    ----------
    error : float
        Mean over samples of the distance between confidence and what is observed in
        their bin: for accuracy, the expected calibration error [1]_.
    ax_ : matplotlib.axes.Axes
        Where the bars were plotted last.
    figure_ : matplotlib.figure.Figure
        Its figure.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun and K. Weinberger, "On calibration of modern neural
       networks", ICML 2017, equation 3.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from sklearn_scan.inspection import ReliabilityDisplay
    >>> y_proba = [[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.4, 0.6]]
    >>> display = ReliabilityDisplay.from_predictions(
    ...     ["cat", "cat", "dog", "cat"], y_proba, n_bins=5
    ... )
    >>> display.counts
    array([0, 0, 1, 1, 2])
    >>> round(display.error, 3)
    0.25
    >>> matplotlib.pyplot.close(display.figure_)
    """

    def __init__(
        self,
        confidence: Any,
        observed: Any,
        *,
        counts: Any,
        kind: Literal["accuracy", "agreement"],
    ):
        self.confidence = confidence
        self.observed = observed
        self.counts = counts
        self.kind = kind

    @property
    def error(self):
        """Mean distance between confidence and what is observed."""
        return mean_distance(self.confidence, self.observed, self.counts)

    @classmethod
    def from_predictions(
        cls, y_true: ArrayLike, y_proba: ArrayLike, *, n_bins: int = 10, ax: Any = None
    ) -> "ReliabilityDisplay":
        """Plot the accuracy of given probabilities.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            Classes, as numbers or strings.
        y_proba : array-like of shape (n_samples, n_clusters)
            Probabilities of clusters. Those of highest probability are matched with
            classes one to one, as in `align_labels`.
        n_bins : int, default=10
            Bins of equal width between 0 and 1.
        ax : matplotlib.axes.Axes or None, default=None
            Where to plot; None makes a figure.

        Returns
        -------
        display : ReliabilityDisplay
            With `ax_` and `figure_`.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the lengths differ, or probabilities are not between 0 and 1.
        """
        y_proba = check_probabilities(y_proba)
        right = find_right(y_true, y_proba.argmax(axis=1))
        return cls._bin(y_proba.max(axis=1), right, n_bins, "accuracy").plot(ax=ax)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: SamplesLike | None = None,
        y: ArrayLike | None = None,
        *,
        n_bins: int = 10,
        ax: Any = None,
    ) -> "ReliabilityDisplay":
        """Plot the accuracy of an estimator, or how far its neighbours agree.

        Parameters
        ----------
        estimator : SCANClustering
            Fitted.
        X : array-like or None, default=None
            Samples that it has not seen. None for those that it was fitted on.
        y : array-like of shape (n_samples,) or None, default=None
            The classes of the samples. None compares confidence with the agreement of
            mined neighbours, of which there are some for the training samples alone.
        n_bins : int, default=10
            Bins of equal width between 0 and 1.
        ax : matplotlib.axes.Axes or None, default=None
            Where to plot; None makes a figure.

        Returns
        -------
        display : ReliabilityDisplay
            With `ax_` and `figure_`.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If `X` is given and `y` is not, the lengths differ, or there is neither `y`
            nor a neighbour.
        """
        check_is_fitted(estimator, "prototypes_")
        X, estimator = take_readable(estimator, X), keep_readable(estimator)
        if X is not None and y is None:
            raise ValueError(
                "X was given without y. Give its classes as y; or leave X out, to "
                "compare the training samples with their neighbours."
            )
        if X is not None and y is not None:
            y_proba = estimator.predict_proba(X)
            return cls.from_predictions(y, y_proba, n_bins=n_bins, ax=ax)
        confidence, labels = estimator.confidence_, estimator.labels_
        if y is not None:
            observed, kind = find_right(y, labels), "accuracy"
        else:
            observed, kind = _compare_neighbors(estimator), "agreement"
        return cls._bin(confidence, observed, n_bins, kind).plot(ax=ax)

    @classmethod
    def _bin(cls, confidence, observed, n_bins, kind):
        """Take the means of samples in each bin; those of NaN are left out."""
        *means, counts = bin_by_confidence(confidence, observed, n_bins)
        return cls(*means, counts=counts, kind=kind)

    def plot(self, *, ax: Any = None) -> "ReliabilityDisplay":
        """Plot a bar per bin, with the number of its samples.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            Where to plot; None makes a figure.

        Returns
        -------
        self : ReliabilityDisplay
            With `ax_` and `figure_`.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        ax = self._take_axes(ax, (4.4, 4.9))
        color, what, measure, title = _TEXTS[self.kind]
        n_bins = len(self.counts)
        centers = (np.arange(n_bins) + 0.5) / n_bins
        heights = np.nan_to_num(self.observed)
        bars = ax.bar(centers, heights, 0.92 / n_bins, color=color, alpha=0.35)
        bars.set_label(f"{what}; {measure} {self.error:.3f}")
        style = {"color": color, "clip_on": False}
        dots = ax.plot(self.confidence, self.observed, "o", **style)[0]
        dots.set_label("at the mean confidence of the bin")
        line = ax.plot([0, 1], [0, 1], "--", color=QUIET, linewidth=1)[0]
        line.set_label("as often as the confidence says")
        write_legend(ax, [bars, dots, line], ncols=1)
        if n_bins <= _MOST_NUMBERS:
            self._write_counts(centers)
        ax.set(xlim=(0, 1), ylim=(0, 1.04), aspect="equal")
        ax.set(xlabel="confidence", ylabel=title)
        hide_spines(ax)
        return self

    def _write_counts(self, centers):
        """Write the number of samples of each bin at its foot."""
        for center, count in zip(centers, self.counts, strict=True):
            if count:
                style = {"ha": "center", "va": "bottom", "fontsize": 6.5}
                self.ax_.text(center, 0.01, f"{count:,}", **style)


def _compare_neighbors(estimator):
    """Return the share of neighbours in the cluster of each sample; NaN for none."""
    neighbors, labels = np.asarray(estimator.neighbors_), estimator.labels_
    if not (neighbors >= 0).any():
        raise ValueError(
            f"{type(estimator).__name__} has no neighbours to compare with (K=0). Give "
            "the classes of the samples as y."
        )
    return find_agreement(labels, neighbors)
