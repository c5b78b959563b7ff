# SPDX-License-Identifier: BSD-3-Clause
"""What is in each cluster, as a picture."""

from typing import Any

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from sklearn_scan._typing import RandomState, SamplesLike
from sklearn_scan.inspection._pictures import read_pictures
from sklearn_scan.inspection._rows import FIRST, PLAIN, ImageRow, RowsDisplay


class PrototypesDisplay(RowsDisplay):
    """A row per cluster: its prototype, and members drawn at random.

    Members are drawn at random, and not by confidence, since the most confident members
    look right in a bad cluster too. The prototype is not drawn again. Beside each row
    stand the number of members and their mean confidence. More than 25 clusters are
    drawn in several columns.

    Make one with `from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    images : list of ndarray of shape (n_shown, h, w) or (n_shown, h, w, 3)
        For each cluster its prototype and members, with black at 0 and white at 1.
        Of no image where a cluster is empty.
    indices : list of ndarray of shape (n_shown,)
        For each cluster the numbers of these samples.
    sizes : ndarray of shape (n_clusters,)
        The number of members.
    confidences : ndarray of shape (n_clusters,)
        Their mean confidence; NaN where a cluster is empty.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Where the images were plotted last.
    figure_ : matplotlib.figure.Figure
        Its figure.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.decomposition import PCA
    >>> from sklearn_scan import SCANClustering
    >>> from sklearn_scan.inspection import PrototypesDisplay
    >>> images = load_digits().images[:200]
    >>> clusterer = SCANClustering(n_clusters=4, pretext=PCA(9), random_state=0)
    >>> display = PrototypesDisplay.from_estimator(clusterer.fit(images), images)
    >>> len(display.images), display.images[0].shape
    (4, (9, 8, 8))
    >>> matplotlib.pyplot.close(display.figure_)
    """

    def __init__(self, images: Any, *, indices: Any, sizes: Any, confidences: Any):
        self.images = images
        self.indices = indices
        self.sizes = sizes
        self.confidences = confidences

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: SamplesLike,
        *,
        images: SamplesLike | None = None,
        n_members: int = 8,
        random_state: RandomState = 0,
        cmap: Any = "gray",
        ax: Any = None,
    ) -> "PrototypesDisplay":
        """Plot the clusters of the samples that an estimator was fitted on.

        Parameters
        ----------
        estimator : SCANClustering
            Fitted.
        X : array-like, folder or sequence of paths
            What it was fitted on. Of files, only those that are shown are read.
        images : array-like, folder, sequence of paths or of pictures, default=None
            What is shown in place of `X`, one for each sample; needed for rows.
        n_members : int, default=8
            How many members are shown beside the prototype.
        random_state : int, RandomState instance or None, default=0
            Determines the members.
        cmap : str or matplotlib.colors.Colormap, default="gray"
            Colours of gray images; "gray_r" for ink on paper.
        ax : matplotlib.axes.Axes or None, default=None
            Where to plot; None makes a figure.

        Returns
        -------
        display : PrototypesDisplay
            With `ax_` and `figure_`.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If it was fitted on rows and there are no `images`, or on another number of
            samples, or `n_members` is negative.
        """
        check_is_fitted(estimator, "prototypes_")
        if n_members < 0:
            raise ValueError(f"n_members must be at least 0. Got {n_members!r}.")
        indices = _choose(estimator, n_members, check_random_state(random_state))
        members = [
            estimator.confidence_[estimator.labels_ == cluster]
            for cluster in range(len(indices))
        ]
        shown = read_pictures(estimator, X, images, np.concatenate(indices))
        ends = np.cumsum([len(each) for each in indices])
        display = cls(
            np.split(shown, ends[:-1]),
            indices=indices,
            sizes=np.array([len(each) for each in members]),
            confidences=np.array(
                [each.mean() if len(each) else np.nan for each in members]
            ),
        )
        return display.plot(cmap=cmap, ax=ax)

    def plot(self, *, cmap: Any = "gray", ax: Any = None) -> "PrototypesDisplay":
        """Plot the images.

        Parameters
        ----------
        cmap : str or matplotlib.colors.Colormap, default="gray"
            Colours of gray images; "gray_r" for ink on paper.
        ax : matplotlib.axes.Axes or None, default=None
            Where to plot; None makes a figure.

        Returns
        -------
        self : PrototypesDisplay
            With `ax_` and `figure_`.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        rows = [
            ImageRow(
                self._describe(cluster),
                images,
                [PLAIN if number else FIRST for number in range(len(images))],
            )
            for cluster, images in enumerate(self.images)
        ]
        headings = "prototype", "members drawn at random"
        return self._draw_rows(rows, headings, cmap=cmap, ax=ax)

    def _describe(self, cluster):
        size, confidence = self.sizes[cluster], self.confidences[cluster]
        if size == 0:
            return f"cluster {cluster}\nno image"
        images = "1 image" if size == 1 else f"{size:,} images"
        return f"cluster {cluster}\n{images}, confidence {confidence:.3f}"


def _choose(estimator, n_members, random_state):
    """Return for each cluster the samples to be shown, its prototype first."""
    chosen = []
    for cluster, prototype in enumerate(estimator.prototypes_):
        if prototype < 0:
            chosen.append(np.empty(0, dtype=np.int64))
            continue
        members = np.flatnonzero(estimator.labels_ == cluster)
        others = random_state.permutation(members[members != prototype])[:n_members]
        chosen.append(np.append(prototype, others))
    return chosen
