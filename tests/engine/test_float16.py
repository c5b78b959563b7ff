# SPDX-License-Identifier: BSD-3-Clause
"""Training in float16 needs a GPU; what can be seen of it without one."""

import numpy as np
import pytest
import torch
from helpers import TASKS

from sklearn_scan import SCANClustering, TrainingConfig, pretext
from sklearn_scan._engine import Runtime, _runtime

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

IMAGES = np.random.default_rng(0).random((40, 8, 8), dtype=np.float32)
CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")


class Scaler(torch.amp.GradScaler):
    """Notes what it is asked to do."""

    def __init__(self, **kwargs):
        super().__init__("cpu", **kwargs)
        self.calls = []

    def scale(self, loss):
        self.calls.append("scale")
        return super().scale(loss)

    def step(self, optimizer):
        self.calls.append("step")
        return super().step(optimizer)

    def update(self):
        self.calls.append("update")
        return super().update()


def let_scale(monkeypatch, **kwargs):
    """Let every stage train with a scaler; return the scalers, as they are made."""
    made = []

    def make_scaler(runtime):
        made.append(Scaler(**kwargs))
        return made[-1]

    monkeypatch.setattr(Runtime, "make_scaler", make_scaler)
    return made


def quick(task=pretext.SimCLR, **params):
    once = TrainingConfig(epochs=1)
    return SCANClustering(
        3,
        pretext=task(epochs=2, batch_size=20),
        head_search=once,
        clustering=once,
        self_labeling=once,
        threshold=0.1,
        keep="last",
        device="cpu",
        precision="float32",
        random_state=0,
        **params,
    )


# --- which precision ---------------------------------------------------------------


class NoContext:
    def __init__(self, device):
        pass

    def __enter__(self):
        pass

    def __exit__(self, *error):
        pass


@pytest.mark.parametrize(
    ("capability", "has_bfloat16", "precision"),
    [
        ((9, 0), True, "bfloat16"),
        ((8, 0), True, "bfloat16"),
        ((7, 5), False, "float16"),
        ((7, 0), False, "float16"),
        ((6, 1), False, "float32"),
    ],
)
def test_auto_is_what_a_gpu_has_instructions_for(
    capability, has_bfloat16, precision, monkeypatch
):
    monkeypatch.setattr(_runtime, "_resolve_device", lambda device: CUDA)
    monkeypatch.setattr(torch.cuda, "device", NoContext)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **kw: has_bfloat16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert Runtime.resolve("auto", "auto").precision == precision


@pytest.mark.parametrize("estimator", [SCANClustering, pretext.SimCLR])
def test_float16_is_refused_where_there_is_no_gpu(estimator):
    with pytest.raises(ValueError, match="needs a CUDA GPU, and the device is 'cpu'"):
        estimator(precision="float16", device="cpu").fit(IMAGES)


@pytest.mark.parametrize("task", [pretext.SimCLR, pretext.DeepCluster])
def test_what_was_trained_in_float16_answers_on_a_cpu(task, monkeypatch):
    # In float32, as here bfloat16 shall not be faster.
    monkeypatch.setattr(_runtime, "_has_fast_bfloat16", lambda device: False)
    clusterer = quick(task).fit(IMAGES)
    labels, embedding = clusterer.predict(IMAGES), clusterer.transform(IMAGES)
    encoder = clusterer.pretext_
    for estimator in (clusterer, encoder):
        estimator.set_params(precision="float16", device="cpu")
    assert np.array_equal(clusterer.predict(IMAGES), labels)
    assert np.array_equal(encoder.transform(IMAGES), embedding)
    if task is pretext.DeepCluster:
        assert np.array_equal(encoder.predict(IMAGES), encoder.labels_)


def test_products_are_in_float16():
    rows = torch.ones(2, 2)
    with Runtime(CPU, "float16").autocast():
        assert (rows @ rows).dtype == torch.float16


# --- the scaler --------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_gradients_are_scaled_in_float16_alone(precision, monkeypatch):
    asked = []
    monkeypatch.setattr(
        torch.amp, "GradScaler", lambda kind, enabled: asked.append((kind, enabled))
    )
    Runtime(CUDA, precision).make_scaler()
    assert asked == [("cuda", precision == "float16")]


def test_a_step_scales_the_loss_and_asks_the_scaler_to_step(monkeypatch):
    whole = quick().fit(IMAGES)
    # A power of two, by which numbers are multiplied exactly.
    scalers = let_scale(monkeypatch, init_scale=2.0**10)
    scaled = quick().fit(IMAGES)
    assert len(scalers) == 4  # stages
    for scaler in scalers:
        n_steps = len(scaler.calls) // 3
        assert scaler.calls == n_steps * ["scale", "step", "update"]
        assert n_steps > 0
    np.testing.assert_allclose(scaled.embedding_, whole.embedding_, atol=1e-5)
    np.testing.assert_allclose(scaled.confidence_, whole.confidence_, atol=1e-4)


def test_a_fitted_net_holds_no_scaler():
    assert "scaler_" not in vars(quick().fit(IMAGES).net_)


def test_a_resumed_stage_goes_on_with_its_scale(monkeypatch, tmp_path):
    scalers = let_scale(monkeypatch, growth_interval=1)
    quick().fit(IMAGES)
    expected = scalers[0].get_scale()
    scalers.clear()

    def stop(scaler):
        torch.amp.GradScaler.update(scaler)
        scaler.calls.append("update")
        if scaler.calls.count("update") == 3:  # in the second epoch
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Scaler, "update", stop)
        quick(checkpoint=tmp_path).fit(IMAGES)
    scalers.clear()
    quick(checkpoint=tmp_path).fit(IMAGES)
    assert scalers[0].calls.count("step") == 2
    assert scalers[0].get_scale() == expected


@pytest.mark.parametrize("task", TASKS)
def test_every_stage_trains_in_float16(task, monkeypatch):
    # A CPU has no use for it, and can do it.
    monkeypatch.setattr(Runtime, "resolve", lambda *args: Runtime(CPU, "float16"))
    scalers = let_scale(monkeypatch)
    clusterer = quick(task).fit(IMAGES)
    assert np.isfinite(clusterer.confidence_).all()
    assert all(scaler.get_scale() >= 1 for scaler in scalers)
