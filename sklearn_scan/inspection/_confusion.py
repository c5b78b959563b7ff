# SPDX-License-Identifier: BSD-3-Clause
"""Which classes went to which clusters, as a picture."""

from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from sklearn_scan._typing import SamplesLike
from sklearn_scan.inspection._plotting import Display
from sklearn_scan.metrics import Superclasses, aligned_confusion_matrix

# More do not fit beside each other in a figure of ordinary size.
_MAX_VALUES = 15
_MAX_TICKS = 40
_MAX_UPRIGHT_TICKS = 20

_LINE = {"color": "0.45", "linewidth": 0.7}


class ConfusionDisplay(Display):
    """Classes against the clusters that they are matched with.

    What is matched lies on the diagonal. Clusters of no class follow on the right,
    behind a line; the column of a class without a cluster is empty and called "–".

    Make one with `from_predictions` or `from_estimator`. All parameters are stored as
    attributes.

    Parameters
    ----------
    matrix : ndarray of shape (n_classes, n_columns)
        Counts, or shares of a class, as `aligned_confusion_matrix` returns them.
    class_names : list of str of length n_classes
        What rows are called.
    cluster_names : list of str of length n_columns
        What columns are called.
    superclasses : list or None, default=None
        The superclass of each row, those of a kind next to each other.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Where the matrix was plotted last.
    figure_ : matplotlib.figure.Figure
        Its figure.

    See Also
    --------
    sklearn_scan.metrics.aligned_confusion_matrix : The matrix alone.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from sklearn_scan.inspection import ConfusionDisplay
    >>> display = ConfusionDisplay.from_predictions(
    ...     ["cat", "cat", "dog", "owl"],
    ...     [1, 1, 0, 2],
    ...     superclasses={"cat": "mammal", "dog": "mammal", "owl": "bird"},
    ... )
    >>> display.class_names
    ['owl', 'cat', 'dog']
    >>> display.cluster_names
    ['2', '1', '0']
    >>> matplotlib.pyplot.close(display.figure_)
    """

    def __init__(
        self,
        matrix: Any,
        *,
        class_names: Any,
        cluster_names: Any,
        superclasses: Superclasses = None,
    ):
        self.matrix = matrix
        self.class_names = class_names
        self.cluster_names = cluster_names
        self.superclasses = superclasses

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        *,
        superclasses: Superclasses = None,
        normalize: Literal["true"] | None = "true",
        class_names: Any = None,
        ax: Any = None,
    ) -> "ConfusionDisplay":
        """Plot the clusters of samples whose classes are known.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            Classes, as numbers or strings.
        y_pred : array-like of shape (n_samples,)
            Clusters.
        superclasses : mapping or None, default=None
            For each class its superclass. Rows are ordered by it, lines are drawn
            between superclasses, and their names stand on the right.
        normalize : {None, "true"}, default="true"
            "true" plots the share of a class, None the number of samples.
        class_names : mapping, sequence of str or None, default=None
            What classes are called: for each class its name, or the names of all
            classes in their sorted order. None takes the classes themselves.
        ax : matplotlib.axes.Axes or None, default=None
            Where to plot; None makes a figure.

        Returns
        -------
        display : ConfusionDisplay
            With `ax_` and `figure_`.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError, ValueError
            As `aligned_confusion_matrix`, and if `class_names` lacks a class.
        """
        matrix, classes, clusters = aligned_confusion_matrix(
            y_true, y_pred, superclasses=superclasses, normalize=normalize
        )
        classes = classes.tolist()
        display = cls(
            matrix,
            class_names=_name_classes(classes, class_names),
            cluster_names=[
                str(cluster) if column.any() else "\N{EN DASH}"
                for cluster, column in zip(clusters, matrix.T, strict=True)
            ],
            superclasses=None
            if superclasses is None
            else [superclasses[c] for c in classes],
        )
        return display.plot(ax=ax)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: SamplesLike,
        y: Any,
        *,
        superclasses: Superclasses = None,
        normalize: Literal["true"] | None = "true",
        class_names: Any = None,
        ax: Any = None,
    ) -> "ConfusionDisplay":
        """Plot the clusters that a fitted estimator predicts.

        Parameters
        ----------
        estimator : estimator instance
            Fitted, with `predict`.
        X : array-like
            Samples, as `predict` takes them.
        y : array-like of shape (n_samples,)
            Their classes.
        superclasses, normalize, class_names, ax
            As in `from_predictions`.

        Returns
        -------
        display : ConfusionDisplay
            With `ax_` and `figure_`.
        """
        return cls.from_predictions(
            y,
            estimator.predict(X),
            superclasses=superclasses,
            normalize=normalize,
            class_names=class_names,
            ax=ax,
        )

    def plot(
        self,
        *,
        ax: Any = None,
        cmap: Any = "Blues",
        include_values: bool | None = None,
        colorbar: bool = True,
    ) -> "ConfusionDisplay":
        """Plot the matrix.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            Where to plot; None makes a figure.
        cmap : str or matplotlib.colors.Colormap, default="Blues"
            Colours from none to all.
        include_values : bool or None, default=None
            Whether to write the values. None writes them if there are at most 15
            columns. Zeros are never written.
        colorbar : bool, default=True
            Whether to draw a scale of the colours.

        Returns
        -------
        self : ConfusionDisplay
            With `ax_` and `figure_`.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        n_rows, n_columns = self.matrix.shape
        height = np.clip(0.42 * n_rows, 3.5, 8)
        width = height * min(n_columns / n_rows, 2)
        edge = 0.6 if self.superclasses is None else 1.3
        ax = self._take_axes(ax, (width + 2, height + edge))
        is_share = self.matrix.dtype.kind == "f"
        image = ax.imshow(
            self.matrix, cmap=cmap, vmin=0, vmax=1 if is_share else None, aspect="auto"
        )
        ax.set(xlabel="cluster", ylabel="class")
        _label_ticks(ax.xaxis, self.cluster_names)
        _label_ticks(ax.yaxis, self.class_names)
        if include_values or (include_values is None and n_columns <= _MAX_VALUES):
            self._write_values(image)
        self._draw_lines()
        if colorbar:
            # The names of superclasses stand on the right.
            self.figure_.colorbar(
                image,
                ax=ax,
                label="share of the class" if is_share else "samples",
                location="right" if self.superclasses is None else "bottom",
                fraction=0.05,
            )
        return self

    def _write_values(self, image):
        is_share = self.matrix.dtype.kind == "f"
        for (row, column), value in np.ndenumerate(self.matrix):
            text = f"{value:.2f}" if is_share else str(value)
            if float(text) > 0:
                dark = image.norm(value) > 0.5
                color = "white" if dark else "0.15"
                style = {"ha": "center", "va": "center", "fontsize": "small"}
                self.ax_.text(column, row, text, color=color, **style)

    def _draw_lines(self):
        n_rows, n_columns = self.matrix.shape
        ends = [] if n_columns == n_rows else [n_rows - 0.5]
        if self.superclasses is not None:
            edges = _edges(self.superclasses)
            ends = [*edges[1:-1], *ends]
            self.ax_.hlines(edges[1:-1], -0.5, n_columns - 0.5, **_LINE)
            right = self.ax_.secondary_yaxis("right")
            right.set_yticks(
                [(first + last) / 2 for first, last in pairwise(edges)],
                [str(self.superclasses[int(first + 0.5)]) for first in edges[:-1]],
            )
            right.tick_params(length=0, labelsize="small")
        self.ax_.vlines(ends, -0.5, n_rows - 0.5, **_LINE)


def _name_classes(classes, names):
    """Return the names of `classes` as text, in their order."""
    if names is None:
        return [str(c) for c in classes]
    if not hasattr(names, "keys"):
        names = list(names)
        if len(names) != len(classes):
            raise ValueError(
                f"class_names has {len(names)} names for {len(classes)} classes. Give "
                "a name to each, or pass a mapping from classes to names."
            )
        names = dict(zip(sorted(classes), names, strict=True))
    missing = [c for c in classes if c not in names]
    if missing:
        raise ValueError(
            f"class_names lacks {len(missing)} of {len(classes)} classes, among them "
            f"{missing[0]!r}. Add them."
        )
    return [str(names[c]) for c in classes]


def _label_ticks(axis, names):
    if len(names) > _MAX_TICKS:
        axis.set_ticks([])
        return
    is_crowded = len(names) > _MAX_UPRIGHT_TICKS or max(map(len, names)) > 3
    rotation = 90 if is_crowded and axis.axis_name == "x" else 0
    axis.set_ticks(range(len(names)), names, rotation=rotation, fontsize="small")


def _edges(kinds):
    """Return where rows of one kind end, the outer edges of the matrix included."""
    changes = [i for i, (a, b) in enumerate(pairwise(kinds)) if a != b]
    return [-0.5, *(i + 0.5 for i in changes), len(kinds) - 0.5]
