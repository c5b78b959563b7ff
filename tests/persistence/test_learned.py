# SPDX-License-Identifier: BSD-3-Clause
"""All that a fit leaves behind is in the file, and every answer is as before."""

import copy
import pickle

import numpy as np
import pytest
from persistence_helpers import QUICK, assert_same, make_clusterer, save_and_load
from PIL import Image
from sklearn.datasets import make_blobs
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from sklearn_scan import diagnose, load, merge, merge_tree, save
from sklearn_scan.pretext import Pretrained, SimCLR

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def ask(model, X):
    """Return whatever a fitted clusterer can be asked, which leaves it as it is."""
    model = copy.copy(model)
    return {
        "predict": model.predict(X),
        "refusing": model.predict(X, novelty_rate=0.2),
        "predict_proba": model.predict_proba(X),
        "transform": model.transform(X),
        "novelty_score": model.novelty_score(X),
        "score": model.score(X),
        "diagnose": diagnose(model).to_dict(),
        "merge_tree": merge_tree(model),
        "merge": merge(model, [[0, 1]], X).predict_proba(X),
    }


def assert_answers(model, X, tmp_path):
    """Hold a loaded model against the one that was saved; return it."""
    loaded = save_and_load(model, tmp_path)
    assert_same(ask(loaded, X), ask(model, X))
    return loaded


@pytest.mark.parametrize("kind", ["rows", "PCA", "learning", "pretrained"])
def test_every_answer_is_as_before(kind, fit, tmp_path):
    model, X = fit(kind)
    assert_answers(model, X, tmp_path)
    refused = copy.copy(model).predict(X + X.max(), novelty_rate=0.2)
    assert (refused == -1).any(), "nothing is refused, whatever is loaded"


def test_what_is_found_when_asked_is_not_saved(fit, tmp_path):
    """A file does not depend on what was asked before, nor hold samples twice."""
    model, X = fit("rows")
    model = pickle.loads(pickle.dumps(model))
    vars(model).pop("_known_samples", None)
    save(model, tmp_path / "before")
    model.novelty_score(X)
    assert "_known_samples" in vars(model)
    save(model, tmp_path / "after")
    before, after = ((tmp_path / n).stat().st_size for n in ("before", "after"))
    assert before == after
    assert "_known_samples" not in vars(load(tmp_path / "after"))


def test_the_temperature_is_that_of_the_fit(fit, tmp_path):
    model, X = fit("rows")
    model = pickle.loads(pickle.dumps(model))
    model.temperature_ = 2.5
    loaded = assert_answers(model, X, tmp_path)
    assert loaded.temperature_ == 2.5


@pytest.mark.parametrize("kind", ["rows", "learning", "pretrained"])
def test_merged_clusters(kind, fit, tmp_path):
    model, X = fit(kind)
    model = pickle.loads(pickle.dumps(model))
    model.temperature_ = 2.5
    merged = merge(model, [[0, 2]], X)
    loaded = assert_answers(merged, X, tmp_path)
    assert loaded.n_clusters_ == 2 and loaded.n_clusters == 3
    assert loaded.net_.module_.heads.temperature == 2.5
    twice = merge(merged, [[0, 1]], X)
    again = save_and_load(merge(loaded, [[0, 1]], X), tmp_path)
    assert_same(again.predict_proba(X), twice.predict_proba(X))
    assert_same(again.labels_, twice.labels_)


@pytest.mark.filterwarnings("ignore:The number of clusters is doubtful")
def test_a_number_of_clusters_that_was_found(tmp_path):
    X, _ = make_blobs(120, centers=4, cluster_std=0.3, random_state=1)
    model = make_clusterer(n_heads=4).set_params(n_clusters="auto").fit(X)
    assert model.n_clusters_ == 4
    loaded = assert_answers(model, X, tmp_path)
    assert loaded.n_clusters == "auto" and loaded.n_clusters_ == 4
    assert_same(loaded.history_, model.history_)


