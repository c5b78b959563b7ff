# SPDX-License-Identifier: BSD-3-Clause
"""What was spoiled in a clustering is named, and what was not is not."""

import json

import matplotlib
import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.exceptions import NotFittedError

from sklearn_scan import SCANClustering, TrainingConfig, diagnose
from sklearn_scan._stages import make_graph
from sklearn_scan._views._color import negative, remove_color
from sklearn_scan._views._policy import relative_distance
from sklearn_scan.inspection import Diagnosis
from sklearn_scan.inspection._diagnosis._cuts import cut_pairs, halve
from sklearn_scan.inspection._diagnosis._findings import Finding, find_views
from sklearn_scan.inspection._diagnosis._measures import summarize_training
from sklearn_scan.inspection._diagnosis._views import measure_changes
from sklearn_scan.neighbors import mine_neighbors
from sklearn_scan.pretext import SimCLR

matplotlib.use("Agg")
K = 10


def draw_blobs(n_blobs=4, size=60, spread=10.0):
    """Return rows around centres that lie apart, and their blobs."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(n_blobs), size)
    return rng.normal(size=(len(y), 5)) + spread * np.eye(n_blobs, 5)[y], y


def make_fitted(
    labels, n_clusters=None, *, neighbors=None, confidence=0.995, rows=None
):
    """Return a clusterer that seems to have found these labels among four blobs."""
    rows = draw_blobs()[0] if rows is None else rows
    n_clusters = n_clusters or labels.max() + 1
    clusterer = SCANClustering(n_clusters)
    clusterer.labels_ = np.asarray(labels)
    clusterer.confidence_ = np.full(len(labels), confidence, dtype=np.float32)
    clusterer.embedding_ = rows.astype(np.float32)
    if neighbors is None:
        neighbors = mine_neighbors(rows, K, metric="euclidean")
    clusterer.neighbors_ = neighbors
    clusterer.prototypes_ = np.zeros(n_clusters, dtype=int)
    clusterer.history_ = {}
    return clusterer


def codes(report, severity=None):
    """Return the codes of the findings, or of those of one severity."""
    return [f.code for f in report.findings if severity in (None, f.severity)]


@pytest.fixture
def blobs_found():
    """Return the labels of the four blobs."""
    return draw_blobs()[1]


# What is found.


def test_nothing_stands_out_of_a_good_clustering(blobs_found):
    report = diagnose(make_fitted(blobs_found))
    assert report.findings == []
    assert "Nothing stands out." in str(report)


def test_two_blobs_in_one_cluster_are_named(blobs_found):
    labels = np.array([0, 1, 2, 0])[blobs_found]
    # A little noise between the others, so that there is something to compare with.
    labels[60:63] = 2
    first = diagnose(make_fitted(labels)).findings[0]
    assert (first.code, first.severity, first.clusters) == ("split", "problem", ((0,),))
    assert (first.parameter, first.value) == ("n_clusters", 4)
    assert "60 and 60 members" in first.measured


def test_halves_of_a_blob_are_named(blobs_found):
    labels = blobs_found.copy()
    (members,) = np.nonzero(labels == 3)
    rows = draw_blobs()[0]
    labels[members[rows[members, 0] > 0]] = 4
    first = diagnose(make_fitted(labels)).findings[0]
    assert (first.code, first.severity, first.clusters) == (
        "merge",
        "problem",
        ((3, 4),),
    )
    assert (first.parameter, first.value) == ("n_clusters", 4)
    assert "3 and 4 share up to" in first.measured


def test_shuffled_neighbours_explain_all_else(blobs_found):
    neighbors = mine_neighbors(draw_blobs()[0], K, metric="euclidean")
    shuffled = neighbors[np.random.default_rng(0).permutation(len(neighbors))]
    report = diagnose(make_fitted(blobs_found, neighbors=shuffled))
    assert codes(report, "problem") == codes(report) == ["neighbors"]
    assert report.record["neighbors"]["nearer"] == pytest.approx(0.5, abs=0.05)
    assert report.findings[0].parameter == "neighbors"


def test_empty_and_tiny_clusters_are_named(blobs_found):
    labels = blobs_found.copy()
    labels[:5] = 5
    report = diagnose(make_fitted(labels, 6))
    empty = next(f for f in report.findings if f.code == "empty")
    assert (empty.severity, empty.value, empty.clusters) == ("problem", 5, ((4,),))
    tiny = next(f for f in report.findings if f.code == "tiny")
    assert (tiny.severity, tiny.clusters) == ("warning", ((5,),))


def test_neighbours_that_seldom_agree_are_named():
    rows = np.random.default_rng(0).normal(size=(240, 20))
    labels = np.arange(240) % 4
    report = diagnose(make_fitted(labels, rows=rows))
    (structure,) = [f for f in report.findings if f.code == "structure"]
    assert (structure.severity, structure.parameter) == ("problem", "pretext")
    assert "25% by chance" in structure.measured


def test_sure_samples_among_others_are_named(blobs_found):
    labels = blobs_found.copy()
    wrong = [0, 1, 2, 3, 70, 71, 72]
    labels[wrong] = 3
    clusterer = make_fitted(labels)
    clusterer.confidence_[wrong] = [0.999, 0.998, 0.997, 0.996, 0.999, 0.5, 0.999]
    report = diagnose(clusterer)
    assert "disagreeing" in codes(report, "warning")
    # 71 is not sure.
    assert report.record["disagreeing"]["samples"] == [0, 70, 72, 1, 2, 3]
    labels[wrong[2:]] = blobs_found[wrong[2:]]
    assert "disagreeing" not in codes(diagnose(make_fitted(labels)))


def test_calibration_changes_nothing_that_is_found(blobs_found):
    labels = blobs_found.copy()
    labels[[0, 70]] = 3
    confidence = np.linspace(0.9, 0.9999, len(labels))
    confidence[[0, 70]] = [0.9999, 0.95]
    before, after = make_fitted(labels), make_fitted(labels)
    before.confidence_, after.confidence_ = confidence, confidence**10
    after.history_["calibration"] = [{"confident": (confidence > 0.99).mean()}]
    first, second = (diagnose(each).record for each in (before, after))
    assert second["coverage"] == first["coverage"] > 0.05
    assert second["disagreeing"] == first["disagreeing"]
    assert first["disagreeing"]["samples"] == [0]
    for one, other in zip(first["clusters"], second["clusters"], strict=True):
        assert one["coverage"] == other["coverage"]


def test_doubt_is_named(blobs_found):
    report = diagnose(make_fitted(blobs_found, confidence=0.9))
    assert codes(report) == ["coverage"]
    assert "0% of samples are above threshold=0.99" in report.findings[0].measured


def test_unstable_clusters_are_named(blobs_found):
    clusterer = make_fitted(blobs_found)
    report = diagnose(clusterer, stability=np.array([0.9, 0.5, 0.9, np.nan]))
    assert codes(report) == ["stability"]
    assert report.findings[0].clusters == ((1,),)
    assert [c["stability"] for c in report.to_dict()["clusters"]] == [
        0.9,
        0.5,
        0.9,
        None,
    ]


def test_stability_is_measured_where_asked_for(monkeypatch):
    monkeypatch.setattr("sklearn_scan.inspection._diagnosis._N_RESAMPLES", 1)
    rows, _ = draw_blobs()
    report = diagnose(SCANClustering(4, random_state=0).fit(rows), stability=True)
    assert min(c["stability"] for c in report.record["clusters"]) > 0.95


def test_histories_are_read(blobs_found):
    clusterer = make_fitted(blobs_found)
    stage = {"stage": "clustering", "confident": 0.9, "agreement": 0.5}
    stage |= {"loss": np.inf, "invariance": 0.25, "kept": False}
    clusterer.history_ = {
        "pretext": [{"loss": 5.0, "found": 0.01}, {"loss": 4.9, "found": 0.02}],
        "clustering": [{"loss": -3.0}, {"loss": -2.0}],
        "selection": [stage],
    }
    report = diagnose(clusterer)
    assert codes(report) == ["pretext", "loss", "discarded"]
    assert "from -3.000 to -2.000 in 2 epochs" in report.findings[1].measured
    assert "50% agree with the stage before" in report.findings[2].measured
    assert report.to_dict()["selection"][0]["loss"] is None
    clusterer.history_["pretext"][-1]["found"] = 0.5
    clusterer.history_["clustering"].reverse()
    stage["kept"] = True
    assert diagnose(clusterer).findings == []


def test_neighbours_are_optional(blobs_found):
    none = np.zeros((len(blobs_found), 0), dtype=int)
    report = diagnose(make_fitted(blobs_found, neighbors=none))
    assert report.record["agreement"] is None and report.findings == []
    assert "neighbours" not in str(report)


# Views.


@pytest.fixture(scope="module")
def seen(digits):
    """Return a function that fits a few images with some views, and diagnoses."""

    def see(views, pretext_views="auto"):
        clusterer = SCANClustering(
            3,
            n_heads=2,
            views=views,
            pretext=SimCLR(epochs=2, views=pretext_views),
            head_search=TrainingConfig(epochs=20),
            clustering=None,
            self_labeling=None,
            random_state=0,
        )
        X = digits[0][:150]
        return diagnose(clusterer.fit(X), X)

    return see


def test_views_that_mirror_digits_are_named(seen):
    report = seen("auto", ("affine", "flip"))
    views = report.findings[0]
    assert (views.code, views.severity) == ("views", "problem")
    assert (views.parameter, views.value) == ("pretext__views", "auto")
    assert "Mirrored images are" in views.measured


def test_changes_are_measured_where_views_make_them():
    images = torch.rand(50, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    ratios = {
        "mirror": relative_distance(images, lambda x: x.flip(-1)),
        "gray": relative_distance(images, remove_color),
        "negative": relative_distance(images, negative),
    }
    for view, change in {
        "flip": "mirror",
        "gray": "gray",
        "invert": "negative",
    }.items():
        expected = dict.fromkeys(ratios) | {change: ratios[change]}
        assert measure_changes(("affine", view), images) == expected
    assert measure_changes("affine", images) == dict.fromkeys(ratios)


def test_views_of_auto_are_no_problem(seen):
    report = seen("auto")
    assert [each["chosen"] for each in report.record["views"]] == [False, False]
    assert "views" not in codes(report, "problem")


def make_record(**changes):
    """Return as much of a record as rules on views read."""
    found = {"parameter": "views", "views": "'x'", "chosen": True, "mirror": None}
    found |= {"invariance": 0.9, "automatic": 0.92, "gray": None, "negative": None}
    return {"agreement": 0.95, "views": [found | changes]}


@pytest.mark.parametrize(
    ("changes", "severity"),
    [
        ({}, None),
        ({"invariance": 0.8}, "problem"),
        ({"invariance": 0.8, "chosen": False, "automatic": 0.8}, None),
        ({"invariance": 0.7, "chosen": False, "automatic": 0.7}, "warning"),
        ({"mirror": 1.05}, None),
        ({"mirror": 1.2}, "problem"),
        ({"gray": 1.2}, "problem"),
        ({"negative": 1.2}, "problem"),
    ],
)
def test_views_are_judged_by_what_they_cost(changes, severity):
    found = [each.severity for each in find_views(make_record(**changes))]
    assert found == ([] if severity is None else [severity])


# What is measured.


def test_cuts_by_hand():
    links = np.array([[8.0, 2.0, 0.0], [2.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
    cuts = cut_pairs(links)
    assert cuts[0, 1] == cuts[1, 0] == 2 / 4
    assert np.isnan(cuts[0, 2]) and np.isnan(cuts.diagonal()).all()


@pytest.mark.parametrize("n_members", [20, 700])
def test_halves_are_those_of_the_graph(n_members):
    half = n_members // 2
    graph = np.zeros((n_members, n_members))
    graph[:half, :half] = graph[half:, half:] = 1
    np.fill_diagonal(graph, 0)
    graph[0, half] = graph[half, 0] = 1
    order = np.random.default_rng(0).permutation(n_members)
    cut, is_first = halve(csr_array(graph[order][:, order]))
    assert cut == pytest.approx(1 / (half * (half - 1) + 1))
    assert len(set(is_first[np.argsort(order)][:half])) == 1
    assert is_first.sum() == half


def test_pieces_of_a_graph_are_halves():
    piece = np.repeat([0, 1, 0, 2, 1], 8)
    neighbors = [np.flatnonzero(piece == p) for p in piece]
    neighbors = np.array(
        [np.pad(n, (0, 16 - len(n)), constant_values=-1) for n in neighbors]
    )
    cut, is_first = halve(make_graph(neighbors))
    assert cut == 0
    assert all(len(set(is_first[piece == p])) == 1 for p in range(3))
    assert 0 < is_first.sum() < len(piece)


def test_halves_of_few_members_are_not_looked_for():
    cut, is_first = halve(make_graph(np.array([[1], [0], [1]])))
    assert np.isnan(cut) and not is_first.any()


def test_training_is_summarized_without_what_is_unknown():
    assert summarize_training({"selection": []}) == []
    (stage,) = summarize_training({"pretext": [{"loss": 2}, {"loss": 1, "found": 0.5}]})
    assert stage["epochs"] == 2 and stage["found"] == 0.5 and stage["first"] == 2


def test_numbers_of_clusters_by_hand():
    neighbors = np.array([[1, 2], [0, 3], [1, 4], [4, -1], [3, -1]])
    labels, rows = np.array([0, 0, 0, 2, 2]), np.arange(5.0)[:, None]
    found = diagnose(make_fitted(labels, 4, neighbors=neighbors, rows=rows)).record
    first, second, third, _ = found["clusters"]
    assert found["agreement"] == pytest.approx(6 / 8)
    assert found["agreement_by_chance"] == pytest.approx((9 + 4) / 25)
    assert first["agreement"] == pytest.approx(4 / 6)
    assert (first["nearest"], first["shared"]) == (2, pytest.approx(2 / 6))
    assert (third["agreement"], third["nearest"], third["shared"]) == (1, None, None)
    assert second["confidence"] is None and found["empty"] == [1, 3]


# The report.


def test_the_dict_is_json_and_holds_the_findings(blobs_found):
    report = diagnose(make_fitted(blobs_found, confidence=0.9))
    record = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert record["findings"][0]["code"] == "coverage"
    assert record["findings"][0]["advice"] == report.findings[0].advice
    assert record["coverage"] == 0


def test_the_text_is_one_page_also_of_many_clusters():
    labels = np.arange(240) % 100
    lines = str(diagnose(make_fitted(labels))).split("\n")
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 80
    assert "(80 more)" in lines


def test_html_is_escaped(blobs_found):
    record = diagnose(make_fitted(blobs_found)).record
    text = "<script>alert(1)</script>"
    finding = Finding("views", "problem", text, text, text)
    record["selection"] = [
        {"stage": text, "kept": True}
        | dict.fromkeys(("confident", "agreement", "invariance"), 0.5)
    ]
    shown = Diagnosis(record, [finding], [])._repr_html_()
    assert "<script>" not in shown
    assert shown.count("&lt;script&gt;") == 4
    assert "<table>" in shown


def test_pictures_are_those_of_merges_halves_and_neighbours(blobs_found):
    labels = blobs_found.copy()
    (members,) = np.nonzero(labels == 3)
    labels[members[draw_blobs()[0][members, 0] > 0]] = 4
    labels[:6] = 1
    clusterer = make_fitted(labels)
    X = draw_blobs()[0]
    clusterer = _let_read(clusterer, X)
    # The gray of each picture is the number of its sample.
    images = np.tile(np.arange(240, dtype=np.uint8)[:, None, None], (1, 4, 4))
    report = diagnose(clusterer, X, images=images)
    assert "merge" in codes(report, "problem")
    shown = {row.label.split("\n")[0]: row for row in report.rows}
    for number in (3, 4):
        row = shown[f"cluster {number}"]
        samples = np.rint(row.images[:, 0, 0] * 255).astype(int)
        assert len(samples) == 9 and (labels[samples] == number).all()
    row = shown["sample 0, cluster 1"]
    samples = np.rint(row.images[:, 0, 0] * 255).astype(int)
    assert samples.tolist() == [0, *clusterer.neighbors_[0][:8]]
    is_other = labels[samples[1:]] != 1
    assert row.tags == {
        k + 1: str(labels[samples[k + 1]]) for k in np.flatnonzero(is_other)
    }
    texts = {text.get_text() for text in report.plot().ax_.texts}
    assert {row.label for row in report.rows} <= texts
    matplotlib.pyplot.close("all")


def _let_read(clusterer, X):
    """Let a clusterer read rows as if it had been fitted on them."""
    fitted = SCANClustering(
        2, n_heads=1, head_search=TrainingConfig(epochs=1), random_state=0
    ).fit(X)
    clusterer.input_spec_, clusterer._backbone = fitted.input_spec_, fitted._backbone
    clusterer.n_features_in_ = fitted.n_features_in_
    return clusterer


def test_without_pictures_there_is_nothing_to_plot(blobs_found):
    with pytest.raises(ValueError, match="Pass it X"):
        diagnose(make_fitted(blobs_found)).plot()


def test_an_unfitted_clusterer_is_refused():
    with pytest.raises(NotFittedError):
        diagnose(SCANClustering())
