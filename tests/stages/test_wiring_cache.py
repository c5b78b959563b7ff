# SPDX-License-Identifier: BSD-3-Clause
"""The cache answers again if nothing changed that a step depends on, and only then."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_scan import SCANClustering, TrainingConfig
from sklearn_scan._stages import _head_search
from sklearn_scan.pretext import SimCLR

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

STEPS = ["pretext", "head_search", "clustering", "self_labeling"]


class Tiny(nn.Sequential):
    def __init__(self, shape):
        super().__init__(nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.Flatten())


class Brighter(nn.Module):
    def __init__(self, shape):
        super().__init__()

    def forward(self, batch):
        return batch + 0.1


def make(memory, **changes):
    """Return a clusterer that says which of its steps are from the cache."""
    clusterer = SCANClustering(
        3,
        n_heads=2,
        pretext=SimCLR(encoder=Tiny, views="none", epochs=1, batch_size=32),
        views="none",
        head_search=TrainingConfig(epochs=1),
        clustering=TrainingConfig(epochs=1),
        self_labeling=TrainingConfig(epochs=1),
        threshold=0.1,
        keep="last",
        memory=memory,
        precision="float32",
        random_state=0,
        verbose=1,
    )
    return clusterer.set_params(**changes)


def cached_steps(clusterer, X, capsys, **fit_params):
    capsys.readouterr()
    clusterer.fit(X, **fit_params)
    return re.findall(r"(\w+) taken from the cache", capsys.readouterr().out)


@pytest.fixture(scope="module")
def images(digits):
    return digits[0][:40]


@pytest.fixture(scope="module")
def memory(images, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("cache"))
    make(folder).fit(images)
    return folder


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"verbose": 2},
        {"pretext__verbose": 1},
        {"pretext__device": "cpu"},
        {"device": "cpu"},
        {"keep": "best"},
    ],
    ids=str,
)
def test_what_changes_no_weight_trains_nothing(images, memory, capsys, change):
    assert cached_steps(make(memory, **change), images, capsys) == STEPS


@pytest.mark.parametrize(
    ("n_cached", "change"),
    [
        (0, {"random_state": 1}),
        (0, {"precision": "bfloat16"}),
        (0, {"pretext__temperature": 0.1}),
        (0, {"pretext__epochs": 2}),
        (0, {"pretext__lr": 1e-2}),
        (0, {"pretext__batch_size": 10}),
        (0, {"pretext__views": Brighter}),
        (0, {"pretext__encoder": "convnet"}),
        (1, {"n_clusters": 4}),
        (1, {"K": 2}),
        (1, {"n_heads": 3}),
        (1, {"entropy_weight": 1.0}),
        (1, {"batch_size": 20}),
        (1, {"head_search__epochs": 2}),
        (1, {"head_search__lr": 0.1}),
        (2, {"clustering__lr": 0.1}),
        (2, {"clustering__optimizer": "sgd"}),
        (2, {"clustering__views": Brighter}),
        (2, {"clustering__freeze_encoder": True}),
        (2, {"clustering__lr_schedule": "cosine"}),
        (3, {"threshold": 0.2}),
        (3, {"class_weight": None}),
        (3, {"self_labeling__epochs": 2}),
        (3, {"self_labeling__weight_decay": 0.1}),
        (3, {"self_labeling__views": Brighter}),
    ],
    ids=str,
)
def test_a_step_is_trained_anew_if_a_parameter_of_it_changed(
    images, memory, capsys, n_cached, change
):
    """And all steps after it, which begin with what it has learned."""
    clusterer = make(memory, **change)
    assert cached_steps(clusterer, images, capsys) == STEPS[:n_cached]
    assert cached_steps(clusterer, images, capsys) == STEPS


def test_other_images_are_learned_anew(images, memory, capsys):
    images = images.copy()
    images[3, 4, 4] += 1
    assert cached_steps(make(memory), images, capsys) == []


def test_other_neighbours_are_learned_anew(images, memory, capsys):
    neighbors = np.roll(np.arange(40), 1)[:, None]
    found = cached_steps(make(memory), images, capsys, neighbors=neighbors)
    assert found == ["pretext"]


def test_a_step_from_the_cache_is_the_step_that_was_trained(images, memory):
    trained, cached = make(None).fit(images), make(memory).fit(images)
    np.testing.assert_array_equal(cached.embedding_, trained.embedding_)
    assert np.array_equal(cached.confidence_, trained.confidence_)
    weights = (c.net_.module_.state_dict() for c in (trained, cached))
    for one, other in zip(*(w.values() for w in weights), strict=True):
        assert torch.equal(one, other)


class StopAfterOneEpoch:
    """A callback that ends a step."""

    def __init__(self, step):
        self.step = step

    def setup(self, estimator, context): ...

    def on_fit_task_begin(self, estimator, context): ...

    def on_fit_task_end(self, estimator, context):
        return context.task_name == "epoch" and context.parent.task_name == self.step

    def teardown(self, estimator, context): ...


@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_was_stopped_is_not_remembered(images, capsys, tmp_path, step):
    clusterer = make(str(tmp_path), **{f"{step}__epochs": 2})
    clusterer.set_callbacks(StopAfterOneEpoch(step)).fit(images)
    assert len(clusterer.history_[step]) == 1
    clusterer = make(str(tmp_path), **{f"{step}__epochs": 2})
    assert cached_steps(clusterer, images, capsys) == STEPS[: STEPS.index(step)]
    assert len(clusterer.history_[step]) == 2


def test_a_search_after_a_pretext_that_was_stopped_is_remembered(images, tmp_path):
    clusterer = make(str(tmp_path), pretext__epochs=2)
    clusterer.set_callbacks(StopAfterOneEpoch("pretext")).fit(images)
    names = [path.parent.parent.name for path in tmp_path.rglob("metadata.json")]
    assert "search_to_arrays" in names
    assert "train_pretext" not in names


def test_a_smaller_K_keeps_the_nearest(images, tmp_path):
    few, many = (make(str(tmp_path), K=K).fit(images).neighbors_ for K in (2, 5))
    plain = make(None, K=5).fit(images).neighbors_
    assert np.array_equal(many, plain)
    assert np.array_equal(few, plain[:, :2])


# Checkpoints.


class Noise(nn.Module):
    def __init__(self, shape):
        super().__init__()

    def forward(self, batch):
        return batch + 0.1 * torch.randn_like(batch)


class Interruption(Exception):
    pass


class InterruptSecondEpoch(StopAfterOneEpoch):
    """A callback that fails in a step which has taken two of its three epochs."""

    n_epochs = 0

    def on_fit_task_end(self, estimator, context):
        self.n_epochs += super().on_fit_task_end(estimator, context)
        if self.n_epochs == 2:
            raise Interruption


@pytest.mark.parametrize("lr_schedule", ["one_cycle", "cosine"])
@pytest.mark.parametrize("step", STEPS)
def test_an_interrupted_step_goes_on_as_if_nothing_had_been(
    images, tmp_path, step, lr_schedule
):
    params = {"views": Noise, "pretext__views": Noise, "clustering__views": None}
    params |= {f"{step}__epochs": 3, f"{step}__lr_schedule": lr_schedule}
    params |= {"batch_size": 20}
    whole = make(None, **params).fit(images)
    clusterer = make(None, **params, checkpoint=tmp_path)
    with pytest.raises(Interruption):
        clusterer.set_callbacks(InterruptSecondEpoch(step)).fit(images)
    resumed = make(None, **params, checkpoint=tmp_path).fit(images)
    losses = [[r["loss"] for r in c.history_[step]] for c in (whole, resumed)]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 3
    assert np.array_equal(resumed.confidence_, whole.confidence_)


def test_a_search_from_the_cache_finds_no_partitions(images, tmp_path, monkeypatch):
    """They take longer than the training of the heads."""
    memory = str(tmp_path)
    make(memory).fit(images)
    expected = make(None, self_labeling=None).fit(images)
    monkeypatch.setattr(_head_search, "begin_heads", None)
    found = make(memory, self_labeling=None).fit(images)
    np.testing.assert_array_equal(
        found.predict_proba(images), expected.predict_proba(images)
    )


def test_weights_of_samples_come_from_the_cache_as_well(tmp_path):
    """Clusters of unequal sizes are drawn equally often, from the cache or not."""
    random = np.random.default_rng(0)
    centers = 8 * np.eye(3).repeat([80, 20, 10], axis=0)
    rows = centers + random.normal(size=centers.shape)
    parameters = {"n_clusters": 3, "n_heads": 2, "random_state": 0}
    expected = SCANClustering(**parameters).fit(rows).predict_proba(rows)
    for _ in range(2):
        cached = SCANClustering(**parameters, memory=str(tmp_path)).fit(rows)
        np.testing.assert_array_equal(cached.predict_proba(rows), expected)


def test_a_search_for_other_sizes_is_another(images, memory, capsys):
    clusterer = make(memory, cluster_sizes="equal")
    assert "head_search" not in cached_steps(clusterer, images, capsys)
    assert "head_search" in cached_steps(clusterer, images, capsys)
