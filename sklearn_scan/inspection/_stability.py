# SPDX-License-Identifier: BSD-3-Clause
"""Which clusters are found again in a part of the samples."""

import warnings
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from sklearn_scan._criteria import compare_parts
from sklearn_scan._scan import SCANClustering
from sklearn_scan._typing import RandomState
from sklearn_scan.inspection._plotting import (
    BLUE,
    ORANGE,
    QUIET,
    VERMILION,
    Display,
    find_bar_size,
    hide_spines,
    number_bars,
    write_legend,
)
from sklearn_scan.inspection._readable import keep_readable
from sklearn_scan.model_selection._resampling import make_quick_clusterer

#: What Hennig advises: clusters above the first value are stable, those below the
#: second are not to be trusted.
STABLE, UNSTABLE = 0.75, 0.6

# On digits and on features of photographs, the stabilities of clusters differ by 0.02
# on average from those with 20 heads and 500 steps, which take two to five times as
# long.
_N_HEADS = 4


def cluster_stability(
    estimator: SCANClustering,
    *,
    n_resamples: int = 20,
    max_samples: int | float = 0.5,
    random_state: RandomState = None,
) -> np.ndarray:
    """Measure how well each cluster is found again in a part of the samples.

    The clusterwise stability of Hennig [1]_, by subsetting: heads are searched anew on
    parts of the embedding, drawn without replacement. For each cluster C of the
    estimator, with its members in the part, the most similar cluster D that was found
    there is looked for, by the Jaccard similarity ``|C and D| / |C or D|``; the
    stability is the mean of this similarity over the parts.

    By the experience of Hennig, a cluster above 0.75 is stable; between 0.6 and 0.75
    there is something, but which samples belong to it is doubtful; and one below 0.6
    should not be trusted. A stable cluster is found again, which does not make it
    meaningful.

    Only the search of heads is repeated, and neither the pretext nor the training on
    views, whose own randomness is not measured. A part of 2,500 samples takes about a
    second, or a few where clusters lie far apart.

    Parameters
    ----------
    estimator : SCANClustering
        Fitted; it is not changed. `n_clusters`, `K` and `entropy_weight` are taken from
        it, and `n_heads` is 4.
    n_resamples : int, default=20
        How many parts are drawn.
    max_samples : int or float, default=0.5
        Samples in each part: their number, or a share of all. A number bounds the time
        on many samples; the fewer, the less stable are clusters.
    random_state : int, RandomState instance or None, default=None
        Determines the parts and the search in each. Pass an int for the same
        stabilities in every call.

    Returns
    -------
    stability : ndarray of shape (n_clusters,)
        Between 0 and 1; NaN for a cluster without a member.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    ValueError
        If `n_resamples` is less than 1, or `max_samples` leaves fewer samples than
        clusters, or is more than there are.

    See Also
    --------
    StabilityDisplay : The same as a picture, with each part.
    write_gallery : Shows stabilities with ``stability=True``.

    References
    ----------
    .. [1] C. Hennig, "Cluster-wise assessment of cluster stability", Computational
       Statistics & Data Analysis 52, 2007.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn_scan import SCANClustering
    >>> from sklearn_scan.inspection import cluster_stability
    >>> X, _ = make_blobs(150, centers=3, cluster_std=0.5, random_state=0)
    >>> clusterer = SCANClustering(n_clusters=3, random_state=0).fit(X)
    >>> stability = cluster_stability(clusterer, n_resamples=2, random_state=0)
    >>> stability.shape, bool((stability > 0.75).all())
    ((3,), True)
    """
    return _average(_resample(estimator, n_resamples, max_samples, random_state))


