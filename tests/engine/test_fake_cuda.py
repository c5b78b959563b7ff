# SPDX-License-Identifier: BSD-3-Clause
"""A GPU without a GPU: no step mixes devices, and none waits for what it computes.

Fake tensors have a device and a shape, and no data; see `scan_bench.operations`. The
host runs ahead of a GPU as long as nothing asks what has come out, by `item`, `nonzero`
or a boolean mask, which fake tensors refuse, and as long as no copy is waited for.
"""

import numpy as np
import pytest
import torch
from scan_bench.operations import (
    IMAGES,
    N_CLUSTERS,
    ROWS,
    STAGES,
    TASKS,
    OperationCounter,
    build_step,
    fake_device,
    look,
    make_source,
    move,
    move_source,
    read_batch,
    take,
)
from torch import nn

from sklearn_scan._nets import ClusterNetwork, LinearHeads, UnitLength, build_encoder
from sklearn_scan._stages import Evaluator, MinedSamples
from sklearn_scan._views._policy import POLICIES, SINGLE_VIEWS, build_views
from sklearn_scan.neighbors import _find_nearest

GRAY = (28, 28, 1)
IMAGE_VIEWS = [
    *(name for name in POLICIES if name != "vector"),
    *((name,) for name in sorted(SINGLE_VIEWS)),
    ("crop", "affine", "flip", "light"),
]
each_step = pytest.mark.parametrize("name", [*TASKS, *STAGES])
each_shape = pytest.mark.parametrize("shape", [IMAGES, GRAY, ROWS], ids=str)


def views_of(shape):
    return "vector" if shape == ROWS else "photo"


def assert_free_of_waits(counter):
    assert counter.n_kernels > 0
    assert counter.waits == []
    assert counter.not_deterministic == []


@each_step
@each_shape
def test_a_step_on_a_gpu_never_waits(name, shape):
    with fake_device():
        step = build_step(name, "cuda", shape=shape, views=views_of(shape))
        counter = take(step, backward=False)
    assert_free_of_waits(counter)


@each_step
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_nor_does_the_way_back(name, precision):
    """On the CPU, where what depends on data is refused all the same."""
    with fake_device():
        step = build_step(name, "cpu", views="photo", precision=precision)
        counter = take(step, backward=True)
    assert counter.not_deterministic == []
    assert counter.operations.count("aten._fused_adamw_.default") == 1


@pytest.mark.parametrize("views", IMAGE_VIEWS, ids=str)
@pytest.mark.parametrize("shape", [IMAGES, GRAY], ids=str)
def test_views_on_a_gpu_never_wait(views, shape):
    with fake_device():
        counter = look(views, "cuda", shape)
    assert counter.waits == []
    assert counter.not_deterministic == []


def test_views_of_rows_on_a_gpu_never_wait():
    with fake_device():
        assert_free_of_waits(look("vector", "cuda", ROWS))


def test_views_of_the_user_are_where_the_batches_are():
    """Also where they are not trained, and nobody else moves them."""
    source = make_source()
    with fake_device():
        source = move_source(source, "cuda")
        views = build_views(lambda shape: nn.BatchNorm2d(3, affine=False), source)
        assert views(source.read(torch.arange(8))).device.type == "cuda"


def test_strong_views_send_their_draws_at_once():
    with fake_device():
        counter = look("strong", "cuda")
    assert len(counter.copies) == 1


def test_strong_views_take_few_kernels():
    """Images of the same operation lie side by side; maps share one resampling."""
    with fake_device():
        counter = look(("operations",), "cuda")
    assert counter.operations.count("aten.grid_sampler_2d.default") == 4
    assert counter.n_kernels < 520


@pytest.mark.parametrize("name", ["MoCo", "BYOL"])
def test_a_slow_copy_follows_in_one_operation(name):
    with fake_device():
        counter = take(build_step(name, "cuda"), backward=False)
    assert counter.operations.count("aten._foreach_lerp_.Scalar") == 1


def make_network(source):
    encoder = build_encoder("auto", source.format)
    heads = LinearHeads(encoder.n_features, N_CLUSTERS)
    return ClusterNetwork(encoder, heads, nn.Identity()).eval()


@each_shape
def test_answers_and_embeddings_are_computed_without_a_wait(shape):
    source = make_source(shape)
    network = make_network(source)
    embedder = nn.Sequential(network.encoder, UnitLength())
    with fake_device():
        move(network, "cuda")
        source = move_source(source, "cuda")
        with OperationCounter() as counter:
            samples = source.read(torch.arange(64))
            probabilities = network.probabilities(samples)
            embedding = embedder(samples)
    assert_free_of_waits(counter)
    assert probabilities.shape == (64, N_CLUSTERS)
    assert embedding.device.type == "cuda"


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_neighbours_are_found_without_a_wait(metric):
    with fake_device(), OperationCounter() as counter:
        rows = torch.empty(300, 16, device="cuda")
        found = _find_nearest(rows, 6, metric)
    assert_free_of_waits(counter)
    assert found.device.type == "cuda"
    assert found.shape == (300, 6)


def test_the_evaluator_moves_what_it_compares():
    source = make_source(ROWS)
    neighbors = np.roll(np.arange(len(source)), 1)[:, None]
    views = build_views("vector", source)
    evaluator = Evaluator(MinedSamples(source, neighbors), 5.0, views)
    network = make_network(source)
    with fake_device():
        move(network, "cuda")
        evaluator.source = move_source(source, "cuda")
        losses = evaluator.losses(network)
    assert losses.shape == (1,)


# --- what fake tensors and the counter notice ---------------------------------------


@pytest.mark.parametrize(
    "ask",
    [
        lambda x: x.nonzero(),
        lambda x: x.sum().item(),
        lambda x: x[x > 0],
        lambda x: x.unique(),
        lambda x: bool(x.isnan().any()),
        lambda x: torch.equal(x, x),
        lambda x: x + torch.ones(4),
    ],
    ids=["nonzero", "item", "mask", "unique", "any", "equal", "two devices"],
)
def test_a_question_to_the_gpu_is_refused(ask):
    with fake_device():
        x = torch.ones(4, device="cuda")
        with pytest.raises(Exception, match=r"aten\.|device"):
            ask(x)


@pytest.mark.parametrize(
    "copy",
    [
        lambda x: torch.tensor([1.0, 2.0], device="cuda"),
        lambda x: torch.zeros(2).to("cuda"),
        lambda x: x[torch.tensor([0, 1])],
        lambda x: x[[0, 1]],
        lambda x: x.cpu(),
    ],
    ids=["constant", "to", "index", "list", "cpu"],
)
def test_a_copy_that_is_waited_for_is_noted(copy):
    with fake_device():
        x = torch.ones(4, device="cuda")
        with OperationCounter() as counter:
            copy(x)
    assert len(counter.waits) == 1


@pytest.mark.parametrize(
    "compute", [lambda x: x.median(dim=1), lambda x: x.cumsum(1)], ids=["median", "sum"]
)
def test_what_is_not_deterministic_is_noted(compute):
    with fake_device():
        x = torch.ones(4, 5, device="cuda")
        with OperationCounter() as counter:
            compute(x)
            compute_integers = x.long().cumsum(1)
    assert compute_integers.shape == (4, 5)
    assert len(counter.not_deterministic) == 1


def test_a_batch_is_read_without_a_wait():
    with fake_device():
        for name in (*TASKS, *STAGES):
            step = build_step(name, "cuda", shape=ROWS)
            with OperationCounter() as counter:
                read_batch(step)
            assert_free_of_waits(counter)
