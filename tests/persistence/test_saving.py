# SPDX-License-Identifier: BSD-3-Clause
"""What is saved comes back, to the bit, and without pickle."""

import pickle
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import persistence_helpers
import pytest
import torch
from helpers import TASKS
from persistence_helpers import (
    KINDS,
    MLP,
    Flat,
    assert_same,
    make_clusterer,
    save_and_load,
)
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomTreesEmbedding
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import Bunch

import sklearn_scan
from sklearn_scan import load, save
from sklearn_scan.pretext import DeepCluster, Pretrained, SimCLR

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

FLAT = "persistence_helpers:Flat"

# Predicts in a process in which nothing can be unpickled.
PROGRAM = """
import _pickle, io, pickle, sys
import numpy as np, torch, joblib
from sklearn_scan import load

def refuse(*args, **kwargs):
    raise AssertionError("pickle was used")

for module in (pickle, _pickle):
    module.load = module.loads = module.Unpickler = refuse
pickle._Unpickler = torch.load = joblib.load = refuse
rows, images = np.load("rows.npy"), np.load("images.npy")
found = {}
for name in sys.argv[1:]:
    loaded = load(f"{name}.safetensors", device="cpu")
    found[name] = loaded.predict_proba(rows if name == "rows" else images)
np.savez("found.npz", **found)
"""


def describe(estimator):
    """Return all parameters as text, but for devices."""
    params = estimator.get_params().items()
    return {
        n: re.sub(r"device='\w+',? ?", "", str(v)).replace(", )", ")")
        for n, v in params
        if not n.endswith("device")
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_clusterer_answers_as_before(kind, fit, tmp_path):
    model, X = fit(kind)
    loaded = save_and_load(model, tmp_path)
    for method in ("predict_proba", "predict", "transform", "score"):
        found, expected = getattr(loaded, method)(X), getattr(model, method)(X)
        np.testing.assert_array_equal(found, expected, err_msg=method)
    assert describe(loaded) == describe(model)
    learned = {n: v for n, v in vars(model).items() if n.endswith("_")}
    assert set(vars(loaded)) == set(vars(model))
    for name, value in learned.items():
        assert_same(getattr(loaded, name), value, name)
    expected = list(model.get_feature_names_out())
    assert list(loaded.get_feature_names_out()) == expected


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.__name__)
def test_a_task_embeds_as_before(task, images, tmp_path):
    fitted = task(**MLP).fit(images)
    loaded = save_and_load(fitted, tmp_path)
    np.testing.assert_array_equal(loaded.transform(images), fitted.transform(images))
    assert loaded.history_ == fitted.history_
    if task is DeepCluster:
        np.testing.assert_array_equal(loaded.labels_, fitted.labels_)
        np.testing.assert_array_equal(loaded.predict(images), fitted.predict(images))


def test_another_process_needs_no_pickle(fit, tmp_path):
    expected = {}
    for kind in ("rows", "pipeline", "learning"):
        model, X = fit(kind)
        save(model, tmp_path / f"{kind}.safetensors")
        np.save(tmp_path / ("rows.npy" if kind == "rows" else "images.npy"), X)
        expected[kind] = model.predict_proba(X)
    root = str(Path(sklearn_scan.__file__).parents[1])
    program = f"import sys; sys.path.insert(0, {root!r})\n{PROGRAM}"
    subprocess.run(
        [sys.executable, "-c", program, *expected],
        cwd=tmp_path,
        check=True,
    )
    with np.load(tmp_path / "found.npz") as found:
        for kind, probabilities in expected.items():
            np.testing.assert_array_equal(found[kind], probabilities)


def test_a_loaded_clusterer_can_be_fitted_and_saved_again(fit, tmp_path):
    model, X = fit("PCA")
    loaded = save_and_load(save_and_load(model, tmp_path), tmp_path)
    assert np.array_equal(loaded.fit(X).labels_, model.labels_)


