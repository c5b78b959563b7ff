# SPDX-License-Identifier: BSD-3-Clause
"""What displays draw is what was found, and can be read at any number of clusters."""

import sys
from itertools import combinations

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from sklearn_scan import SCANClustering, TrainingConfig
from sklearn_scan.inspection import (
    ClusterSizesDisplay,
    EmbeddingMapDisplay,
    NeighborsDisplay,
    PrototypesDisplay,
    ReliabilityDisplay,
    StabilityDisplay,
    TrainingCurvesDisplay,
)
from sklearn_scan.inspection._map import arrange, project
from sklearn_scan.inspection._plotting import _to_oklab, find_cluster_colors
from sklearn_scan.metrics import expected_calibration_error
from sklearn_scan.pretext import SimCLR

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def no_figure_is_left():
    yield
    plt.close("all")


class Fitted(SCANClustering):
    """As much of a fitted clusterer as displays look at."""

    def __init__(self, labels=(0, 0, 0, 1, 1, 1, 2, 2, 2), n_clusters=4):
        rng = np.random.default_rng(0)
        self.threshold = 0.9
        self.labels_ = np.array(labels)
        n_samples = len(self.labels_)
        self.confidence_ = rng.uniform(0.5, 1, n_samples).astype(np.float32)
        self.neighbors_ = (np.arange(n_samples)[:, None] + [1, 2, 3]) % n_samples
        self.prototypes_ = np.full(n_clusters, -1)
        for number in np.unique(self.labels_):
            self.prototypes_[number] = np.flatnonzero(self.labels_ == number)[-1]
        self.embedding_ = rng.normal(size=(n_samples, 5)).astype(np.float32)
        self.n_features_in_ = 5


def texts_of(ax):
    return [text.get_text() for text in ax.texts]


def overlaps(texts):
    """Return pairs of texts that cover each other."""
    renderer = texts[0].figure.canvas.get_renderer()
    boxes = [(t.get_text(), t.get_window_extent(renderer)) for t in texts]
    pairs = combinations(boxes, 2)
    return [(a, b) for (a, one), (b, other) in pairs if one.overlaps(other)]


def pictures(n, *shape):
    return np.random.default_rng(0).integers(0, 256, (n, *shape), dtype=np.uint8)


# --- sizes -------------------------------------------------------------------------


def heights_of(container):
    return [bar.get_height() for bar in container]


def test_bars_are_sizes_of_which_a_part_is_confident():
    labels = [0, 1, 1, 2, 2, 2, 2]
    confidence = [0.99, 1, 0.2, 1, 0.999, 0.3, 1]
    display = ClusterSizesDisplay.from_predictions(
        labels, confidence, threshold=0.99, n_clusters=4
    )
    sure, others = display.ax_.containers
    assert heights_of(sure) == [3, 1, 0, 0]  # 0.99 is not above the threshold
    assert heights_of(others) == [1, 1, 1, 0]
    assert [bar.get_y() for bar in others] == [3, 1, 0, 0]
    ticks = [tick.get_text() for tick in display.ax_.get_xticklabels()]
    assert ticks == ["2", "1", "0", "3"]
    assert display.ax_.lines[0].get_ydata()[0] == 7 / 4
    legend = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert "confidence above 0.99 (57%)" in legend


def test_sizes_need_no_confidence():
    display = ClusterSizesDisplay.from_predictions([0, 1, 1])
    assert [heights_of(bars) for bars in display.ax_.containers] == [[2, 1]]


def test_the_threshold_of_confidence_can_be_chosen():
    fitted = Fitted()
    is_sure = fitted.confidence_ > 0.9
    expected = np.bincount(fitted.labels_[is_sure], minlength=4)
    display = ClusterSizesDisplay.from_estimator(fitted)
    np.testing.assert_array_equal(display.n_confident, expected)
    other = ClusterSizesDisplay.from_estimator(fitted, threshold=0.5)
    np.testing.assert_array_equal(other.n_confident, [3, 3, 3, 0])


# --- bars of any number ------------------------------------------------------------


@pytest.mark.parametrize("n_clusters", [2, 10, 100])
def test_the_numbers_below_bars_do_not_overlap(n_clusters):
    display = ClusterSizesDisplay.from_predictions(np.arange(n_clusters))
    display.figure_.draw_without_rendering()
    ticks = display.ax_.get_xticklabels()
    assert len(ticks) == n_clusters
    assert overlaps(ticks) == []
    legend = display.ax_.get_legend().get_window_extent()
    assert legend.x1 <= display.figure_.bbox.x1


