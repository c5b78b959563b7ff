# SPDX-License-Identifier: BSD-3-Clause
"""`sklearn-scan cluster`: what it writes, when it goes on, what it leaves alone."""

import io
import json
import os
import shutil
import sys

import numpy as np
import pytest
import torch
from cli_helpers import (
    HOSTILE,
    N_CLUSTERS,
    PLAIN,
    list_files,
    read_table,
)
from PIL import Image

from sklearn_scan import SCANClustering, load
from sklearn_scan._disk import read_checked
from sklearn_scan._engine._checkpoint import Checkpoint

CHECKPOINT = "cache/sklearn_scan_checkpoint"


def interrupt(*args, **kwargs):
    raise KeyboardInterrupt


def fail(*args, **kwargs):
    raise AssertionError("was called")


def read_summary(out):
    return json.loads((out / "summary.json").read_text())


@pytest.fixture
def decoded(monkeypatch):
    """Return a list of the files that are opened as pictures."""
    opened, open_picture = [], Image.open

    def count(path, *args, **kwargs):
        opened.append(str(path))
        return open_picture(path, *args, **kwargs)

    monkeypatch.setattr(Image, "open", count)
    return opened


# --- what it writes ----------------------------------------------------------------


def test_the_table_has_what_the_model_has_learned(finished, pictures):
    out, _ = finished
    rows, model = read_table(out / "labels.csv"), load(out / "model.safetensors")
    names = [*HOSTILE.values(), *(name.decode() for name in PLAIN)]
    assert sorted(row["path"] for row in rows) == sorted(names)
    assert [int(row["cluster"]) for row in rows] == model.labels_.tolist()
    given = [float(row["confidence"]) for row in rows]
    np.testing.assert_allclose(given, model.confidence_, atol=1e-6)
    ranks = np.argsort(-model.predict_proba(pictures), axis=1)
    assert [int(row["second_cluster"]) for row in rows] == ranks[:, 1].tolist()
    # The order of the rows is that of the files.
    files = [os.path.basename(os.fsencode(path)) for path in model.paths_]
    place = {names[k]: os.path.basename(b) for k, b in enumerate([*HOSTILE, *PLAIN])}
    assert [place[row["path"]] for row in rows] == files


def test_the_json_is_the_summary_and_agrees_with_the_table(finished):
    out, printed = finished
    summary = read_summary(out)
    assert printed == summary | {"out": str(out), "reused": False}
    clusters = [int(row["cluster"]) for row in read_table(out / "labels.csv")]
    sizes = np.bincount(clusters, minlength=N_CLUSTERS).tolist()
    assert [each["size"] for each in summary["clusters"]] == sizes
    assert summary["pictures"]["count"] == sum(sizes) == len(HOSTILE) + len(PLAIN)
    assert summary["status"] == "finished"
    assert summary["versions"].keys() >= {"sklearn_scan", "torch", "python"}
    assert summary["seconds"]["fit"] > 0
    for name in summary["files"]:
        assert (out / name).is_file()


def test_nothing_else_is_written(finished):
    assert {path.name for path in finished[0].iterdir()} == {
        "cache",
        "clusters.html",
        "labels.csv",
        "model.safetensors",
        "summary.json",
    }


def test_the_model_forgets_the_folders_of_its_run(finished):
    model = load(finished[0] / "model.safetensors")
    assert model.memory is model.checkpoint is model.pretext_.memory is None


def test_parquet_holds_the_same_table(run, options, found, monkeypatch):
    pytest.importorskip("pyarrow")
    pandas = pytest.importorskip("pandas")
    before = pandas.read_csv(found / "labels.csv")
    run(*options, "--out", found, "--format", "parquet", "--no-page")
    table = pandas.read_parquet(found / "labels.parquet")
    pandas.testing.assert_frame_equal(table, before, check_dtype=False)
    # Of the same settings: what was there remains true.
    assert (found / "labels.csv").exists() and (found / "clusters.html").exists()


def test_quiet_says_nothing(run, options, found):
    result = run(*options, "--out", found, "--quiet")
    assert result.output == ""


# --- the same command again --------------------------------------------------------


def test_a_finished_command_does_nothing(run, options, found, monkeypatch, decoded):
    monkeypatch.setattr(SCANClustering, "fit", fail)
    before = list_files(found)
    result = run(*options, "--out", found, "--json")
    assert "Nothing to do" in result.stderr
    assert json.loads(result.stdout)["reused"] is True
    assert list_files(found) == before
    assert decoded == []


