# SPDX-License-Identifier: BSD-3-Clause
"""`predict_proba` as a model of ONNX answers alike."""

import copy
import sys

import numpy as np
import pytest
from persistence_helpers import make_clusterer
from sklearn.base import clone

from sklearn_scan import export_onnx
from sklearn_scan.pretext import Pretrained, SimCLR


@pytest.fixture
def answer():
    """Return a function that runs a model of ONNX on samples."""
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")

    def answer(path, X):
        session = onnxruntime.InferenceSession(path)
        (given,) = session.get_inputs()
        (found,) = session.run(["probabilities"], {given.name: X})
        return given.name, found

    return answer


@pytest.mark.parametrize(("kind", "name"), [("rows", "rows"), ("learning", "images")])
def test_probabilities_are_equal(kind, name, fit, answer, tmp_path):
    model, X = fit(kind)
    path = tmp_path / "model.onnx"
    export_onnx(model, path)
    model = copy.deepcopy(model).set_params(precision="float32")
    for n in (1, 7, 60):
        input_name, found = answer(path, X[:n])
        assert input_name == name
        np.testing.assert_allclose(found, model.predict_proba(X[:n]), atol=1e-4)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_pretrained_encoder_and_images_in_colour_as_bytes(answer, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 9, 3), np.uint8)
    model = make_clusterer(Pretrained("mlp", precision="float32")).fit(images)
    export_onnx(model, tmp_path / "model.onnx", dtype="uint8")
    _, found = answer(tmp_path / "model.onnx", images)
    np.testing.assert_allclose(found, model.predict_proba(images), atol=1e-4)


def test_what_is_no_network_is_refused(fit, tmp_path):
    pytest.importorskip("onnxscript")
    model, _ = fit("PCA")
    with pytest.raises(TypeError, match=r"PCA\(n_components=5.*\) is no network"):
        export_onnx(model, tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="not fitted"):
        export_onnx(clone(model), tmp_path / "model.onnx")
    with pytest.raises(TypeError, match="of type SimCLR"):
        export_onnx(SimCLR(), tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="dtype='int8'"):
        export_onnx(model, tmp_path / "model.onnx", dtype="int8")


def test_what_has_to_be_installed_is_said(fit, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r'pip install "sklearn_scan\[onnx\]"'):
        export_onnx(fit("rows")[0], tmp_path / "model.onnx")
