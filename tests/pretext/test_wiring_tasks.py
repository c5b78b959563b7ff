# SPDX-License-Identifier: BSD-3-Clause
"""What the networks of steps and tasks are shown, and how fast they learn from it."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from sklearn_scan import SCANClustering, TrainingConfig
from sklearn_scan.pretext import (
    BYOL,
    DeepCluster,
    FeatureDecoupling,
    InstanceDiscrimination,
    MoCo,
    Pretrained,
    RotNet,
    SimCLR,
    VICReg,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

N = 40
TWO_VIEWS = [SimCLR, MoCo, BYOL, VICReg]
ALL = [
    *TWO_VIEWS,
    DeepCluster,
    FeatureDecoupling,
    InstanceDiscrimination,
    RotNet,
]


@pytest.fixture(scope="module")
def images(digits):
    return digits[0][:N]


class Spy(nn.Module):
    """A linear encoder that writes down what it is shown in training."""

    shown = []

    def __init__(self, shape):
        super().__init__()
        self.linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 8))

    def forward(self, images):
        if self.training:
            self.shown.append(images.detach().clone())
        return self.linear(images)


class Inverted(nn.Module):
    """Views that are never mistaken for samples, with some noise."""

    drawn = []

    def __init__(self, shape):
        super().__init__()

    def forward(self, batch):
        views = 9 + batch + torch.rand_like(batch)
        self.drawn.append(views)
        return views


def fit(task, images, **params):
    Spy.shown.clear()
    Inverted.drawn.clear()
    params = {"epochs": 2, "encoder": Spy, "views": Inverted} | params
    return task(precision="float32", random_state=0, **params).fit(images)


@pytest.mark.parametrize("task", ALL)
def test_encoders_learn_from_views(task, images):
    params = {"invariance_weight": 0} if task is InstanceDiscrimination else {}
    fit(task, images, **params)
    assert Spy.shown
    for shown in Spy.shown:
        assert shown.mean() > 9, "standardised samples have the mean 0"


@pytest.mark.parametrize("task", TWO_VIEWS)
def test_two_views_of_every_sample_are_drawn_and_shown(task, images):
    fit(task, images)
    assert len(Inverted.drawn) == 4, "two in each of two steps"
    for views in zip(Inverted.drawn[::2], Inverted.drawn[1::2], strict=True):
        assert all(len(view) == N for view in views)
        first, second = (view.flatten(1) for view in views)
        assert (torch.cdist(first, second).diagonal() > 1).all()
    shown = torch.cat([images.flatten(1) for images in Spy.shown])
    assert len(shown.unique(dim=0)) == 4 * N


@pytest.mark.parametrize("task", ALL)
def test_training_moves_the_encoder(task, images):
    weights = [
        fit(task, images, lr=lr).net_.module_.encoder.network.linear[1].weight
        for lr in (1e-9, 1e-2)
    ]
    assert (weights[0] - weights[1]).abs().max() > 1e-3


@pytest.mark.parametrize("task", ALL)
def test_an_embedding_is_the_encoder_s_at_unit_length(task, images):
    pretext = fit(task, images, views="none")
    encoder = pretext.net_.module_.encoder
    batch = torch.tensor(images / 16, dtype=torch.float32)[:, None]
    with torch.no_grad():
        features = encoder(batch).numpy()
    expected = features / np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose(pretext.transform(images), expected, atol=1e-5)


@pytest.mark.parametrize("task", [MoCo, BYOL])
@pytest.mark.parametrize("momentum", [0.0, 1 - 1e-7])
def test_the_slow_copy_follows_as_slowly_as_it_is_told(task, images, momentum):
    """With 1 not at all, and with 0 it is the encoder as it was a step ago."""
    now = fit(task, images, epochs=3, momentum=momentum, lr=0.1, lr_schedule="constant")
    target, encoder = now.net_.module_.target.network[0], now.net_.module_.encoder
    start = fit(task, images, epochs=1, momentum=0.0, lr=1e-9).net_.module_.encoder
    moved = (encoder.network.linear[1].weight - start.network.linear[1].weight).norm()
    lag = (target.network.linear[1].weight - start.network.linear[1].weight).norm()
    assert moved > 0.1
    assert (lag < 1e-3) if momentum > 0.5 else (lag > 0.1 * moved)


def test_weights_from_elsewhere_read_images_as_they_were_trained_to(images):
    options = {"mean": (0.3,), "std": (0.4,), "precision": "float32"}
    pretext = Pretrained(Spy, **options, random_state=0).fit(images)
    batch = torch.tensor((images / 16 - 0.3) / 0.4, dtype=torch.float32)
    with torch.no_grad():
        features = pretext.net_.module_.encoder.network(batch).numpy()
    np.testing.assert_allclose(pretext.transform(images), features, atol=1e-5)


# How fast.


class Rates(torch.optim.SGD):
    """An optimiser that writes down its learning rate at every step."""

    seen, decays = [], set()

    def step(self, *args, **kwargs):
        self.seen.append(self.param_groups[0]["lr"])
        self.decays.add(self.param_groups[0]["weight_decay"])
        return super().step(*args, **kwargs)


@pytest.mark.parametrize("decay", [0.0, 0.25])
def test_weights_decay_as_fast_as_asked_for(images, decay):
    Rates.decays.clear()
    fit(RotNet, images, weight_decay=decay, optimizer=Rates)
    assert Rates.decays == {decay}


def assert_one_cycle(rates, lr):
    peak = int(np.argmax(rates))
    assert rates[0] < 0.2 * lr
    assert max(rates) == pytest.approx(lr, rel=0.02)
    assert 0 < peak < len(rates) / 4
    assert rates[-1] < 0.02 * lr
    assert (np.diff(rates[: peak + 1]) > 0).all()
    assert (np.diff(rates[peak:]) <= 0).all()


def test_the_rate_of_a_pretext_rises_and_falls_step_by_step(images):
    Rates.seen.clear()
    fit(RotNet, images, epochs=20, batch_size=10, lr=0.05, optimizer=Rates)
    assert len(Rates.seen) == 80
    assert_one_cycle(Rates.seen, 0.05)


@pytest.mark.parametrize("epochs", [20, "auto"])
@pytest.mark.parametrize("step", ["head_search", "clustering", "self_labeling"])
def test_the_rate_of_a_step_rises_and_falls_to_zero(images, step, epochs):
    Rates.seen.clear()
    others = dict.fromkeys(("clustering", "self_labeling"))
    training = TrainingConfig(epochs=epochs, lr=0.02, batch_size=10, optimizer=Rates)
    SCANClustering(
        3,
        pretext=SimCLR(encoder=Spy, views="none", epochs=1),
        views="none",
        threshold=0.1,
        keep="last",
        random_state=0,
        **others | {step: training},
    ).fit(images)
    assert_one_cycle(Rates.seen, 0.02)
    at_least = {"head_search": 500, "clustering": 40, "self_labeling": 25}
    if epochs == "auto":
        assert len(Rates.seen) >= at_least[step], "of the longest run at least half"
    else:
        assert len(Rates.seen) == 80


def test_the_search_of_heads_takes_its_whole_length(blobs):
    """Also where there is nothing to learn, as with one cluster."""
    clusterer = SCANClustering(1, n_heads=1, random_state=0).fit(blobs[0])
    assert len(clusterer.history_["head_search"]) == 500


def test_steps_draw_from_generators_of_their_own(images):
    """Leaving one out changes nothing in the others."""
    clusterer = SCANClustering(
        3,
        pretext=SimCLR(encoder=Spy, views="none", epochs=1),
        head_search=TrainingConfig(epochs=2),
        clustering=TrainingConfig(epochs=1),
        self_labeling=None,
        keep="last",
        random_state=0,
    )
    whole = clone(clusterer).fit(images)
    part = clusterer.set_params(clustering=None).fit(images)
    np.testing.assert_array_equal(whole.embedding_, part.embedding_)
    losses = [[r["loss"] for r in c.history_["head_search"]] for c in (whole, part)]
    assert losses[0] == losses[1]


def test_batches_are_shuffled_and_leave_no_sample_out(images):
    fit(SimCLR, images, batch_size=20, views="none")
    assert len(Spy.shown) == 4
    epochs = [torch.cat([b[:20] for b in Spy.shown[k : k + 2]]) for k in (0, 2)]
    n_different = len(np.unique(images.reshape(N, -1), axis=0))
    for epoch in epochs:
        assert len(epoch.flatten(1).unique(dim=0)) == n_different
    assert not torch.equal(*epochs)