@pytest.mark.parametrize("change", ["picture", "new", "seed", "weights", "gone"])
def test_what_has_changed_is_computed(
    run, pictures, weights, options, found, tmp_path, monkeypatch, change
):
    # The same fit is done where a result is gone; else it begins, and is interrupted.
    monkeypatch.setattr(SCANClustering, "fit", interrupt)
    copied = shutil.copytree(pictures, tmp_path / "copy")
    options = [copied if each == pictures else each for each in options]
    summary = read_summary(found) | {"folder": str(copied)}
    (found / "summary.json").write_text(json.dumps(summary))
    assert "Nothing to do" in run(*options, "--out", found).stderr
    if change == "picture":
        os.utime(copied / "3.png", (2e9, 2e9))  # of the same size
    elif change == "new":
        shutil.copy(copied / "3.png", copied / "33.png")
    elif change == "seed":
        options += ["--seed", 1]
    elif change == "weights":
        other = shutil.copy(weights, tmp_path / "other.pth")
        options = [other if each == weights else each for each in options]
    else:
        (found / "labels.csv").unlink()
    run(*options, "--out", found, code=130)


def test_an_interrupted_run_goes_on(
    run, options, finished, tmp_path, monkeypatch, decoded
):
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr("sklearn_scan._scan.find_neighbors", interrupt)
        result = run(*options, "--out", out, "--no-page", code=130)
    said = f"Interrupted. What was computed is kept in {out}/cache; the same command"
    assert result.stderr.splitlines()[-1].startswith(said)
    assert read_summary(out)["status"] == "running"
    assert not (out / "labels.csv").exists()
    decoded.clear()
    result = run(*options, "--out", out, "--no-page")
    assert "Going on" in result.stderr
    # No picture is read twice, and the end is that of a run without interruption.
    assert decoded == []
    expected = (finished[0] / "labels.csv").read_bytes()
    assert (out / "labels.csv").read_bytes() == expected


def test_training_from_scratch_goes_on(run, pictures, tmp_path, monkeypatch, decoded):
    def stop_after(n_epochs):
        done = []

        def save(self, net, **kwargs):
            save_state(self, net, **kwargs)
            done.append(net)
            if len(done) == n_epochs:
                raise KeyboardInterrupt

        monkeypatch.setattr(Checkpoint, "on_epoch_end", save)

    def n_epochs():
        states = (out / CHECKPOINT).iterdir()
        (last,) = [path for path in states if ".before." not in path.name]
        state = io.BytesIO(read_checked(last))
        return len(torch.load(state, weights_only=True)["records"])

    save_state, out = Checkpoint.on_epoch_end, tmp_path / "out"
    command = ["cluster", pictures, "--n-clusters", 2, "--image-size", 8, "--out", out]
    stop_after(2)
    result = run(*command, code=130)
    assert "a pretrained one finds better groups" in result.stderr
    assert n_epochs() == 2
    decoded.clear()
    stop_after(1)
    run(*command, code=130)
    assert n_epochs() == 3
    assert decoded == []


def test_other_settings_replace_what_the_run_has_written(
    run, options, found, decoded, finished
):
    (found / "notes.txt").write_text("mine")
    # Of several values for an option, the last counts.
    run(*options, "--n-clusters", 1, "--out", found, "--no-page")
    rows = read_table(found / "labels.csv")
    assert {(row["cluster"], row["second_cluster"]) for row in rows} == {("0", "")}
    # The page showed other clusters; features of the pictures are still known.
    assert not (found / "clusters.html").exists()
    assert read_summary(found)["files"] == ["labels.csv", "model.safetensors"]
    assert (found / "notes.txt").read_text() == "mine"
    assert decoded == []


def test_the_state_of_a_fit_that_is_done_is_deleted(run, options, found):
    (found / CHECKPOINT).mkdir()
    (found / CHECKPOINT / "head_search-1.pt").write_text("")
    run(*options, "--seed", 1, "--out", found, "--no-page")
    assert not (found / CHECKPOINT).exists()


def test_results_of_other_settings_do_not_outlive_an_interruption(
    run, options, found, monkeypatch
):
    other = [*options, "--n-clusters", 2, "--out", found]
    with monkeypatch.context() as patched:
        patched.setattr(SCANClustering, "fit", interrupt)
        run(*other, code=130)
    assert (found / "clusters.html").exists()
    run(*other, "--no-page")
    assert not (found / "clusters.html").exists()
    assert read_summary(found)["files"] == ["labels.csv", "model.safetensors"]


