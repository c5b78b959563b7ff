# SPDX-License-Identifier: BSD-3-Clause
"""Looking at views, at clusters and at how they agree with classes."""

import sys

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError

from sklearn_scan import SCANClustering, list_images
from sklearn_scan.inspection import (
    ConfusionDisplay,
    PrototypesDisplay,
    ViewsDisplay,
    draw_views,
    plot_views,
)
from sklearn_scan.metrics import aligned_confusion_matrix

matplotlib.use("Agg")
plot_confusion = ConfusionDisplay.from_predictions
plot_prototypes = PrototypesDisplay.from_estimator


@pytest.fixture(autouse=True)
def no_figure_is_left():
    yield
    plt.close("all")


def test_the_first_column_is_the_image(digits):
    X = digits[0]
    grid = draw_views(X, n_images=4, n_views=3, random_state=0)
    assert grid.shape == (4, 4, 8, 8, 1)
    np.testing.assert_allclose(grid[:, 0, ..., 0], X[:4] / 16, atol=1e-6)
    assert (np.abs(grid[:, 1:] - grid[:, :1]).mean(axis=(2, 3, 4)) > 0.01).all()


def test_the_seed_determines_the_views(digits):
    first, second = (draw_views(digits[0], random_state=5) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("n_channels", [1, 3])
def test_views_are_plotted(n_channels):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (20, 9, 7, n_channels), dtype=np.uint8)
    chosen = {"n_images": 2, "n_views": 4, "random_state": 0}
    drawn = draw_views(X, "photo", **chosen)
    ways = [
        ViewsDisplay.from_array(X, "photo", **chosen).ax_,
        ViewsDisplay.from_estimator(SCANClustering(views="photo"), X, **chosen).ax_,
        plot_views(X, "photo", **chosen),
    ]
    for ax in ways:
        shown = [image.get_array() for image in ax.images]
        expected = drawn.reshape(10, 9, 7, n_channels).squeeze().clip(0, 1)
        np.testing.assert_allclose(np.clip(shown, 0, 1), expected)
        assert texts_of(ax)[:2] == ["image 0", "image 1"]


def test_without_views_there_is_nothing_to_plot(digits):
    with pytest.raises(TypeError, match="PCA has no random views"):
        ViewsDisplay.from_estimator(PCA(), digits[0])


def test_views_of_images_given_as_rows_are_plotted(digits):
    X = digits[0].reshape(len(digits[0]), 64)
    display = ViewsDisplay.from_estimator(SCANClustering(image_shape=(8, 8)), X)
    np.testing.assert_allclose(display.grid[0, 0, ..., 0], digits[0][0] / 16, atol=1e-6)


def test_rows_are_not_drawn():
    with pytest.raises(ValueError, match="rows cannot be drawn"):
        draw_views(np.eye(5))


def test_matplotlib_is_asked_for_by_name(digits, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"sklearn-scan\[plot\]"):
        plot_views(digits[0])


# --- confusion ---------------------------------------------------------------------

ANIMALS = ["owl", "cat", "dog", "cat", "owl", "dog", "dog", "owl"]
FOUND = [0, 3, 2, 3, 0, 2, 3, 1]
KINDS = {"cat": "mammal", "dog": "mammal", "owl": "bird"}


def texts_of(ax):
    return [text.get_text() for text in ax.texts]


