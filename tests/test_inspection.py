# SPDX-License-Identifier: BSD-3-Clause
"""Looking at views."""

import sys

import numpy as np
import pytest

from sklearn_scan.inspection import draw_views, plot_views


def test_the_first_column_is_the_image(digits):
    X = digits[0]
    grid = draw_views(X, n_images=4, n_views=3, random_state=0)
    assert grid.shape == (4, 4, 8, 8, 1)
    np.testing.assert_allclose(grid[:, 0, ..., 0], X[:4] / 16, atol=1e-6)
    assert (np.abs(grid[:, 1:] - grid[:, :1]).mean(axis=(2, 3, 4)) > 0.01).all()


def test_the_seed_determines_the_views(digits):
    first, second = (draw_views(digits[0], random_state=5) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_views_are_plotted():
    import matplotlib

    matplotlib.use("Agg")
    X = np.random.default_rng(0).integers(0, 256, (20, 9, 7, 3), dtype=np.uint8)
    ax = plot_views(X, "photo", n_images=2, n_views=4)
    assert ax.images[0].get_array().shape == (2 * 10, 5 * 8, 3)
    matplotlib.pyplot.close(ax.figure)


def test_rows_are_not_drawn():
    with pytest.raises(ValueError, match="rows cannot be drawn"):
        draw_views(np.eye(5))


def test_matplotlib_is_asked_for_by_name(digits, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"sklearn-scan\[plot\]"):
        plot_views(digits[0])