def test_too_many_numbers_are_left_out():
    display = ClusterSizesDisplay.from_predictions(np.arange(200))
    assert len(display.ax_.containers[0]) == 200
    assert display.ax_.get_xticklabels() == []


# --- reliability -------------------------------------------------------------------


def make_answers(n=400, n_clusters=5):
    rng = np.random.default_rng(0)
    y_proba = rng.dirichlet(np.full(n_clusters, 0.3), n)
    is_right = rng.random(n) < 0.8
    y = np.where(is_right, y_proba.argmax(axis=1), rng.integers(0, n_clusters, n))
    return y, y_proba


def test_bars_are_accuracies_and_the_error_is_that_of_the_paper():
    y, y_proba = make_answers()
    display = ReliabilityDisplay.from_predictions(y, y_proba, n_bins=8)
    confidence, right = y_proba.max(axis=1), y_proba.argmax(axis=1) == y
    error = 0
    for k, bar in enumerate(display.ax_.containers[0]):
        inside = (confidence > k / 8) & (confidence <= (k + 1) / 8)
        assert display.counts[k] == inside.sum()
        if not inside.any():
            assert bar.get_height() == 0
            continue
        accuracy, mean = right[inside].mean(), confidence[inside].mean()
        assert bar.get_height() == pytest.approx(accuracy)
        assert display.ax_.lines[0].get_ydata()[k] == pytest.approx(accuracy)
        assert display.ax_.lines[0].get_xdata()[k] == pytest.approx(mean)
        error += inside.mean() * abs(accuracy - mean)
    assert display.error == pytest.approx(error)
    assert display.error == expected_calibration_error(y, y_proba, n_bins=8)
    legend = display.ax_.get_legend().get_texts()[0].get_text()
    assert legend == f"accuracy; expected calibration error {error:.3f}"
    assert texts_of(display.ax_) == [f"{n}" for n in display.counts if n]


def test_clusters_may_have_any_numbers_and_classes_any_names():
    y, y_proba = make_answers()
    order = np.random.default_rng(1).permutation(5)
    first = ReliabilityDisplay.from_predictions(y, y_proba)
    names = np.array(["a", "b", "c", "d", "e"])[y]
    other = ReliabilityDisplay.from_predictions(names, y_proba[:, order])
    np.testing.assert_allclose(first.observed, other.observed)


def test_without_classes_neighbours_are_asked_and_named():
    fitted = Fitted([0, 0, 1, 0], n_clusters=2)
    fitted.confidence_ = np.array([0.95, 0.65, 0.65, 1.0], dtype=np.float32)
    fitted.neighbors_ = np.array([[1, 2, -1], [0, 2, -1], [0, 1, 3], [-1, -1, -1]])
    display = ReliabilityDisplay.from_estimator(fitted)
    assert display.kind == "agreement"
    assert display.counts.tolist() == [0] * 6 + [2, 0, 0, 1]  # one has no neighbour
    np.testing.assert_allclose(display.observed[[6, 9]], [0.25, 0.5])
    assert "not accuracy" in display.ax_.get_ylabel()
    legend = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert not [text for text in legend if "accuracy" in text or "calibration" in text]


def test_classes_may_be_those_of_the_training_samples(clusterer, X, digits):
    y = digits[1][:300]
    trained = ReliabilityDisplay.from_estimator(clusterer, y=y)
    predicted = ReliabilityDisplay.from_estimator(clusterer, X, y)
    assert trained.kind == predicted.kind == "accuracy"
    np.testing.assert_allclose(trained.counts, predicted.counts, atol=1)
    assert trained.error == pytest.approx(predicted.error, abs=0.01)


def test_what_reliability_cannot_show_is_explained():
    fitted = Fitted()
    with pytest.raises(ValueError, match="X was given without y"):
        ReliabilityDisplay.from_estimator(fitted, fitted.embedding_)
    fitted.neighbors_ = np.empty((9, 0), dtype=int)
    with pytest.raises(ValueError, match=r"no neighbours .* Give the classes"):
        ReliabilityDisplay.from_estimator(fitted)
    with pytest.raises(ValueError, match="between 0 and 1"):
        ReliabilityDisplay.from_predictions([0, 1], [[2.0, -1.0], [0.5, 0.5]])


