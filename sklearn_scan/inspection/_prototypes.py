# SPDX-License-Identifier: BSD-3-Clause
"""What is in each cluster, as a picture."""

from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from sklearn_scan._inputs import ArraySource, check_samples, find_paths
from sklearn_scan._typing import RandomState, SamplesLike
from sklearn_scan.inspection._plotting import import_pyplot

_ACCENT, _QUIET = "#d1495b", "0.4"
_PROTOTYPE_FRAME = {"edgecolor": _ACCENT, "linewidth": 2}
_MEMBER_FRAME = {"edgecolor": "0.85", "linewidth": 0.6}

# In widths of an image: between images, and between the prototype and the members.
_SPACE, _GAP = 0.13, 0.35

_INCHES = 0.56  # of the shorter side of an image and the space beside it
_INCHES_OF_LABELS = 2.2
_INCHES_OF_HEADING = 0.4
_INCHES_OF_MARGIN = 0.1


class PrototypesDisplay:
    """A row per cluster: its prototype, and members drawn at random.

    Members are drawn at random, and not by confidence, since the most confident members
    look right in a bad cluster too. The prototype is not drawn again. Beside each row
    stand the number of members and their mean confidence.

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
        clusterer: Any,
        X: SamplesLike,
        *,
        n_members: int = 8,
        random_state: RandomState = 0,
        cmap: Any = "gray",
        ax: Any = None,
    ) -> "PrototypesDisplay":
        """Plot the clusters of the samples that a clusterer was fitted on.

        Parameters
        ----------
        clusterer : SCANClustering
            Fitted on images.
        X : array-like, folder or sequence of paths
            What it was fitted on. Of files, only those that are shown are read.
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
            If the clusterer is not fitted.
        ValueError
            If it was fitted on rows that are no images or on another number of
            samples, or `n_members` is negative.
        """
        check_is_fitted(clusterer, "prototypes_")
        if clusterer.image_shape_ is None:
            raise ValueError(
                f"{type(clusterer).__name__} was fitted on rows of "
                f"{clusterer.n_features_in_} features, which cannot be drawn. Fit it "
                "on images, or give image_shape if the rows are images."
            )
        if n_members < 0:
            raise ValueError(f"n_members must be at least 0. Got {n_members!r}.")
        indices = _choose(clusterer, n_members, check_random_state(random_state))
        members = [
            clusterer.confidence_[clusterer.labels_ == cluster]
            for cluster in range(len(indices))
        ]
        display = cls(
            _read(clusterer, X, indices),
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
        plt = import_pyplot("PrototypesDisplay")
        shapes = [images.shape[1:3] for images in self.images if len(images)]
        height = shapes[0][0] / shapes[0][1]
        tops = np.arange(len(self.images)) * (height + _SPACE)
        right = _left_of(max(map(len, self.images)) - 1) + 1
        bottom = tops[-1] + height
        if ax is None:
            ax = _make_axes(plt, right, bottom, _INCHES / (min(1, height) + _SPACE))
        self.ax_, self.figure_ = ax, ax.figure
        for images, top in zip(self.images, tops, strict=True):
            self._draw_row(images, top, height, cmap)
        margin = _SPACE / 2  # for the frames
        ax.set(xlim=(-margin, right + margin), ylim=(bottom + margin, -margin))
        ax.set_aspect("equal")
        ax.spines[:].set_visible(False)
        self._write_labels(tops + height / 2)
        return self

    def _write_labels(self, centres):
        labels = [self._describe(cluster) for cluster in range(len(self.images))]
        self.ax_.set_yticks(centres, labels, fontsize=9)
        self.ax_.xaxis.tick_top()
        self.ax_.tick_params(length=0)
        ticks = {"prototype": 0.5}
        if max(map(len, self.images)) > 1:
            ticks["members drawn at random"] = _left_of(1)
        self.ax_.set_xticks(list(ticks.values()), list(ticks), fontsize="small")
        prototype, *members = self.ax_.get_xticklabels()
        prototype.set(color=_ACCENT)
        for label in members:
            label.set(color=_QUIET, ha="left")

    def _describe(self, cluster):
        size, confidence = self.sizes[cluster], self.confidences[cluster]
        if size == 0:
            return f"cluster {cluster}\nno image"
        images = "1 image" if size == 1 else f"{size:,} images"
        return f"cluster {cluster}\n{images}, confidence {confidence:.3f}"

    def _draw_row(self, images, top, height, cmap):
        from matplotlib.patches import Rectangle

        if len(images) == 0:
            text = "empty: no image is in this cluster"
            style = {"va": "center", "fontsize": "small", "color": _QUIET}
            self.ax_.text(0, top + height / 2, text, **style)
        for column, image in enumerate(images):
            left = _left_of(column)
            extent = (left, left + 1, top + height, top)
            self.ax_.imshow(image, cmap=cmap, vmin=0, vmax=1, extent=extent)
            style = _MEMBER_FRAME if column else _PROTOTYPE_FRAME
            frame = Rectangle((left, top), 1, height, fill=False, **style)
            self.ax_.add_patch(frame)


def _make_axes(plt, right, bottom, scale):
    """Make axes for `right` by `bottom` units of `scale` inches, and their labels."""
    size = right * scale + _INCHES_OF_LABELS, bottom * scale + _INCHES_OF_HEADING
    figure, ax = plt.subplots(figsize=size, layout="constrained")
    margin = {"w_pad": _INCHES_OF_MARGIN, "h_pad": _INCHES_OF_MARGIN}
    figure.get_layout_engine().set(**margin)
    # The layout makes room for the labels only where the axes touch their corner.
    ax.set_anchor("NW")
    return ax


def _left_of(column):
    """Return where a column of images starts."""
    return column * (1 + _SPACE) + (_GAP - _SPACE if column else 0)


def _choose(clusterer, n_members, random_state):
    """Return for each cluster the samples to be shown, its prototype first."""
    chosen = []
    for cluster, prototype in enumerate(clusterer.prototypes_):
        if prototype < 0:
            chosen.append(np.empty(0, dtype=np.int64))
            continue
        members = np.flatnonzero(clusterer.labels_ == cluster)
        others = random_state.permutation(members[members != prototype])[:n_members]
        chosen.append(np.append(prototype, others))
    return chosen


def _read(clusterer, X, indices):
    """Return for each cluster the images at its indices, as they are drawn."""
    paths = find_paths(X)
    spec, name = clusterer.input_spec_, type(clusterer).__name__
    # As `predict` does: columns of a DataFrame in another order are refused.
    validate = partial(validate_data, clusterer, reset=False)
    X = check_samples(X, spec, name, validate) if paths is None else paths
    if len(X) != len(clusterer.labels_):
        raise ValueError(
            f"X has {len(X)} samples, but {name} was fitted on "
            f"{len(clusterer.labels_)}. Pass what it was fitted on."
        )
    shown = np.concatenate(indices)
    if paths is None:
        X = X[shown]
    else:
        X = check_samples([paths[i] for i in shown], spec, name)
    X = np.asarray(X)  # decoded, where they were not
    decoded = ArraySource(X, spec.format, "cpu").read(torch.arange(len(X)))
    drawable = _as_drawn(decoded.movedim(1, -1).clamp(0, 1).numpy())
    return np.split(drawable, np.cumsum([len(each) for each in indices])[:-1])


def _as_drawn(images):
    """Return (n, h, w, c) as RGB where there are three channels, else as gray."""
    return images[..., :3] if images.shape[-1] >= 3 else images[..., 0]
