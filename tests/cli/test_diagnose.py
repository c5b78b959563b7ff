# SPDX-License-Identifier: BSD-3-Clause
"""`sklearn-scan diagnose`: numbers of a clustering, and what follows from them."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from sklearn_scan import load
from sklearn_scan._cli._measuring import measure


def make_clusterer(labels, neighbors, n_clusters, confidence=0.9, selection=()):
    """Return what `measure` reads of a fitted clusterer."""
    return SimpleNamespace(
        labels_=np.array(labels),
        neighbors_=np.array(neighbors),
        confidence_=np.full(len(labels), confidence, dtype=np.float32),
        prototypes_=np.zeros(n_clusters),
        history_={"selection": list(selection)},
    )


def test_numbers_by_hand():
    # Of the six neighbours of cluster 0, two lie in cluster 2.
    neighbors = [[1, 2], [0, 3], [1, 4], [4, -1], [3, -1]]
    found = measure(make_clusterer([0, 0, 0, 2, 2], neighbors, 4))
    first, second, third, fourth = found["clusters"]
    assert found["agreement"] == pytest.approx(6 / 8)
    assert first["agreement"] == pytest.approx(4 / 6)
    assert (first["nearest"], first["shared"]) == (2, pytest.approx(2 / 6))
    assert (third["agreement"], third["nearest"], third["shared"]) == (1, None, None)
    assert [each["size"] for each in found["clusters"]] == [3, 0, 2, 0]
    assert second["confidence"] is None and fourth["agreement"] is None
    assert found["empty"] == [1, 3]
    assert found["confidence"] == pytest.approx(0.9)


def test_advice_follows_from_numbers():
    neighbors = [[1, 2], [0, 3], [1, 4], [4, -1], [3, -1]]
    empty, merge = measure(make_clusterer([0, 0, 0, 2, 2], neighbors, 4))["advice"]
    assert "2 of 4 clusters have no member" in empty and "--n-clusters 2" in empty
    assert "33% of the neighbours of cluster 0 are in cluster 2" in merge
    good = make_clusterer([0, 0, 1, 1], [[1], [0], [3], [2]], 2)
    assert measure(good)["advice"] == []
    good.confidence_[:] = 0.3
    assert ["seldom sure" in each for each in measure(good)["advice"]] == [True]
    mixed = make_clusterer([0, 1, 0, 1], [[1], [2], [3], [0]], 2)
    assert "Only 0% of neighbours" in measure(mixed)["advice"][-1]


def test_without_neighbours_nothing_is_said_of_them():
    found = measure(make_clusterer([0, 1], np.zeros((2, 0), dtype=int), 2))
    assert found["agreement"] is None and found["advice"] == []


def test_the_report_is_of_the_run(run, finished):
    out = finished[0]
    model = load(out / "model.safetensors")
    record = json.loads(run("diagnose", out, "--json").stdout)
    neighbors_agree = model.labels_[model.neighbors_] == model.labels_[:, None]
    assert record["agreement"] == pytest.approx(neighbors_agree.mean())
    assert record["confidence"] == pytest.approx(model.confidence_.mean())
    text = run("diagnose", out).stdout
    assert text.startswith(f"{len(model.labels_)} pictures in 3 clusters")
    first, *_ = [line.split() for line in text.splitlines()[4:]]
    doubtful = min(record["clusters"], key=lambda each: each["agreement"])
    assert first[:2] == [str(doubtful["cluster"]), str(doubtful["size"])]


def test_stages_are_reported_also_where_training_diverged(run, tmp_path, monkeypatch):
    stage = {"stage": "self_labeling", "loss": np.inf, "kept": False}
    stage |= {"confident": np.nan, "agreement": 0.5, "invariance": 0.25}
    clusterer = make_clusterer([0, 1], [[1], [0]], 2, selection=[stage])
    monkeypatch.setattr("sklearn_scan._cli._diagnose.load_model", lambda _: clusterer)
    record = json.loads(run("diagnose", tmp_path, "--json").stdout)
    assert record["selection"][0]["loss"] is None
    assert record["selection"][0]["agreement"] == 0.5
    (line,) = [
        line
        for line in run("diagnose", tmp_path).stdout.splitlines()
        if "self_labeling" in line
    ]
    assert line.split() == ["self_labeling", "no", "nan", "0.50", "0.25"]
