# SPDX-License-Identifier: BSD-3-Clause
"""The views of given images, side by side, for a person to judge."""

from typing import Any

import numpy as np
import torch

from sklearn_scan._engine import Runtime, resolve_seed
from sklearn_scan._inputs import ArraySource, learn_samples
from sklearn_scan._typing import Floats, RandomState, SamplesLike, Shape, ViewsLike
from sklearn_scan._views import build_views
from sklearn_scan.inspection._rows import FIRST, PLAIN, ImageRow, RowsDisplay


def draw_views(
    X: SamplesLike,
    views: ViewsLike = "auto",
    *,
    strong: bool = False,
    n_images: int = 8,
    n_views: int = 8,
    image_shape: Shape = None,
    random_state: RandomState = None,
) -> Floats:
    """Draw random views of the first images of `X`.

    A view should change how an image looks and not what it shows. Half of the mistakes
    in clustering images can be seen here.

    Parameters
    ----------
    X : array-like
        Images as `SCANClustering.fit` takes them. All are looked at where `views` is
        "auto", as in `fit`.
    views : str, tuple or callable, default="auto"
        As in :class:`~sklearn_scan.pretext.SimCLR`.
    strong : bool, default=False
        Whether to draw what "auto" is in self-labelling instead of elsewhere.
    n_images : int, default=8
        How many of the images are shown.
    n_views : int, default=8
        Views per image.
    image_shape : tuple of int or None, default=None
        Shape of one image where `X` holds images as rows.
    random_state : int, RandomState instance or None, default=None
        Determines the views.

    Returns
    -------
    grid : ndarray of shape (n_images, 1 + n_views, h, w, c), dtype float32
        Each image and its views, with black at 0 and white at 1.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_scan.inspection import draw_views
    >>> draw_views(load_digits().images, n_images=3, n_views=5).shape
    (3, 6, 8, 8, 1)
    """
    X, spec = learn_samples(X, image_shape)
    if X.ndim == 2:
        raise ValueError(
            f"X has shape {X.shape}: rows cannot be drawn. Pass images, or image_shape "
            "if the rows are images."
        )
    runtime = Runtime.resolve("cpu", "float32")
    source = ArraySource(X, spec.format, runtime.device)
    with runtime.isolated(resolve_seed(random_state)):
        draw = build_views(views, source, strong=strong)
        images = source.read(torch.arange(min(n_images, len(X))))
        grid = torch.stack([images, *(draw(images) for _ in range(n_views))], dim=1)
    return np.ascontiguousarray(grid.movedim(2, -1).numpy())


class ViewsDisplay(RowsDisplay):
    """A row per image: the image, and random views of it.

    A view should change how an image looks and not what it shows. More than 25 images
    are drawn in several columns.

    Make one with `from_estimator` or `from_array`. All parameters are stored as
    attributes.

    Parameters
    ----------
    grid : ndarray of shape (n_images, 1 + n_views, h, w, c)
        Each image and its views, as `draw_views` returns them.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Where the views were plotted last.
    figure_ : matplotlib.figure.Figure
        Its figure.

    See Also
    --------
    draw_views : The views alone.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_scan import SCANClustering
    >>> from sklearn_scan.inspection import ViewsDisplay
    >>> X = load_digits().images
    >>> display = ViewsDisplay.from_estimator(SCANClustering(), X, n_images=3)
    >>> display.grid.shape
    (3, 9, 8, 8, 1)
    >>> matplotlib.pyplot.close(display.figure_)
    """

    def __init__(self, grid: Any):
        self.grid = grid

    @classmethod
    def from_array(
        cls,
        X: SamplesLike,
        views: ViewsLike = "auto",
        *,
        cmap: Any = "gray",
        ax: Any = None,
        **kwargs,
    ) -> "ViewsDisplay":
        """Plot what `draw_views` draws.

        Parameters
        ----------
        X, views, **kwargs
            Passed to `draw_views`.
        cmap : str or matplotlib.colors.Colormap, default="gray"
            Colours of gray images; "gray_r" for ink on paper.
        ax : matplotlib.axes.Axes or None, default=None
            Where to plot; None makes a figure.

        Returns
        -------
        display : ViewsDisplay
            With `ax_` and `figure_`.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If `X` holds rows.
        """
        return cls(draw_views(X, views, **kwargs)).plot(cmap=cmap, ax=ax)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: SamplesLike,
        *,
        cmap: Any = "gray",
        ax: Any = None,
        **kwargs,
    ) -> "ViewsDisplay":
        """Plot the views on which an estimator is, or was, trained.

        Parameters
        ----------
        estimator : SCANClustering or pretext
            Fitted or not. Its parameters `views` and `image_shape` are looked at.
        X : array-like
            Images as its `fit` takes them.
        cmap, ax
            As in `from_array`.
        **kwargs
            Passed to `draw_views`: `strong`, `n_images`, `n_views`, `random_state`.

        Returns
        -------
        display : ViewsDisplay
            With `ax_` and `figure_`.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError
            If the estimator has no views.
        ValueError
            If `X` holds rows.
        """
        if not hasattr(estimator, "views"):
            raise TypeError(
                f"{type(estimator).__name__} has no random views to plot. Pass a "
                "SCANClustering, or a pretext that is trained on views."
            )
        kwargs = {"image_shape": estimator.image_shape} | kwargs
        return cls.from_array(X, estimator.views, cmap=cmap, ax=ax, **kwargs)

    def plot(self, *, cmap: Any = "gray", ax: Any = None) -> "ViewsDisplay":
        """Plot the views.

        Parameters
        ----------
        cmap : str or matplotlib.colors.Colormap, default="gray"
            Colours of gray images; "gray_r" for ink on paper.
        ax : matplotlib.axes.Axes or None, default=None
            Where to plot; None makes a figure.

        Returns
        -------
        self : ViewsDisplay
            With `ax_` and `figure_`.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        is_color = self.grid.shape[-1] >= 3
        drawn = self.grid[..., :3].clip(0, 1) if is_color else self.grid[..., 0]
        frames = [FIRST, *[PLAIN] * (drawn.shape[1] - 1)]
        rows = [
            ImageRow(f"image {number}", images, frames)
            for number, images in enumerate(drawn)
        ]
        return self._draw_rows(rows, ("image", "random views of it"), cmap=cmap, ax=ax)


def plot_views(
    X: SamplesLike, views: ViewsLike = "auto", *, ax: Any = None, **kwargs
) -> Any:
    """Plot what `draw_views` draws, as `ViewsDisplay.from_array` does.

    Parameters
    ----------
    X, views, **kwargs
        Passed to `draw_views`.
    ax : matplotlib.axes.Axes or None, default=None
        Where to plot; None makes a figure.

    Returns
    -------
    ax : matplotlib.axes.Axes
        With the images; its figure is `ax.figure`.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    return ViewsDisplay.from_array(X, views, ax=ax, **kwargs).ax_
