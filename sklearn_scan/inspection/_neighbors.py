# SPDX-License-Identifier: BSD-3-Clause
"""What the mined neighbours of samples look like."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted, column_or_1d

from sklearn_scan._typing import SamplesLike
from sklearn_scan.inspection._pictures import read_pictures
from sklearn_scan.inspection._rows import FIRST, MARKED, PLAIN, ImageRow, RowsDisplay


class NeighborsDisplay(RowsDisplay):
    """A row per sample: the sample, and its nearest mined neighbours.

    The clustering learns that neighbours belong together. A neighbour in another
    cluster has an orange frame and the number of that cluster; where there are many,
    the embedding does not tell the two clusters apart. More than 25 samples are drawn
    in several columns.

    Make one with `from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    images : list of ndarray of shape (n_shown, h, w) or (n_shown, h, w, 3)
        For each sample its image and those of its neighbours, nearest first, with black
        at 0 and white at 1.
    indices : list of ndarray of shape (n_shown,)
        The numbers of these samples.
    labels : list of ndarray of shape (n_shown,)
        Their clusters.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Where the images were plotted last.
    figure_ : matplotlib.figure.Figure
        Its figure.

    See Also
    --------
    sklearn_scan.metrics.neighbor_purity_score : How many neighbours are of one class.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.decomposition import PCA
    >>> from sklearn_scan import SCANClustering
    >>> from sklearn_scan.inspection import NeighborsDisplay
    >>> images = load_digits().images[:200]
    >>> clusterer = SCANClustering(n_clusters=4, pretext=PCA(9), random_state=0)
    >>> clusterer = clusterer.fit(images)
    >>> least_sure = clusterer.confidence_.argsort()[:3]
    >>> display = NeighborsDisplay.from_estimator(
    ...     clusterer, images, indices=least_sure
    ... )
    >>> len(display.images), display.images[0].shape
    (3, (9, 8, 8))
    >>> matplotlib.pyplot.close(display.figure_)
    """

    def __init__(self, images: Any, *, indices: Any, labels: Any):
        self.images = images
        self.indices = indices
        self.labels = labels

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: SamplesLike,
        *,
        images: SamplesLike | None = None,
        indices: ArrayLike | None = None,
        n_neighbors: int = 8,
        cmap: Any = "gray",
        ax: Any = None,
    ) -> "NeighborsDisplay":
        """Plot neighbours of the samples that an estimator was fitted on.

        Parameters
        ----------
        estimator : SCANClustering
            Fitted.
        X : array-like, folder or sequence of paths
            What it was fitted on. Of files, only those that are shown are read.
        images : array-like, folder, sequence of paths or of pictures, default=None
            What is shown in place of `X`, one for each sample; needed for rows.
        indices : array-like of shape (n_rows,), dtype int, default=None
            The samples whose neighbours are shown. None for the prototype of each
            cluster.
        n_neighbors : int, default=8
            How many neighbours are shown, of those that were mined.
        cmap : str or matplotlib.colors.Colormap, default="gray"
            Colours of gray images; "gray_r" for ink on paper.
        ax : matplotlib.axes.Axes or None, default=None
            Where to plot; None makes a figure.

        Returns
        -------
        display : NeighborsDisplay
            With `ax_` and `figure_`.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If it was fitted on rows and there are no `images`, or on another number of
            samples; if it has no neighbours; or if `indices` are not those of samples.
        """
        check_is_fitted(estimator, "prototypes_")
        prototypes = estimator.prototypes_
        indices = prototypes[prototypes >= 0] if indices is None else indices
        neighbors = _find_neighbors(estimator, column_or_1d(indices), n_neighbors)
        shown = read_pictures(estimator, X, images, np.concatenate(neighbors))
        ends = np.cumsum([len(each) for each in neighbors])
        display = cls(
            np.split(shown, ends[:-1]),
            indices=neighbors,
            labels=[estimator.labels_[each] for each in neighbors],
        )
        return display.plot(cmap=cmap, ax=ax)

    def plot(self, *, cmap: Any = "gray", ax: Any = None) -> "NeighborsDisplay":
        """Plot the images.

        Parameters
        ----------
        cmap : str or matplotlib.colors.Colormap, default="gray"
            Colours of gray images; "gray_r" for ink on paper.
        ax : matplotlib.axes.Axes or None, default=None
            Where to plot; None makes a figure.

        Returns
        -------
        self : NeighborsDisplay
            With `ax_` and `figure_`.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        parts = zip(self.images, self.indices, self.labels, strict=True)
        rows = [_make_row(*part) for part in parts]
        return self._draw_rows(rows, ("sample", "its neighbours"), cmap=cmap, ax=ax)


def _find_neighbors(estimator, indices, n_neighbors):
    """Return for each sample its index and those of its nearest neighbours."""
    neighbors = np.asarray(estimator.neighbors_)
    if n_neighbors < 1:
        raise ValueError(f"n_neighbors must be at least 1. Got {n_neighbors!r}.")
    if neighbors.shape[1] == 0:
        raise ValueError(
            f"{type(estimator).__name__} was fitted with K=0 and has no neighbours to "
            "show. Fit it with a larger K."
        )
    n_samples = len(neighbors)
    if len(indices) == 0 or indices.min() < 0 or indices.max() >= n_samples:
        raise ValueError(
            f"indices must be one or more numbers of samples, from 0 to "
            f"{n_samples - 1}. Got {indices!r}."
        )
    near = neighbors[indices]
    return [
        np.append(index, others[others >= 0][:n_neighbors])
        for index, others in zip(indices, near, strict=True)
    ]


def _make_row(images, indices, labels):
    own, others = labels[0], labels[1:]
    agree = others == own
    return ImageRow(
        f"sample {indices[0]}, cluster {own}\n{agree.sum()} of {len(agree)} agree",
        images,
        [FIRST, *(PLAIN if is_same else MARKED for is_same in agree)],
        {i + 1: str(others[i]) for i in np.flatnonzero(~agree)},
    )
