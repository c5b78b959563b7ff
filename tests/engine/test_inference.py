# SPDX-License-Identifier: BSD-3-Clause
"""The precision in which networks look at samples where nothing is learned."""

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_scan import SCANClustering
from sklearn_scan._engine import Runtime, _runtime, infer, refresh_statistics
from sklearn_scan._inputs import ArraySource, learn_format
from sklearn_scan.pretext import SimCLR

CPU = torch.device("cpu")
IMAGES = np.random.default_rng(0).integers(0, 256, (7, 6, 6), dtype=np.uint8)
ROWS = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)


def open_source(X, precision):
    return ArraySource.open(X, learn_format(X), Runtime(CPU, precision))


class Noting(nn.Module):
    """A layer that notes the type of what it makes."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.types = []

    def forward(self, batch):
        outputs = self.layer(batch)
        self.types.append(outputs.dtype)
        return outputs


@pytest.mark.parametrize(
    ("X", "layer", "precision", "dtype"),
    [
        (IMAGES, nn.Conv2d(1, 2, 3), "bfloat16", torch.bfloat16),
        (IMAGES, nn.Conv2d(1, 2, 3), "float32", torch.float32),
        (ROWS, nn.Linear(5, 2), "bfloat16", torch.float32),
    ],
)
def test_images_are_looked_at_in_the_precision_of_their_source(
    X, layer, precision, dtype
):
    layer = Noting(layer)
    outputs = infer(layer, open_source(X, precision), batch_size=3)
    assert layer.types == [dtype] * 3
    # What follows is computed in float32.
    assert outputs.dtype == torch.float32
    with torch.no_grad():
        expected = layer(open_source(X, "float32").read(torch.arange(len(X))))
    tolerance = 0.02 if dtype == torch.bfloat16 else 1e-6
    assert torch.allclose(outputs, expected, atol=tolerance)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_labels_stay_integers(precision):
    source = open_source(IMAGES, precision)
    labels = infer(lambda batch: batch.flatten(1).argmax(dim=1), source)
    assert labels.dtype == torch.int64


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_statistics_are_taken_in_that_precision(precision):
    layer = Noting(nn.Conv2d(1, 2, 3))
    network = nn.Sequential(layer, nn.BatchNorm2d(2))
    refresh_statistics(network, open_source(IMAGES, precision), batch_size=4)
    assert set(layer.types) == {getattr(torch, precision)}
    assert network[1].running_mean.dtype == torch.float32
    assert not network.training


class Probe(nn.Module):
    """An encoder that notes the types of what its convolutions make."""

    types = []

    def __init__(self, shape):
        super().__init__()
        self.convolution = nn.Conv2d(shape[0], 8, 3, stride=2, bias=False)

    def forward(self, images):
        features = self.convolution(images)
        if not self.training:
            self.types.append(features.dtype)
        return features.flatten(1)


@pytest.fixture
def types(monkeypatch):
    """On a machine on which bfloat16 is fast."""
    monkeypatch.setattr(_runtime, "_has_fast_bfloat16", lambda device: True)
    Probe.types = []
    return Probe.types


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_clusterer_looks_at_images_in_its_precision(types, precision, digits):
    images = digits[0][:60]
    clusterer = SCANClustering(
        3,
        pretext=SimCLR(encoder=Probe, epochs=1, precision=precision),
        precision=precision,
        head_search=None,
        self_labeling=None,
        random_state=0,
    ).fit(images)
    types.clear()
    probabilities = clusterer.predict_proba(images)
    embedding = clusterer.transform(images)
    assert set(types) == {getattr(torch, precision)}
    assert probabilities.dtype == embedding.dtype == np.float32
    # Heads and lengths are those of float32.
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert np.allclose(np.linalg.norm(embedding, axis=1), 1, atol=1e-6)
    types.clear()
    clusterer.pretext_.set_params(precision="float32").transform(images)
    assert set(types) == {torch.float32}


def test_a_sample_gets_nearly_the_same_answer_in_every_batch(types, digits):
    images = digits[0][:120]
    pretext = SimCLR(epochs=2, precision="bfloat16", random_state=0).fit(images)
    together = pretext.transform(images)
    alone = np.concatenate([pretext.transform(images[k : k + 1]) for k in range(20)])
    assert np.abs(together[:20] - alone).max() < 1e-3


@pytest.mark.parametrize("is_fast", [True, False])
def test_a_precision_that_a_machine_lacks_gives_way(monkeypatch, is_fast):
    monkeypatch.setattr(_runtime, "_has_fast_bfloat16", lambda device: is_fast)
    expected = "bfloat16" if is_fast else "float32"
    for precision in ("auto", "bfloat16", "float16"):
        assert Runtime.resolve_fitted("cpu", precision).precision == expected
    assert Runtime.resolve_fitted("cpu", "float32").precision == "float32"


def test_weights_that_have_learned_since_are_not_those_of_an_outer_autocast():
    """Its cache would keep what it has cast until it ends."""
    layer, source = nn.Conv2d(1, 2, 3), open_source(IMAGES, "bfloat16")
    with torch.autocast("cpu", torch.bfloat16):
        before = infer(layer, source)
        with torch.no_grad():
            layer.weight.add_(1)
        after = infer(layer, source)
    assert not torch.equal(before, after)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_pretext_keeps_to_its_own_precision(types, precision, digits):
    images = digits[0][:40]
    other = {"float32": "bfloat16", "bfloat16": "float32"}[precision]
    pretext = SimCLR(encoder=Probe, epochs=1, precision=precision, random_state=0)
    parameters = {"precision": other, "random_state": 0, "n_heads": 1}
    parameters |= {"clustering": None, "self_labeling": None}
    clusterer = SCANClustering(2, pretext=pretext, **parameters).fit(images)
    types.clear()
    np.testing.assert_array_equal(
        clusterer.pretext_.transform(images), clusterer.embedding_
    )
    assert set(types) == {getattr(torch, precision)}


def test_an_encoder_has_the_precision_of_its_clusterer_if_it_has_none(digits):
    images = digits[0][:40]
    clusterer = SCANClustering(
        2,
        pretext=SimCLR(encoder=Probe, epochs=1),
        precision="float32",
        clustering=None,
        self_labeling=None,
        random_state=0,
    ).fit(images)
    np.testing.assert_array_equal(
        clusterer.pretext_.transform(images), clusterer.embedding_
    )