class StabilityDisplay(Display):
    """A bar per cluster, from the most stable: how well it is found again.

    Bars are means over parts of the samples, and dots the single parts; see
    `cluster_stability`.

    Make one with `from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    similarities : ndarray of shape (n_resamples, n_clusters)
        For each part of the samples and each cluster, the Jaccard similarity to the
        most similar cluster that was found in the part; NaN where no member of the
        cluster was in it.

    Attributes
    ----------
    stability : ndarray of shape (n_clusters,)
        The means over parts, as `cluster_stability` returns them.
    ax_ : matplotlib.axes.Axes
        Where the bars were plotted last.
    figure_ : matplotlib.figure.Figure
        Its figure.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn_scan import SCANClustering
    >>> from sklearn_scan.inspection import StabilityDisplay
    >>> X, _ = make_blobs(150, centers=3, cluster_std=0.5, random_state=0)
    >>> clusterer = SCANClustering(n_clusters=3, random_state=0).fit(X)
    >>> display = StabilityDisplay.from_estimator(
    ...     clusterer, n_resamples=2, random_state=0
    ... )
    >>> display.similarities.shape
    (2, 3)
    >>> matplotlib.pyplot.close(display.figure_)
    """

    def __init__(self, similarities: Any):
        self.similarities = similarities

    @property
    def stability(self):
        """The means over parts."""
        return _average(np.asarray(self.similarities))

    @classmethod
    def from_estimator(
        cls,
        estimator: SCANClustering,
        *,
        n_resamples: int = 20,
        max_samples: int | float = 0.5,
        random_state: RandomState = None,
        ax: Any = None,
    ) -> "StabilityDisplay":
        """Measure and plot the stability of the clusters of an estimator.

        Parameters
        ----------
        estimator, n_resamples, max_samples, random_state
            As in `cluster_stability`.
        ax : matplotlib.axes.Axes or None, default=None
            Where to plot; None makes a figure.

        Returns
        -------
        display : StabilityDisplay
            With `ax_` and `figure_`.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        NotFittedError, ValueError
            As `cluster_stability`.
        """
        found = _resample(estimator, n_resamples, max_samples, random_state)
        return cls(found).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> "StabilityDisplay":
        """Plot a bar per cluster, the most stable first; empty ones come last.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            Where to plot; None makes a figure.

        Returns
        -------
        self : StabilityDisplay
            With `ax_` and `figure_`.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        stability = self.stability
        ax = self._take_axes(ax, find_bar_size(len(stability)))
        order = np.argsort(-stability, kind="stable")  # NaN is last
        heights = stability[order]
        levels = {
            f"stable: {STABLE} or more": (BLUE, heights >= STABLE),
            "doubtful": (ORANGE, (heights < STABLE) & (heights >= UNSTABLE)),
            f"unstable: below {UNSTABLE}": (VERMILION, heights < UNSTABLE),
        }
        handles = []
        for label, (color, chosen) in levels.items():
            places = np.flatnonzero(chosen)
            style = {"color": color, "alpha": 0.6, "label": f"{label} ({len(places)})"}
            if len(places):
                handles += [ax.bar(places, heights[places], **style)]
        for bound in (STABLE, UNSTABLE):
            ax.axhline(bound, color=QUIET, linewidth=0.8, linestyle="--")
        similarities = np.asarray(self.similarities)[:, order]
        places = np.broadcast_to(np.arange(len(order)), similarities.shape)
        style = {"s": 5, "color": "0.2", "alpha": 0.5, "linewidths": 0, "zorder": 3}
        handles += [ax.scatter(places, similarities, label="each part", **style)]
        number_bars(ax, order)
        hide_spines(ax)
        write_legend(ax, handles)
        ax.set(ylim=(0, 1.02), xlabel="cluster, the most stable first")
        ax.set_ylabel("stability (mean Jaccard)")
        return self


def _resample(estimator, n_resamples, max_samples, random_state):
    """Return how similar clusters are to those of parts: (n_resamples, n_clusters)."""
    check_is_fitted(estimator, "prototypes_")
    estimator = keep_readable(estimator)
    n_clusters, n_samples = len(estimator.prototypes_), len(estimator.labels_)
    if n_resamples < 1:
        raise ValueError(f"n_resamples must be at least 1. Got {n_resamples!r}.")
    n_drawn = _find_n_drawn(max_samples, n_samples, n_clusters)
    random_state = check_random_state(random_state)
    similarities = np.empty((n_resamples, n_clusters))
    for row in similarities:
        part = random_state.permutation(n_samples)[:n_drawn]
        seed = random_state.randint(np.iinfo(np.int32).max)
        found = _find_clusters(estimator, part, seed)
        row[:] = compare_clusters(estimator.labels_[part], found, n_clusters)
    return similarities


def _find_n_drawn(max_samples, n_samples, n_clusters):
    is_number = isinstance(max_samples, Integral)
    n_drawn = int(max_samples if is_number else max_samples * n_samples)
    if not n_clusters <= n_drawn <= n_samples:
        raise ValueError(
            f"max_samples={max_samples!r} gives parts of {n_drawn} samples. They must "
            f"have at least as many as there are clusters, {n_clusters}, and at most "
            f"all {n_samples}."
        )
    return n_drawn


def _find_clusters(estimator, part, seed):
    """Cluster a part of the embedding; return the labels."""
    n_clusters = len(estimator.prototypes_)
    quick = make_quick_clusterer(estimator, n_clusters, len(part), _N_HEADS, seed)
    with warnings.catch_warnings():
        # Of a part, clusters may well be empty.
        warnings.simplefilter("ignore")
        return quick.fit(estimator.embedding_[part]).labels_


def compare_clusters(labels, found, n_clusters):
    """Return how similar each cluster is to the most similar one of another clustering.

    Parameters
    ----------
    labels, found : ndarray of shape (n_samples,)
        Two clusterings of the same samples.
    n_clusters : int
        Of the first one.

    Returns
    -------
    similarity : ndarray of shape (n_clusters,)
        The largest Jaccard similarity; NaN for a cluster without a member.
    """
    similarity = np.full(n_clusters, np.nan)
    similarity[np.unique(labels)] = compare_parts(labels, found).max(axis=1)
    return similarity


def _average(similarities):
    """Return means over parts; NaN where a cluster has a member in none."""
    is_known = ~np.isnan(similarities)
    n_known = is_known.sum(axis=0)
    sums = np.where(is_known, similarities, 0).sum(axis=0)
    return np.where(n_known, sums / np.maximum(n_known, 1), np.nan)
