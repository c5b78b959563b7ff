# SPDX-License-Identifier: BSD-3-Clause
"""Samples in two dimensions."""

from typing import Any, Literal

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA
from sklearn.utils.validation import check_is_fitted

from sklearn_scan._typing import SamplesLike
from sklearn_scan.inspection._pictures import read_pictures
from sklearn_scan.inspection._plotting import Display, find_cluster_colors
from sklearn_scan.inspection._readable import keep_readable, take_readable

# Above, the covariance takes longer than a randomized decomposition.
_MOST_FEATURES = 512

# The map by clusters: width by height, and how much of its cell a cluster fills.
_ASPECT, _FILLED = 1.6, 0.75

# The margin around all samples, as a share of their spread, and what they take of a
# figure, in square points.
_MARGIN, _POINTS_OF_ALL = 0.04, 30_000

# Figures of more clusters are wider, and numbers and thumbnails on them are smaller:
# inches, and points of both.
_FEW_CLUSTERS = 25
_SIZES_OF_FEW, _SIZES_OF_MANY = (7.0, 10, 34), (10.0, 7, 20)


class EmbeddingMapDisplay(Display):
    """Samples in two dimensions, coloured by their cluster.

    The maps are those of `write_gallery`. By "clusters", each cluster has a place of
    its own, near to those that are like it, and a sample in doubt lies on the way to
    its other choices. The gaps between clusters mean nothing there. By "embedding",
    samples lie at the first two principal components. Clusters that overlap there may
    be apart in other dimensions.

    The first eight colours can be told apart by the colour-blind; further ones are as
    different as possible. The number of each cluster stands at the median of its
    members, unless it would cover that of a larger cluster.

    Make one with `from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    places : ndarray of shape (n_samples, 2)
        Where samples lie; x to the right, y downwards.
    labels : ndarray of shape (n_samples,)
        Their clusters.
    images : dict of int to ndarray or None, default=None
        For some clusters the image, of shape (h, w) or (h, w, 3), that shows it best.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Where the map was plotted last.
    figure_ : matplotlib.figure.Figure
        Its figure.

    See Also
    --------
    write_gallery : The same maps, with all images.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.decomposition import PCA
    >>> from sklearn_scan import SCANClustering
    >>> from sklearn_scan.inspection import EmbeddingMapDisplay
    >>> images = load_digits().images[:200]
    >>> clusterer = SCANClustering(n_clusters=4, pretext=PCA(9), random_state=0)
    >>> clusterer = clusterer.fit(images)
    >>> display = EmbeddingMapDisplay.from_estimator(
    ...     clusterer, images, thumbnails=True
    ... )
    >>> display.places.shape, sorted(display.images)
    ((200, 2), [0, 1, 2, 3])
    >>> matplotlib.pyplot.close(display.figure_)
    """

    def __init__(self, places: Any, labels: Any, *, images: Any = None):
        self.places = places
        self.labels = labels
        self.images = images

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: SamplesLike,
        *,
        layout: Literal["clusters", "embedding"] = "clusters",
        thumbnails: bool = False,
        images: SamplesLike | None = None,
        cmap: Any = "gray",
        ax: Any = None,
    ) -> "EmbeddingMapDisplay":
        """Plot the samples that an estimator was fitted on.

        Parameters
        ----------
        estimator : SCANClustering
            Fitted.
        X : array-like, folder or sequence of paths
            What it was fitted on.
        layout : {"clusters", "embedding"}, default="clusters"
            Whether each cluster has a place of its own, or samples lie at the first two
            principal components of the embedding.
        thumbnails : bool, default=False
            Whether to draw the prototype of each cluster at its median, unless it would
            cover that of a larger cluster.
        images : array-like, folder, sequence of paths or of pictures, default=None
            Where thumbnails come from in place of `X`, one for each sample; needed for
            rows.
        cmap : str or matplotlib.colors.Colormap, default="gray"
            Colours of gray thumbnails.
        ax : matplotlib.axes.Axes or None, default=None
            Where to plot; None makes a figure.

        Returns
        -------
        display : EmbeddingMapDisplay
            With `ax_` and `figure_`.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If `layout` is something else, `X` is not what it was fitted on, or
            thumbnails are asked for of rows without `images`.
        """
        check_is_fitted(estimator, "prototypes_")
        X, estimator = take_readable(estimator, X), keep_readable(estimator)
        labels, embedding = estimator.labels_, estimator.embedding_
        if layout == "clusters":
            places = arrange(estimator._predict_proba_fitted(X), labels, embedding)
        elif layout == "embedding":
            places = project(embedding)
        else:
            raise ValueError(
                f'layout must be "clusters" or "embedding". Got {layout!r}.'
            )
        shown = None
        if thumbnails:
            clusters = np.flatnonzero(estimator.prototypes_ >= 0)
            prototypes = estimator.prototypes_[clusters]
            pictures = read_pictures(estimator, X, images, prototypes)
            shown = dict(zip(clusters.tolist(), pictures, strict=True))
        return cls(places, labels, images=shown).plot(cmap=cmap, ax=ax)

    def plot(self, *, cmap: Any = "gray", ax: Any = None) -> "EmbeddingMapDisplay":
        """Plot the map.

        Parameters
        ----------
        cmap : str or matplotlib.colors.Colormap, default="gray"
            Colours of gray thumbnails.
        ax : matplotlib.axes.Axes or None, default=None
            Where to plot; None makes a figure.

        Returns
        -------
        self : EmbeddingMapDisplay
            With `ax_` and `figure_`.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        sizes = np.bincount(self.labels)
        is_few = len(sizes) <= _FEW_CLUSTERS
        inches, points, side = _SIZES_OF_FEW if is_few else _SIZES_OF_MANY
        low, high = self.places.min(axis=0), self.places.max(axis=0)
        spread = np.maximum(high - low, 1e-3)
        ratio = np.clip(spread[1] / spread[0], 0.4, 1)
        ax = self._take_axes(ax, (inches, ratio * inches))
        colors = find_cluster_colors(len(sizes))
        size = np.clip(_POINTS_OF_ALL / len(self.places), 3, 16)
        style = {"s": size, "alpha": 0.6, "linewidths": 0}
        ax.scatter(*self.places.T, c=colors[self.labels], **style)
        left, top = low - _MARGIN * spread
        right, bottom = high + _MARGIN * spread
        # From the top downwards, as on a screen.
        ax.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
        ax.set_axis_off()
        self._settle_layout()
        self._write_clusters(sizes, colors, points, side, cmap)
        return self

    def _write_clusters(self, sizes, colors, points, side, cmap):
        """Draw numbers and thumbnails, but for those that would cover earlier ones."""
        largest_first = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]
        places = {k: np.median(self.places[self.labels == k], 0) for k in largest_first}
        images = self.images or {}
        reach = (1.2 * side, side + 1.8 * points) if images else (1.8 * points, points)
        for cluster, place in _keep_apart(places, reach, self.ax_):
            rise = 0.0
            if cluster in images:
                self._draw_thumbnail(cluster, place, side, colors[cluster], cmap)
                rise = 0.5 * side + 0.8 * points
            self._write_number(cluster, place, rise, points)

    def _draw_thumbnail(self, cluster, place, side, color, cmap):
        from matplotlib.offsetbox import AnnotationBbox, OffsetImage

        image = self.images[cluster]
        zoom = side / max(image.shape[:2])
        picture = OffsetImage(image, zoom=zoom, cmap=cmap, clim=(0, 1))
        frame = {"edgecolor": color, "linewidth": 2}
        box = AnnotationBbox(picture, place, pad=0.05, bboxprops=frame)
        self.ax_.add_artist(box)

    def _write_number(self, cluster, place, rise, points):
        from matplotlib.patheffects import withStroke

        self.ax_.annotate(
            str(cluster),
            place,
            xytext=(0, rise),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=points,
            fontweight="bold",
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )


def _keep_apart(places, reach, ax):
    """Return what can be written, the first rather than the last.

    Parameters
    ----------
    places : dict of ndarray of shape (2,)
        Where things are to be written, in the units of the axes.
    reach : tuple of float
        Width and height of what is written, in points.
    ax : matplotlib.axes.Axes
        Where.

    Returns
    -------
    kept : list of tuple
        The items of `places` that do not overlap.
    """
    kept, taken = [], np.empty((0, 2))
    for name, place in places.items():
        point = ax.transData.transform(place) * 72 / ax.figure.dpi
        if (np.abs(taken - point) >= reach).any(axis=1).all():
            kept.append((name, place))
            taken = np.vstack([taken, point])
    return kept


def project(rows):
    """Return the first two principal components of rows, in [0, 1].

    Both have one scale, and a thousandth at each end lies on the border: a few rows far
    away do not push all others together.
    """
    rows = np.asarray(rows, dtype=np.float32)
    places = np.zeros((len(rows), 2), dtype=np.float32)
    n_components = min(2, rows.shape[1], len(rows))
    if n_components and np.ptp(rows, axis=0).max() > 0:
        is_narrow = rows.shape[1] <= _MOST_FEATURES
        solver = "covariance_eigh" if is_narrow else "randomized"
        pca = PCA(n_components, svd_solver=solver, random_state=0)
        places[:, :n_components] = pca.fit_transform(rows)
    low, high = np.quantile(places, [0.001, 0.999], axis=0)
    span = max((high - low).max(), np.finfo(np.float32).tiny)
    return ((places - (low + high) / 2) / span + 0.5).clip(0, 1)


def arrange(probabilities, labels, embedding):
    """Return places at which clusters lie apart, in [0, 1].

    Each cluster has a cell of a grid, such that clusters near to each other in the
    embedding have cells near to each other. A sample lies at the mean of the cells of
    all clusters, weighted by its probabilities: in doubt, between them. Around this
    point, the members of a cluster spread as their principal components do.
    """
    n_clusters = probabilities.shape[1]
    n_columns = int(np.ceil(np.sqrt(_ASPECT * n_clusters)))
    n_rows = -(-n_clusters // n_columns)
    cells = np.stack(np.divmod(np.arange(n_rows * n_columns), n_columns)[::-1], axis=1)
    cells = cells - (np.array([n_columns, n_rows]) - 1) / 2
    centers = np.zeros((n_clusters, embedding.shape[1]))
    places = np.empty((len(labels), 2))
    for cluster in np.unique(labels):
        members = labels == cluster
        centers[cluster] = embedding[members].mean(axis=0)
        places[members] = _FILLED * (project(embedding[members]) - 0.5)
    spread = (project(centers) - 0.5) * [n_columns, n_rows]
    _, chosen = linear_sum_assignment(cdist(spread, cells, "sqeuclidean"))
    places += probabilities @ cells[chosen]
    return (places / max(n_columns, n_rows) + 0.5).clip(0, 1)
