# SPDX-License-Identifier: BSD-3-Clause
"""`sklearn-scan gallery`: the page of a run, written again."""

import json
import shutil

from sklearn_scan import load, save


def test_the_page_is_that_of_the_run(run, finished, found):
    page = found / "clusters.html"
    page.write_text("damaged")
    result = run("gallery", found, "--json")
    assert page.read_bytes() == (finished[0] / "clusters.html").read_bytes()
    n_bytes = page.stat().st_size
    assert json.loads(result.stdout) == {"page": str(page), "n_bytes": n_bytes}


def test_title_and_size_are_taken(run, found, tmp_path):
    small = tmp_path / "small.html"
    run("gallery", found, "--out", small, "--title", "<b>Mine", "--thumbnail-size", 4)
    assert "<title>&lt;b&gt;Mine</title>" in small.read_text()
    assert small.stat().st_size < (found / "clusters.html").stat().st_size


def test_pictures_may_have_moved(run, pictures, options, tmp_path):
    here, there, out = tmp_path / "here", tmp_path / "there", tmp_path / "out"
    shutil.copytree(pictures, here)
    run(*[here if each == pictures else each for each in options], "--out", out)
    before = (out / "clusters.html").read_bytes()
    here.rename(there)
    shutil.copy(there / "3.png", there / "a_later_one.png")
    said = run("gallery", out, code=1).stderr
    assert f"no longer in '{here}'. Pass --folder" in said
    (out / "clusters.html").unlink()
    run("gallery", out, "--folder", there)
    assert (out / "clusters.html").read_bytes() == before


def test_a_model_names_no_picture_outside_of_its_folder(run, found, pictures, tmp_path):
    forged = tmp_path / "forged"
    shutil.copytree(found, forged)
    model = load(forged / "model.safetensors")
    model.paths_[1] = str(pictures.parent / "private.png")
    save(model, forged / "model.safetensors")
    for option in ([], ["--folder", pictures]):
        said = run("gallery", forged, *option, "--overwrite", code=1).stderr
        assert "outside of the folder" in said and "private.png" in said


def test_a_page_of_others_is_replaced_only_if_asked(run, found, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("mine")
    said = run("gallery", found, "--out", page, code=1).stderr
    assert "pass --overwrite" in said and page.read_text() == "mine"
    run("gallery", found, "--out", page, "--overwrite")
    assert "<!doctype html>" in page.read_text().lower()


def test_a_page_that_was_left_out_is_of_the_run_once_written(run, options, found):
    summary = json.loads((found / "summary.json").read_text())
    summary["files"].remove("clusters.html")
    (found / "summary.json").write_text(json.dumps(summary))
    (found / "clusters.html").unlink()
    run("gallery", found)
    assert "Nothing to do" in run(*options, "--out", found).stderr


def test_other_folders_are_refused(run, found, tmp_path):
    assert "is not there" in run("gallery", tmp_path, code=1).stderr
    summary = json.loads((found / "summary.json").read_text())
    (found / "summary.json").write_text(json.dumps(summary | {"status": "running"}))
    assert "is not finished" in run("gallery", found, code=1).stderr