def test_an_unfitted_clusterer(tmp_path):
    unfitted = make_clusterer(SimCLR(views=("crop", "flip")), n_heads="auto")
    assert describe(save_and_load(unfitted, tmp_path)) == describe(unfitted)


def test_attributes_that_are_not_known_by_name(fit, tmp_path):
    model = pickle.loads(pickle.dumps(fit("rows")[0]))
    model.new_ = {
        "array": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        3: (np.float32(0.1), np.int64(7), float("nan"), -float("inf"), True, None),
        "names": np.array(["a", "b"], dtype=object),
        "many": [f"{i}\udcff.png" for i in range(200)],
        "bunch": Bunch(x=1),
        "set": {1, 2},
        "empty": np.empty((0, 3), np.uint16),
    }
    loaded = save_and_load(model, tmp_path)
    assert_same(loaded.new_, model.new_)
    assert loaded.new_["array"].flags.f_contiguous
    assert loaded.new_["set"] == {1, 2} and loaded.new_["bunch"].x == 1


def test_what_is_shared_in_a_file_is_not_shared_in_memory(images, tmp_path):
    X = images.reshape(60, -1)
    model = make_clusterer().fit(X)
    assert np.array_equal(model.embedding_, X)
    save(model, tmp_path / "alone")
    model.twin_ = model.embedding_
    save(model, tmp_path / "saved")
    sizes = [(tmp_path / name).stat().st_size for name in ("alone", "saved")]
    assert sizes[1] - sizes[0] < X.nbytes / 10
    loaded = load(tmp_path / "saved")
    loaded.twin_[:] = 0
    assert np.array_equal(loaded.embedding_, X)


def test_what_is_of_one_machine_is_left_out(images, tmp_path):
    folder = str(tmp_path / "cache")
    pretext = Pretrained("mlp", memory=folder)
    model = make_clusterer(pretext, memory=folder, checkpoint=folder).fit(images)
    loaded = save_and_load(model, tmp_path)
    for estimator in (loaded, loaded.pretext, loaded.pretext_):
        assert estimator.memory is None
        assert estimator.device == "cpu"
    assert loaded.checkpoint is None
    assert folder.encode() not in (tmp_path / "saved.safetensors").read_bytes()
    assert model.memory == folder and model.checkpoint == folder


def test_code_of_the_user_is_called_only_if_trusted(images, tmp_path, monkeypatch):
    factory = partial(Flat, width=6)
    fitted = Pretrained(factory, random_state=0).fit(images)
    path = tmp_path / "saved"
    save(fitted, path)
    with monkeypatch.context() as context:
        context.setattr(Flat, "__init__", lambda *_: pytest.fail("it was called"))
        with pytest.raises(ValueError, match=rf"trusted=\['{FLAT}'\]"):
            load(path)
    for trusted in ([FLAT], [Flat]):
        loaded = load(path, trusted=trusted)
        assert loaded.encoder.func is Flat
        assert np.array_equal(loaded.transform(images), fitted.transform(images))
    with pytest.raises(TypeError, match="must be a list"):
        load(path, trusted=FLAT)


def test_all_that_is_not_trusted_is_named_at_once(tmp_path):
    pretext = SimCLR(encoder=Flat, views=persistence_helpers.make_clusterer)
    save(pretext, tmp_path / "saved")
    listed = rf"trusted=\['{FLAT}', 'persistence_helpers:make_clusterer'\]"
    with pytest.raises(ValueError, match=listed):
        load(tmp_path / "saved")


@pytest.mark.parametrize(
    ("pretext", "said"),
    [
        (SimCLR(encoder=lambda shape: Flat(shape)), "encoder cannot be saved.*lambda"),
        (RandomTreesEmbedding(3), r"estimators_\[0\].* cannot be saved"),
        (FunctionTransformer(lambda X: X), "func cannot be saved"),
    ],
)
def test_what_is_no_data_is_not_saved(pretext, said, images, tmp_path):
    model = make_clusterer(pretext)
    if isinstance(pretext, RandomTreesEmbedding):
        model.set_params(pretext__sparse_output=False)
        model.fit(images)
    with pytest.raises(TypeError, match=said):
        save(model, tmp_path / "saved")
    assert not list(tmp_path.iterdir())