# --- curves ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(digits):
    stages = {"clustering": TrainingConfig(epochs=2), "self_labeling": None}
    clusterer = SCANClustering(
        4, n_heads=2, pretext=SimCLR(epochs=2), random_state=0, threshold=0.5, **stages
    )
    return clusterer.fit(digits[0][:80])


def curves_of(ax):
    return {line.get_label(): line.get_ydata() for line in ax.lines}


def test_curves_are_those_of_the_history(trained):
    display = TrainingCurvesDisplay.from_estimator(trained)
    assert display.axes_.shape == (2, 3)
    for stage, (upper, lower) in zip(
        ["pretext", "head_search", "clustering"], display.axes_.T, strict=True
    ):
        records = trained.history_[stage]
        values = {key: np.array([r[key] for r in records]) for key in records[0]}
        np.testing.assert_array_equal(curves_of(upper)["loss"], values["loss"])
        np.testing.assert_array_equal(upper.lines[0].get_xdata(), values["epoch"])
        if stage == "pretext":
            found = curves_of(lower)["partners found"]
            np.testing.assert_array_equal(found, values["found"])
            continue
        agree, used = list(curves_of(lower).values())[:2]
        np.testing.assert_allclose(agree, np.exp(-values["consistency"]))
        np.testing.assert_allclose(used, np.exp(values["entropy"]) / 4)


def test_a_diamond_is_what_was_confident_and_lost_results_are_named(trained):
    records = {record["stage"]: record for record in trained.history_["selection"]}
    records["clustering"]["kept"] = False
    display = TrainingCurvesDisplay.from_estimator(trained)
    for stage, lower in zip(
        ["head_search", "clustering"], display.axes_[1, 1:], strict=1
    ):
        label, values = list(curves_of(lower).items())[-1]
        share = records[stage]["confident"]
        assert values == [share]
        assert f"{round(share * 80)} of 80" in label
    titles = [ax.get_title() for ax in display.axes_[0]]
    assert titles == ["pretext", "head search", "clustering (not kept)"]


def test_curves_of_rows_and_of_a_pretext_alone(blobs, trained):
    rows = SCANClustering(3, n_heads=1, random_state=0).fit(blobs[0])
    display = TrainingCurvesDisplay.from_estimator(rows)
    assert list(display.losses) == ["head_search"]
    # Not of `confidence_`, which is calibrated.
    share = rows.history_["calibration"][0]["confident"]
    assert display.confident["head_search"] == share
    alone = TrainingCurvesDisplay.from_estimator(trained.pretext_)
    assert list(alone.losses) == ["pretext"]
    assert alone.confident == {}


def test_curves_are_drawn_into_given_axes(trained):
    display = TrainingCurvesDisplay.from_estimator(trained)
    _, axes = plt.subplots(2, 3)
    assert display.plot(ax=axes).axes_[1, 2] is axes[1, 2]
    _, ax = plt.subplots()
    display.plot(ax=ax)
    inside = ax.get_position()
    assert display.figure_ is ax.figure
    assert all(inside.overlaps(each.get_position()) for each in display.axes_.flat)
    with pytest.raises(ValueError, match="ax has 2 axes, and 6 are needed"):
        display.plot(ax=[axes[0, 0], axes[0, 1]])


def test_where_nothing_was_trained_there_is_no_curve(trained):
    fitted = Fitted()
    fitted.history_ = {"pretext": [{"images": 9, "embedded": 9, "seconds": 1.0}]}
    with pytest.raises(ValueError, match="trained no stage"):
        TrainingCurvesDisplay.from_estimator(fitted)


# --- neighbours --------------------------------------------------------------------