def test_an_interruption_does_not_cost_what_was_right(run, options, found, monkeypatch):
    other = [*options, "--format", "parquet", "--no-page", "--out", found]
    with monkeypatch.context() as patched:
        patched.setattr(SCANClustering, "fit", interrupt)
        run(*other, code=130)
    run(*other)
    assert {"labels.csv", "clusters.html"} <= set(read_summary(found)["files"])
    assert (found / "labels.csv").exists() and (found / "clusters.html").exists()


# --- files of others ---------------------------------------------------------------


def test_a_folder_of_others_is_refused(run, options, tmp_path, monkeypatch):
    monkeypatch.setattr(SCANClustering, "fit", fail)
    (tmp_path / "labels.csv").write_text("mine")
    (tmp_path / "summary.json").write_text('{"mine": 1}')
    before = list_files(tmp_path)
    result = run(*options, "--out", tmp_path, code=1)
    assert "'labels.csv', 'summary.json'" in result.stderr
    assert "--overwrite" in result.stderr
    assert list_files(tmp_path) == before


def test_a_file_that_the_run_has_not_written_is_refused(run, options, found):
    (found / "labels.parquet").write_text("mine")
    pytest.importorskip("pyarrow")
    result = run(*options, "--out", found, "--format", "parquet", code=1)
    assert "'labels.parquet'" in result.stderr
    assert (found / "labels.parquet").read_text() == "mine"


def test_overwrite_replaces_results_alone(run, options, tmp_path):
    (tmp_path / "labels.csv").write_text("mine")
    (tmp_path / "clusters.html").write_text("mine")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "notes.txt").write_text("mine")
    run(*options, "--out", tmp_path, "--no-page", "--overwrite")
    assert len(read_table(tmp_path / "labels.csv")) == len(HOSTILE) + len(PLAIN)
    assert (tmp_path / "clusters.html").read_text() == "mine"
    assert (tmp_path / "cache" / "notes.txt").read_text() == "mine"


def test_hidden_files_are_no_files_of_others(run, options, tmp_path, monkeypatch):
    monkeypatch.setattr(SCANClustering, "fit", interrupt)
    (tmp_path / ".DS_Store").write_text("")
    result = run(*options, "--out", tmp_path, "--json", code=130)
    assert json.loads(result.stdout)["error"]["type"] == "KeyboardInterrupt"


def test_a_link_is_replaced_and_not_what_it_leads_to(run, options, found, tmp_path):
    other = tmp_path / "other.csv"
    other.write_text("mine")
    (found / "labels.csv").unlink()
    (found / "labels.csv").symlink_to(other)
    (found / "model.safetensors").unlink()  # so that results are written again
    run(*options, "--out", found, "--no-page")
    assert other.read_text() == "mine"
    assert not (found / "labels.csv").is_symlink()


# --- errors ------------------------------------------------------------------------


def test_parquet_without_its_libraries_is_refused_at_once(
    run, options, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr(SCANClustering, "fit", fail)
    out = tmp_path / "out"
    result = run(*options, "--out", out, "--format", "parquet", code=1)
    assert 'pip install "sklearn-scan[parquet]"' in result.stderr
    assert not out.exists()


# --- pictures that cannot be read --------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*cannot be read")
def test_pictures_that_cannot_be_read_are_named_or_skipped(
    run, pictures, options, tmp_path
):
    copied = shutil.copytree(pictures, tmp_path / "copy")
    (copied / "half.png").write_bytes((copied / "3.png").read_bytes()[:60])
    options = [copied if each == pictures else each for each in options]
    out = tmp_path / "out"
    said = run(*options, "--out", out, code=1).stderr
    assert "half.png: " in said and "1 of " in said
    skipping = ["--on-error", "skip", "--quiet"]
    run(*options, "--out", out, *skipping)
    rows = {row["path"]: row for row in read_table(out / "labels.csv")}
    broken = rows.pop("half.png")
    assert list(broken.values()) == ["half.png", "-1", "", "", ""]
    assert all(int(row["cluster"]) >= 0 for row in rows.values())
    summary = read_summary(out)
    assert summary["skipped"] == 1
    assert sum(each["size"] for each in summary["clusters"]) == len(rows)
    assert 0 < summary["confidence"] <= 1
    table = tmp_path / "again.csv"
    run("predict", out, copied, "--out", table, *skipping)
    found = {row["path"]: row["cluster"] for row in read_table(table)}
    assert found == {name: row["cluster"] for name, row in rows.items()} | {
        "half.png": "-1"
    }