def test_sizes_of_clusters(tmp_path):
    X, _ = make_blobs(60, centers=3, random_state=1)
    model = make_clusterer(cluster_sizes=np.array([0.5, 0.3, 0.2])).fit(X)
    loaded = assert_answers(model, X, tmp_path)
    assert_same(loaded.cluster_sizes, model.cluster_sizes)


@pytest.fixture
def folder(images, tmp_path):
    """Return a folder with folders of pictures, one of which is damaged."""
    for i, image in enumerate(images[:30]):
        path = tmp_path / "pictures" / f"class {i % 3}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15).astype(np.uint8)).save(path)
    (tmp_path / "pictures" / "class 1" / "0.png").write_bytes(b"no picture")
    return tmp_path / "pictures"


@pytest.mark.filterwarnings("ignore:.*cannot be read")
@pytest.mark.parametrize(
    "options",
    [
        {"pretext": Pretrained("mlp", image_shape=(8, 8, 1), mean=[0.3], std=[0.3])},
        {"pretext": Pretrained("mlp"), "image_shape": (8, 8, 3), "clustering": QUICK},
        {"pretext": SimCLR(encoder="mlp", epochs=1), "image_shape": (8, 8, 1)},
    ],
    ids=["lazy", "trained on", "in memory"],
)
def test_a_folder_with_files_that_were_skipped(options, folder, tmp_path):
    model = make_clusterer(on_error="skip", **options).fit(folder)
    loaded = assert_answers(model, folder, tmp_path)
    assert len(loaded.skipped_) == 1 and (loaded.labels_ == -1).sum() == 1
    assert_same(loaded.skipped_, model.skipped_)
    assert_same(loaded.paths_, model.paths_)
    is_kept = isinstance(model.pretext, Pretrained) and "clustering" not in options
    assert model.input_spec_.is_lazy == is_kept
    for name in ("is_lazy", "skipped", "preparation", "paths", "pixels"):
        expected = getattr(model.input_spec_, name)
        assert_same(getattr(loaded.input_spec_, name), expected)
        assert getattr(loaded.input_spec_, name) == expected
    np.testing.assert_equal(
        diagnose(loaded, folder).to_dict(), diagnose(model, folder).to_dict()
    )


def test_a_clusterer_at_the_end_of_a_pipeline(images, tmp_path):
    rows = images.reshape(len(images), -1)
    pretext = SimCLR(encoder="mlp", epochs=1)
    clusterer = make_clusterer(pretext, image_shape=(8, 8))
    model = make_pipeline(MinMaxScaler(), clusterer).fit(rows)
    loaded = save_and_load(model, tmp_path)
    assert_same(loaded.predict(rows), model.predict(rows))
    assert_same(loaded[-1].labels_, model[-1].labels_)
    assert_same(loaded[:-1].transform(rows), model[:-1].transform(rows))


@pytest.mark.parametrize("n", [3, 3000])
def test_lists_of_strings_of_any_length(n, fit, tmp_path, monkeypatch):
    """What is written can be read, also where it is more than JSON may be."""
    monkeypatch.setattr("sklearn_scan._persistence._file._MOST_BYTES_OF_JSON", 2**16)
    model = pickle.loads(pickle.dumps(fit("rows")[0]))
    model.paths_ = [f"{i} \udcff\0é\n".ljust(100, "x") for i in range(n)]
    model.skipped_ = dict.fromkeys(model.paths_, "damaged")
    model.empty_ = [""] * n
    loaded = save_and_load(model, tmp_path)
    for name in ("paths_", "skipped_", "empty_"):
        assert_same(getattr(loaded, name), getattr(model, name))


@pytest.mark.parametrize("name", ["model.joblib", "model", "a model.txt"])
def test_the_ending_of_a_name_does_not_matter(name, fit, tmp_path):
    save(fit("rows")[0], tmp_path / name)
    assert np.array_equal(load(str(tmp_path / name)).labels_, fit("rows")[0].labels_)


def test_where_nothing_can_be_written(fit, tmp_path):
    for path in (tmp_path, tmp_path / "missing" / "model"):
        with pytest.raises(OSError, match="Cannot write") as caught:
            save(fit("rows")[0], path)
        assert str(path) in str(caught.value)
    assert not list(tmp_path.iterdir())