def test_neighbours_are_shown_and_those_of_other_clusters_marked():
    fitted, images = Fitted(), pictures(9, 6, 6, 3)
    fitted.neighbors_[2] = [0, 5, -1]
    display = NeighborsDisplay.from_estimator(
        fitted, None, images=images, indices=[2, 7], n_neighbors=2
    )
    assert [each.tolist() for each in display.indices] == [[2, 0, 5], [7, 8, 0]]
    shown = [image.get_array() for image in display.ax_.images]
    np.testing.assert_allclose(shown, images[[2, 0, 5, 7, 8, 0]] / 255, atol=2e-3)
    texts = texts_of(display.ax_)
    assert texts[0] == "sample 2, cluster 0\n1 of 2 agree"
    # The clusters of the neighbours 5 and 0, on their images.
    assert [text for text in texts if text.isdigit()] == ["1", "0"]
    colors = [patch.get_edgecolor() for patch in display.ax_.patches]
    assert [color == colors[2] for color in colors] == [0, 0, 1, 0, 0, 1]


def test_by_default_the_neighbours_of_prototypes_are_shown(clusterer, X):
    display = NeighborsDisplay.from_estimator(clusterer, X)
    for prototype, row in zip(clusterer.prototypes_, display.indices, strict=True):
        assert row[0] == prototype
        np.testing.assert_array_equal(row[1:], clusterer.neighbors_[prototype][:8])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"indices": [9]}, "from 0 to 8"),
        ({"indices": [-1]}, "from 0 to 8"),
        ({"n_neighbors": 0}, "n_neighbors must be at least 1"),
    ],
)
def test_what_has_no_neighbours_is_explained(change, says):
    fitted, images = Fitted(), pictures(9, 6, 6)
    with pytest.raises(ValueError, match=says):
        NeighborsDisplay.from_estimator(fitted, None, images=images, **change)
    fitted.neighbors_ = np.empty((9, 0), dtype=int)
    with pytest.raises(ValueError, match="K=0 and has no neighbours"):
        NeighborsDisplay.from_estimator(fitted, None, images=images)


# --- rows of images ----------------------------------------------------------------


@pytest.mark.parametrize("n_clusters", [2, 10, 100])
@pytest.mark.parametrize("size", [None, (6, 4)])
def test_rows_of_images_cover_neither_each_other_nor_their_labels(n_clusters, size):
    fitted = Fitted(np.arange(3 * n_clusters) % n_clusters, n_clusters)
    images = pictures(3 * n_clusters, 8, 8)
    ax = None if size is None else plt.subplots(figsize=size)[1]
    display = PrototypesDisplay.from_estimator(
        fitted, None, images=images, n_members=2, ax=ax
    )
    display.figure_.draw_without_rendering()
    labels = [text for text in display.ax_.texts if "cluster" in text.get_text()]
    assert len(labels) == n_clusters
    assert overlaps(labels) == []
    frames = [patch.get_window_extent() for patch in display.ax_.patches]
    assert len(frames) == 3 * n_clusters
    assert not [1 for a, b in combinations(frames, 2) if a.overlaps(b)]
    for label in labels:
        box = label.get_window_extent()
        assert not [frame for frame in frames if frame.overlaps(box)]
        assert box.x0 >= display.figure_.bbox.x0
    places = {tuple(map(round, frame.p0)) for frame in frames[::3]}
    n_columns = len({left for left, _ in places})
    assert n_columns == (4 if n_clusters == 100 else 1)


# --- map ---------------------------------------------------------------------------


def test_the_map_is_that_of_the_page(clusterer, X):
    display = EmbeddingMapDisplay.from_estimator(clusterer, X)
    probabilities, labels = clusterer.predict_proba(X), clusterer.labels_
    places = arrange(probabilities, labels, clusterer.embedding_)
    dots = display.ax_.collections[0]
    np.testing.assert_allclose(dots.get_offsets(), places, atol=1e-5)
    colors = find_cluster_colors(5)[labels]
    np.testing.assert_allclose(dots.get_facecolors()[:, :3], colors)
    numbers = {int(text.get_text()): text.xy for text in display.ax_.texts}
    assert set(numbers) == set(range(5))
    np.testing.assert_allclose(numbers[3], np.median(places[labels == 3], axis=0))
    other = EmbeddingMapDisplay.from_estimator(clusterer, X, layout="embedding")
    np.testing.assert_array_equal(other.places, project(clusterer.embedding_))
    with pytest.raises(ValueError, match=r'"clusters" or "embedding". Got \'pca\''):
        EmbeddingMapDisplay.from_estimator(clusterer, X, layout="pca")