def ticks_of(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def test_a_confusion_display_shows_the_aligned_matrix():
    display = plot_confusion(ANIMALS, FOUND)
    expected = aligned_confusion_matrix(ANIMALS, FOUND, normalize="true").matrix
    np.testing.assert_array_equal(display.matrix, expected)
    np.testing.assert_array_equal(display.ax_.images[0].get_array(), expected)
    assert display.figure_ is display.ax_.figure
    assert ticks_of(display.ax_.yaxis) == ["cat", "dog", "owl"]
    assert ticks_of(display.ax_.xaxis) == ["3", "2", "0", "1"]
    assert texts_of(display.ax_) == ["1.00", "0.33", "0.67", "0.67", "0.33"]
    assert not display.ax_.child_axes


def test_counts_are_written_as_integers():
    display = plot_confusion(ANIMALS, FOUND, normalize=None)
    assert texts_of(display.ax_) == ["2", "1", "2", "2", "1"]


def line_positions(ax):
    """Return where horizontal and vertical lines lie."""
    segments = [s for lines in ax.collections for s in lines.get_segments()]
    across = {s[0][1] for s in segments if s[0][1] == s[1][1]}
    return across, {s[0][0] for s in segments if s[0][0] == s[1][0]}


def test_lines_part_superclasses_and_surplus_clusters():
    display = plot_confusion(ANIMALS, FOUND, superclasses=KINDS)
    assert display.superclasses == ["bird", "mammal", "mammal"]
    assert line_positions(display.ax_) == ({0.5}, {0.5, 2.5})
    right = display.ax_.child_axes[0]
    assert ticks_of(right.yaxis) == ["bird", "mammal"]
    assert right.get_yticks().tolist() == [0, 1.5]
    assert line_positions(plot_confusion(ANIMALS, FOUND).ax_) == (set(), {2.5})


def test_superclasses_may_be_a_series():
    pandas = pytest.importorskip("pandas")
    display = plot_confusion(ANIMALS, FOUND, superclasses=pandas.Series(KINDS))
    assert display.superclasses == ["bird", "mammal", "mammal"]


def test_a_class_without_a_cluster_has_a_dash():
    display = plot_confusion(ANIMALS, [5, 5, 5, 5, 5, 7, 7, 5])
    assert display.cluster_names == ["\N{EN DASH}", "7", "5"]


@pytest.mark.parametrize(
    "names", [["Cat", "Dog", "Owl"], {"owl": "Owl", "cat": "Cat", "dog": "Dog"}]
)
def test_classes_may_have_names(names):
    display = plot_confusion(ANIMALS, FOUND, class_names=names, superclasses=KINDS)
    assert display.class_names == ["Owl", "Cat", "Dog"]


@pytest.mark.parametrize(
    ("names", "says"),
    [(["a", "b"], "2 names for 3 classes"), ({"cat": "a"}, "lacks 2 of 3 .*'dog'")],
)
def test_every_class_needs_a_name(names, says):
    with pytest.raises(ValueError, match=says):
        plot_confusion(ANIMALS, FOUND, class_names=names)


def test_a_confusion_display_is_made_from_an_estimator_and_drawn_into_axes():
    X = np.repeat([[0.0], [5.0], [9.0]], 4, axis=0)
    y = np.repeat(["a", "b", "c"], 4)
    model = KMeans(3, n_init=3, random_state=0).fit(X)
    _, ax = plt.subplots()
    display = ConfusionDisplay.from_estimator(model, X, y, normalize=None, ax=ax)
    assert display.ax_ is ax
    np.testing.assert_array_equal(display.matrix, 4 * np.eye(3))
    ax.figure.canvas.draw()


def test_many_classes_are_neither_named_nor_written():
    y = np.arange(120) % 60
    display = plot_confusion(y, y, superclasses={c: c // 5 for c in range(60)})
    assert texts_of(display.ax_) == ticks_of(display.ax_.xaxis) == []
    assert len(ticks_of(display.ax_.child_axes[0].yaxis)) == 12
    again = display.plot(include_values=True, colorbar=False)
    assert len(texts_of(again.ax_)) == 60
    assert len(again.figure_.axes) == 1


# --- prototypes --------------------------------------------------------------------


def cluster(X, **params):
    clusterer = SCANClustering(
        n_clusters=3, pretext=PCA(4), n_heads=2, random_state=0, **params
    )
    return clusterer.fit(X)


@pytest.fixture
def pictures():
    """Return images (n, h, w, 3) in three colours."""
    rng = np.random.default_rng(0)
    colours = 200 * np.eye(3, dtype=np.uint8)[np.arange(30) % 3]
    return colours[:, None, None] + rng.integers(0, 50, (30, 6, 8, 3), dtype=np.uint8)


def test_a_row_is_a_prototype_and_other_members(digits):
    X = digits[0][:100]
    clusterer = cluster(X)
    display = plot_prototypes(clusterer, X, n_members=5)
    assert len(display.images) == 3
    for number, indices in enumerate(display.indices):
        assert indices[0] == clusterer.prototypes_[number]
        assert (clusterer.labels_[indices] == number).all()
        assert len(set(indices)) == len(indices) == 6
        np.testing.assert_allclose(display.images[number], X[indices] / 16, atol=2e-3)
    shown = [image.get_array() for image in display.ax_.images]
    np.testing.assert_array_equal(shown, np.concatenate(display.images))
    assert display.sizes.tolist() == np.bincount(clusterer.labels_).tolist()
    of_first = clusterer.confidence_[clusterer.labels_ == 0]
    assert display.confidences[0] == pytest.approx(of_first.mean())
    label = f"{display.sizes[0]} images, confidence {of_first.mean():.3f}"
    assert texts_of(display.ax_)[0] == f"cluster 0\n{label}"
    display.figure_.canvas.draw()


def test_the_seed_determines_the_members(digits):
    X = digits[0][:100]
    clusterer = cluster(X)
    first, second, third = (
        np.concatenate(plot_prototypes(clusterer, X, random_state=seed).indices)
        for seed in (0, 0, 1)
    )
    assert np.array_equal(first, second)
    assert not np.array_equal(first, third)


def test_every_kind_of_image_is_drawn(pictures):
    kinds = {
        "n h w c": (pictures, {}),
        "n c h w": (pictures.transpose(0, 3, 1, 2), {}),
        "rows": (pictures.reshape(30, -1), {"image_shape": (6, 8, 3)}),
    }
    for X, params in kinds.values():
        display = plot_prototypes(cluster(X, **params), X, n_members=2)
        for images, indices in zip(display.images, display.indices, strict=True):
            np.testing.assert_allclose(images, pictures[indices] / 255, atol=2e-3)
    gray = pictures[..., :1]
    assert plot_prototypes(cluster(gray), gray).images[0].shape[1:] == (6, 8)
    alpha = np.concatenate([pictures, gray], axis=-1)
    assert plot_prototypes(cluster(alpha), alpha).images[0].shape[1:] == (6, 8, 3)


def test_of_files_only_those_shown_are_read(pictures, tmp_path):
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{i:02}.png")
    clusterer = cluster(tmp_path, image_shape=(6, 8, 3))
    display = plot_prototypes(clusterer, tmp_path, n_members=2)
    shown = np.concatenate(display.indices)
    for i in set(range(30)) - set(shown):
        (tmp_path / f"{i:02}.png").write_bytes(b"")
    again = plot_prototypes(clusterer, clusterer.paths_, n_members=2)
    for images, indices in zip(again.images, again.indices, strict=True):
        means = pictures[indices].mean(axis=(1, 2)) / 255
        np.testing.assert_allclose(images.mean(axis=(1, 2)), means, atol=0.02)
    with pytest.raises(ValueError, match=r"X has 29 samples, .* was fitted on 30"):
        plot_prototypes(clusterer, list_images(tmp_path)[1:])


def test_an_empty_cluster_has_a_row_that_says_so(digits):
    X = digits[0][:100]
    clusterer = cluster(X)
    clusterer.labels_[clusterer.labels_ == 1] = 2
    clusterer.prototypes_[1] = -1
    display = plot_prototypes(clusterer, X)
    assert [len(each) for each in display.images] == [9, 0, 9]
    assert np.isnan(display.confidences[1])
    assert texts_of(display.ax_)[1] == "cluster 1\nno image"
    assert len(display.ax_.images) == 18


def test_the_prototypes_alone_are_drawn_into_axes(digits):
    X = digits[0][:100]
    _, ax = plt.subplots()
    display = plot_prototypes(cluster(X), X, n_members=0, ax=ax)
    assert display.ax_ is ax
    assert texts_of(ax)[-1] == "prototype"
    assert len(ax.images) == 3
    with pytest.raises(ValueError, match=r"n_members must be at least 0. Got -1"):
        plot_prototypes(cluster(X), X, n_members=-1)


def test_rows_are_drawn_by_pictures_of_their_own(blobs, digits):
    X, pictures = blobs[0], digits[0][:150]
    clusterer = SCANClustering(n_clusters=3, random_state=0).fit(X)
    display = plot_prototypes(clusterer, X, images=pictures)
    for images, indices in zip(display.images, display.indices, strict=True):
        np.testing.assert_allclose(images, pictures[indices] / 16, atol=2e-3)
    with pytest.raises(ValueError, match=r"rows of 2 features, .* cannot be drawn"):
        plot_prototypes(clusterer, X)
    with pytest.raises(NotFittedError):
        plot_prototypes(SCANClustering(), digits[0])


def test_displays_ask_for_matplotlib_by_name(digits, monkeypatch):
    clusterer = cluster(digits[0][:50])
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"ConfusionDisplay .*sklearn-scan\[plot\]"):
        plot_confusion(ANIMALS, FOUND)
    with pytest.raises(ImportError, match=r"PrototypesDisplay .*sklearn-scan\[plot\]"):
        plot_prototypes(clusterer, digits[0][:50])
