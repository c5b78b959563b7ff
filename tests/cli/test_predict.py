# SPDX-License-Identifier: BSD-3-Clause
"""`sklearn-scan predict`: the clusters of unseen pictures."""

import json
import os

import numpy as np
import pytest
from cli_helpers import list_files, read_table, write_picture

from sklearn_scan import load, save
from sklearn_scan._cli._labels import COLUMNS
from sklearn_scan.pretext import SimCLR


@pytest.fixture
def unseen(tmp_path):
    """Return a folder of pictures that were not clustered."""
    names = [b"a.png", b"b/c.png", b"=d.png", b"-e\xff.png"]
    for seed, name in enumerate(names):
        write_picture(os.path.join(os.fsencode(tmp_path), b"unseen", name), 100 + seed)
    return tmp_path / "unseen"


@pytest.mark.parametrize("given", ["", "model.safetensors"])
def test_labels_are_those_of_the_model(run, finished, unseen, tmp_path, given):
    out = tmp_path / "labels.csv"
    before = list_files(finished[0])
    result = run("predict", finished[0] / given, unseen, "--out", out, "--json")
    rows, model = read_table(out), load(finished[0] / "model.safetensors")
    paths = [r"./-e\xff.png", "./=d.png", "a.png", "b/c.png"]
    files = [unseen / os.fsdecode(b"-e\xff.png"), *(unseen / p for p in paths[1:])]
    probabilities = model.predict_proba(files)
    assert [row["path"] for row in rows] == paths
    assert tuple(rows[0]) == COLUMNS
    clusters = [int(row["cluster"]) for row in rows]
    assert clusters == probabilities.argmax(axis=1).tolist()
    confidence = [float(row["confidence"]) for row in rows]
    np.testing.assert_allclose(confidence, probabilities.max(axis=1), atol=1e-6)
    record = json.loads(result.stdout)
    sizes = np.bincount(clusters, minlength=len(model.prototypes_)).tolist()
    assert (record["n_pictures"], record["sizes"]) == (4, sizes)
    assert list_files(finished[0]) == before


def test_what_was_clustered_is_predicted_alike(run, finished, pictures, tmp_path):
    run("predict", finished[0], pictures, "--out", tmp_path / "again.csv")
    expected = (finished[0] / "labels.csv").read_bytes()
    assert (tmp_path / "again.csv").read_bytes() == expected


def test_parquet_by_its_ending(run, finished, unseen, tmp_path):
    pytest.importorskip("pyarrow")
    pandas = pytest.importorskip("pandas")
    for name in ("x.csv", "x.parquet"):
        run("predict", finished[0], unseen, "--out", tmp_path / name, "--quiet")
    table = pandas.read_parquet(tmp_path / "x.parquet")
    expected = pandas.read_csv(tmp_path / "x.csv")
    pandas.testing.assert_frame_equal(table, expected, check_dtype=False)


def test_a_table_is_replaced_only_if_asked(run, finished, unseen, tmp_path):
    out = tmp_path / "labels.csv"
    out.write_text("mine")
    said = run("predict", finished[0], unseen, "--out", out, code=1).stderr
    assert "pass --overwrite" in said and out.read_text() == "mine"
    run("predict", finished[0], unseen, "--out", out, "--overwrite")
    assert len(read_table(out)) == 4


def test_what_is_no_model_is_said(run, unseen, tmp_path):
    model, out = tmp_path / "model.safetensors", tmp_path / "labels.csv"
    model.write_text("no model")
    said = run("predict", model, unseen, "--out", out, code=1).stderr
    assert f"Error: {str(model)!r} is refused: it is no file of safetensors" in said
    save(SimCLR(), model)
    said = run("predict", model, unseen, "--out", out, code=1).stderr
    assert "holds a SimCLR, and a model is needed" in said
    assert not out.exists()
