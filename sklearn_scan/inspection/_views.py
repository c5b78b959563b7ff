# SPDX-License-Identifier: BSD-3-Clause
"""The views of given images, side by side, for a person to judge."""

from typing import Any

import numpy as np
import torch

from sklearn_scan._engine import Runtime, resolve_seed
from sklearn_scan._inputs import ArraySource, learn_samples
from sklearn_scan._typing import Floats, RandomState, SamplesLike, Shape, ViewsLike
from sklearn_scan._views import build_views
from sklearn_scan.inspection._plotting import import_pyplot


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
    views : str or callable, default="auto"
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


def plot_views(
    X: SamplesLike, views: ViewsLike = "auto", *, ax: Any = None, **kwargs
) -> Any:
    """Plot what `draw_views` draws: a row per image, the image itself first.

    Parameters
    ----------
    X, views, **kwargs
        Passed to `draw_views`.
    ax : matplotlib.axes.Axes or None, default=None
        Where to plot; None makes a figure.

    Returns
    -------
    ax : matplotlib.axes.Axes
        With the grid as its image; its figure is `ax.figure`.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    advice = " draw_views returns the same views as an array without it."
    plt = import_pyplot("plot_views", advice)
    grid = draw_views(X, views, **kwargs)
    n_rows, n_columns, height, width, n_channels = grid.shape
    # White lines between the tiles, and a wider one after the originals.
    tiles = np.pad(grid, [(0, 0), (0, 0), (1, 0), (1, 0), (0, 0)], constant_values=1)
    sheet = tiles.transpose(0, 2, 1, 3, 4).reshape(
        n_rows * (height + 1), n_columns * (width + 1), n_channels
    )
    if ax is None:
        size = (n_columns * width / height, n_rows)
        _, ax = plt.subplots(figsize=size, layout="constrained")
    ax.imshow(
        sheet[..., 0] if n_channels != 3 else sheet.clip(0, 1), cmap="gray", vmin=0
    )
    ax.axvline(width + 0.5, color="tab:red", linewidth=1.5)
    ax.set_axis_off()
    ax.set_title("first column: the image; the others: its views", fontsize="small")
    return ax