def test_only_estimators_are_saved(tmp_path):
    with pytest.raises(TypeError, match="of type dict"):
        save({}, tmp_path / "saved")


def test_weights_that_are_not_stored_are_loaded_again(images, tmp_path):
    torch.save(Flat((1, 8, 8)).state_dict(), tmp_path / "weights.pth")
    options = {"store_weights": False, "device": "cpu"}
    fitted = Pretrained(Flat, str(tmp_path / "weights.pth"), **options).fit(images)
    loaded = save_and_load(fitted, tmp_path, trusted=[Flat])
    assert "net_" not in vars(loaded)
    assert np.array_equal(loaded.transform(images), fitted.transform(images))


def test_an_encoder_with_a_name_prepares_pictures_as_before(tmp_path):
    timm = pytest.importorskip("timm")
    weights = timm.create_model("test_vit", pretrained=False, num_classes=0)
    pictures = [
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (40, 50, 3), "uint8"))
        for i in range(12)
    ]
    pretext = Pretrained("timm/test_vit", weights.state_dict(), image_size=32)
    model = make_clusterer(pretext).fit(pictures)
    loaded = save_and_load(model, tmp_path)
    expected = model.predict_proba(pictures)
    assert np.array_equal(loaded.predict_proba(pictures), expected)
    # Its weights are in the file once, though the parameter holds them as well.
    n_bytes = sum(value.nbytes for value in weights.state_dict().values())
    assert (tmp_path / "saved.safetensors").stat().st_size < 1.5 * n_bytes


def test_a_file_is_whole_or_not_there(fit, tmp_path, monkeypatch):
    path = tmp_path / "saved"
    path.write_text("an earlier one")
    with monkeypatch.context() as context:
        context.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("full")))
        with pytest.raises(OSError, match="full"):
            save(fit("rows")[0], path)
    assert path.read_text() == "an earlier one"
    assert list(tmp_path.iterdir()) == [path]


def test_another_release_of_scikit_learn_is_told(fit, tmp_path, monkeypatch):
    for kind, is_told in (("PCA", True), ("learning", False)):
        save(fit(kind)[0], tmp_path / kind)
        with monkeypatch.context() as context:
            context.setattr("sklearn.__version__", "99.0")
            if is_told:
                with pytest.warns(InconsistentVersionWarning, match="PCA"):
                    load(tmp_path / kind)
            else:
                load(tmp_path / kind)


def test_a_device_that_is_not_there_is_said(fit, tmp_path):
    save(fit("rows")[0], tmp_path / "saved")
    with pytest.raises(ValueError, match="'nonsense'"):
        load(tmp_path / "saved", device="nonsense")


@pytest.mark.parametrize("kind", ["PCA", "learning"])
def test_a_pickle_holds_tensors_of_the_cpu_alone(kind, fit, monkeypatch):
    """A network on a GPU is pickled so that a machine without one reads it."""
    model = fit(kind)[0]
    found = pickle.loads(pickle.dumps(model))
    devices = {p.device.type for p in found.net_.module_.state_dict().values()}
    assert devices == {"cpu"}
    assert found.get_params().keys() == model.get_params().keys()


def test_pca_keeps_its_layout(images, tmp_path):
    rows = images.reshape(60, -1)
    fitted = PCA(5).fit(rows)
    model = make_clusterer(PCA(5)).fit(images)
    loaded = save_and_load(model, tmp_path)
    for name in ("components_", "mean_"):
        found, kept = getattr(loaded.pretext_, name), getattr(model.pretext_, name)
        assert found.flags.f_contiguous == kept.flags.f_contiguous
    assert np.array_equal(fitted.components_, model.pretext_.components_)