def test_a_thumbnail_is_the_prototype(clusterer, X):
    display = EmbeddingMapDisplay.from_estimator(clusterer, X, thumbnails=True)
    for cluster, prototype in enumerate(clusterer.prototypes_):
        expected = X[prototype] / 16
        np.testing.assert_allclose(display.images[cluster], expected, atol=2e-3)
    boxes = [each for each in display.ax_.artists if hasattr(each, "offsetbox")]
    assert len(boxes) == 5


def test_on_a_crowded_map_numbers_of_small_clusters_are_left_out():
    rng = np.random.default_rng(0)
    sizes = rng.integers(2, 9, 100)
    labels = np.repeat(np.arange(100), sizes)
    display = EmbeddingMapDisplay(rng.random((len(labels), 2)), labels).plot()
    display.figure_.draw_without_rendering()
    written = [int(text.get_text()) for text in display.ax_.texts]
    assert overlaps(display.ax_.texts) == []
    assert 5 < len(written) < 100
    assert sizes[written[0]] == sizes.max()


def test_colours_differ_and_stay():
    colors = find_cluster_colors(100)
    np.testing.assert_array_equal(find_cluster_colors(3), colors[:3])
    np.testing.assert_array_equal(find_cluster_colors(40), colors[:40])
    assert colors.min() >= 0
    assert colors.max() <= 1
    places = _to_oklab(np.vstack([colors, [1, 1, 1]]))
    np.testing.assert_allclose(places[-1], [1, 0, 0], atol=1e-3)  # white
    distances = np.linalg.norm(places[:, None] - places, axis=2)
    np.fill_diagonal(distances, 1)
    # Twice what is just noticeable.
    assert distances.min() > 0.04


# --- stability ---------------------------------------------------------------------


def test_bars_are_mean_similarities_and_dots_the_parts():
    nan = np.nan
    similarities = np.array([[0.5, nan, 1.0, 0.7], [0.3, nan, 0.8, nan]])
    display = StabilityDisplay(similarities).plot()
    np.testing.assert_allclose(display.stability, [0.4, nan, 0.9, 0.7])
    bars = {bar.get_x(): bar.get_height() for bar in display.ax_.patches}
    np.testing.assert_allclose([bars[x] for x in sorted(bars)], [0.9, 0.7, 0.4])
    ticks = [tick.get_text() for tick in display.ax_.get_xticklabels()]
    assert ticks == ["2", "3", "0", "1"]
    dots = display.ax_.collections[0].get_offsets()
    expected = {(0, 1.0), (0, 0.8), (1, 0.7), (2, 0.5), (2, 0.3)}
    assert {tuple(dot) for dot in dots.tolist() if dot[1] is not None} == expected
    legend = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert [text[-3:] for text in legend[:3]] == ["(1)", "(1)", "(1)"]


# --- all ---------------------------------------------------------------------------

MAKERS = {
    "ClusterSizesDisplay": ClusterSizesDisplay.from_estimator,
    "ReliabilityDisplay": ReliabilityDisplay.from_estimator,
    "EmbeddingMapDisplay": lambda fitted, **ax: EmbeddingMapDisplay.from_estimator(
        fitted, None, layout="embedding", **ax
    ),
    "NeighborsDisplay": lambda fitted, **ax: NeighborsDisplay.from_estimator(
        fitted, None, images=pictures(9, 4, 4), **ax
    ),
    "StabilityDisplay": lambda fitted, **ax: StabilityDisplay(np.ones((2, 4))).plot(
        **ax
    ),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_display_is_drawn_into_given_axes(name):
    _, ax = plt.subplots()
    display = MAKERS[name](Fitted(), ax=ax)
    assert display.ax_ is ax
    assert display.figure_ is ax.figure
    assert len(plt.get_fignums()) == 1


@pytest.mark.parametrize("name", MAKERS)
def test_a_display_asks_for_matplotlib_by_name(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=rf"{name} .*sklearn-scan\[plot\]"):
        MAKERS[name](Fitted())


@pytest.mark.parametrize(
    "display",
    [
        ClusterSizesDisplay,
        EmbeddingMapDisplay,
        NeighborsDisplay,
        ReliabilityDisplay,
        StabilityDisplay,
        TrainingCurvesDisplay,
    ],
)
def test_an_unfitted_estimator_is_refused(display):
    needs_X = display in (EmbeddingMapDisplay, NeighborsDisplay)
    with pytest.raises(NotFittedError):
        display.from_estimator(SCANClustering(), *[np.eye(3)] * needs_X)
