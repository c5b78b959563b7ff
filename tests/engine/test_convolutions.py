# SPDX-License-Identifier: BSD-3-Clause
"""Convolutions as products are those of torch, and taken where they pay."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from sklearn_scan._engine import Runtime, _convolutions
from sklearn_scan._engine._convolutions import (
    choose_product,
    multiply_gradient,
    multiply_images,
)
from sklearn_scan._engine._runtime import inference
from sklearn_scan._nets import ConvNet

CPU = torch.device("cpu")


@pytest.fixture
def products(monkeypatch):
    """Pretend that the CPU has tiles; return the shapes whose gradient is a product."""
    shapes = []

    def record(images, gradient, shape, stride):
        shapes.append(tuple(shape))
        return multiply_gradient(images, gradient, shape, stride)

    monkeypatch.setattr(_convolutions, "has_tiles", lambda: True)
    monkeypatch.setattr(_convolutions, "multiply_gradient", record)
    return shapes


def differentiate(network, images, context):
    """Return the features, and the gradients of all weights and of the images."""
    images = images.clone().requires_grad_()
    with context:
        features = network(images)
    features.float().square().sum().backward()
    gradients = [p.grad.clone() for p in network.parameters()]
    network.zero_grad()
    return features.detach(), [*gradients, images.grad]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [1, 3, 5])
@pytest.mark.parametrize("size", [(4, 4), (5, 3), (1, 2)])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_gradient_is_that_of_torch(size, side, stride, layout):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(3, 6, *size, dtype=torch.float64, generator=generator)
    weight = torch.randn(4, 6, side, side, dtype=torch.float64, generator=generator)
    images, weight = images.to(memory_format=layout), weight.requires_grad_()
    features = torch.conv2d(images, weight, None, stride, side // 2)
    gradient = torch.randn(features.shape, dtype=torch.float64, generator=generator)
    gradient = gradient.to(memory_format=layout)
    (expected,) = torch.autograd.grad(features, weight, gradient)
    found = multiply_gradient(images, gradient, weight.shape, (stride, stride))
    torch.testing.assert_close(found, expected)


def test_gradients_of_gradients_are_right():
    generator = torch.Generator().manual_seed(0)
    inputs = [
        torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()
        for shape in [(2, 3, 3, 2), (2, 3, 3, 3)]
    ]

    def convolve(images, weight):
        return _convolutions._Convolution.apply(images, weight, (2, 2))

    assert torch.autograd.gradcheck(convolve, inputs)
    assert torch.autograd.gradgradcheck(convolve, inputs)


@pytest.mark.parametrize("stride", [(1, 1), (2, 2)])
@pytest.mark.parametrize(
    ("size", "side"), [((2, 2), 3), ((1, 2), 3), ((1, 1), 3), ((3, 2), 5), ((1, 1), 1)]
)
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_images_within_the_kernel_are_multiplied(size, side, stride, layout):
    generator = torch.Generator().manual_seed(0)
    make = {"dtype": torch.float64, "generator": generator}
    images = torch.randn(9, 5, *size, **make).to(memory_format=layout)
    weight = torch.randn(4, 5, side, side, **make)
    inputs = images.requires_grad_(), weight.requires_grad_()
    expected = torch.conv2d(*inputs, None, stride, side // 2)
    found = multiply_images(*inputs, stride)
    torch.testing.assert_close(found, expected)
    gradient = torch.randn(expected.shape, **make)
    for one, other in zip(
        torch.autograd.grad(found, inputs, gradient),
        torch.autograd.grad(expected, inputs, gradient),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("images", "side", "is_multiplied"),
    [
        ((16, 3, 2, 2), 3, True),
        ((16, 3, 2, 3), 3, False),
        ((16, 3, 3, 2), 3, False),
        ((16, 3, 3, 3), 5, True),
        ((15, 3, 2, 2), 3, False),  # too few to be worth a matrix
    ],
)
def test_small_images_are_multiplied_in_any_precision(
    images, side, is_multiplied, precision, monkeypatch
):
    seen = []

    def spy(*args):
        seen.append(args)
        return multiply_images(*args)

    monkeypatch.setattr(_convolutions, "multiply_images", spy)
    network = nn.Conv2d(3, 4, side, padding=side // 2, bias=False)
    images = torch.randn(images)
    runtime = Runtime(CPU, precision)
    found, gradients = differentiate(network, images, runtime.autocast())
    assert bool(seen) == is_multiplied
    assert found.dtype == getattr(torch, precision)
    expected, wanted = differentiate(network, images, nullcontext())
    tolerance = {"rtol": 0.05, "atol": 0.05} if precision == "bfloat16" else {}
    torch.testing.assert_close(found.float(), expected, **tolerance)
    for one, other in zip(gradients, wanted, strict=True):
        assert (one - other).norm() <= 0.02 * other.norm()


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (1, 8, 8)])
def test_network_learns_as_before(shape, products):
    torch.manual_seed(0)
    network = ConvNet(shape[0], shape[1]).to(memory_format=torch.channels_last)
    images = torch.randn(6, *shape)
    runtime = Runtime(CPU, "bfloat16")
    plain = torch.autocast("cpu", torch.bfloat16, cache_enabled=False)
    expected_features, expected = differentiate(network, images, plain)
    assert not products
    features, gradients = differentiate(network, images, runtime.autocast())
    assert len(products) >= 2
    assert all(shape[1] >= 64 for shape in products)
    torch.testing.assert_close(features, expected_features, rtol=0.02, atol=0.02)
    for found, wanted in zip(gradients, expected, strict=True):
        assert (found - wanted).norm() <= 1e-2 * wanted.norm()


@pytest.mark.parametrize(
    ("has_tiles", "precision", "n_products"),
    [(True, "bfloat16", 1), (False, "bfloat16", 0), (True, "float32", 0)],
)
def test_products_are_taken_where_they_are_fast(
    has_tiles, precision, n_products, products, monkeypatch
):
    monkeypatch.setattr(_convolutions, "has_tiles", lambda: has_tiles)
    network = nn.Conv2d(64, 8, 3, padding=1, bias=False)
    runtime = Runtime(CPU, precision)
    differentiate(network, torch.randn(2, 64, 4, 4), runtime.autocast())
    assert len(products) == n_products


@pytest.mark.parametrize("size", [2, 4])
def test_answers_are_those_of_torch(size, products, monkeypatch):
    network = nn.Conv2d(64, 8, 3, padding=1, bias=False)
    monkeypatch.setattr(_convolutions, "choose_product", None)  # would raise
    with inference(CPU, "bfloat16"):
        answers = network(torch.ones(16, 64, size, size))
    assert answers.shape == (16, 8, size, size)


@pytest.mark.parametrize(
    ("change", "images"),
    [
        ({"bias": True}, (2, 64, 4, 4)),
        ({"groups": 2}, (2, 64, 4, 4)),
        ({"dilation": 2, "padding": 2}, (2, 64, 4, 4)),
        ({"padding": 0}, (2, 64, 4, 4)),
        ({"padding": "same"}, (2, 64, 4, 4)),
        ({"stride": 3}, (2, 64, 4, 4)),
        ({"stride": (1, 2)}, (2, 64, 4, 4)),
        ({"kernel_size": 2}, (2, 64, 4, 4)),
        ({"kernel_size": (3, 1), "padding": (1, 0)}, (2, 64, 4, 4)),
        ({}, (64, 4, 4)),
        ({}, (2, 64, 5, 4)),
        ({"in_channels": 32}, (2, 32, 4, 4)),
        ({"in_channels": 512}, (2, 512, 8, 8)),
    ],
)
def test_other_convolutions_are_left_to_torch(change, images, products):
    options = {"in_channels": 64, "out_channels": 4, "kernel_size": 3, "padding": 1}
    network = nn.Conv2d(**options | {"bias": False} | change)
    autocast = Runtime(CPU, "bfloat16").autocast()
    differentiate(network, torch.randn(images), autocast)
    assert not products


def test_part_without_autocast_is_left_to_torch(products):
    images, weight = torch.ones(1, 64, 4, 4), torch.ones(1, 64, 3, 3)
    pair = (1, 1)
    with Runtime(CPU, "bfloat16").autocast():
        assert choose_product(images, weight, None, pair, pair, pair, 1)
        with torch.autocast("cpu", enabled=False):
            assert not choose_product(images, weight, None, pair, pair, pair, 1)


def test_functions_called_otherwise_are_left_to_torch(products):
    images = torch.ones(1, 64, 4, 4)
    weight = torch.ones(1, 64, 3, 3, requires_grad=True)
    with Runtime(CPU, "bfloat16").autocast():
        torch.conv2d(images, weight, stride=1, padding=1).sum().backward()
        torch.conv2d(images, weight, None, 1, 1).sum().backward()
    assert weight.grad.shape == weight.shape
    assert not products


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex64])
def test_types_that_autocast_leaves_alone_stay(dtype, products):
    network = nn.Conv2d(64, 4, 3, padding=1, bias=False, dtype=dtype)
    with Runtime(CPU, "bfloat16").autocast():
        assert network(torch.ones(1, 64, 4, 4, dtype=dtype)).dtype == dtype


def test_part_in_another_precision_is_left_to_torch(products):
    network = nn.Conv2d(64, 4, 3, padding=1, bias=False)
    with Runtime(CPU, "bfloat16").autocast(), torch.autocast("cpu", torch.float16):
        features = network(torch.ones(1, 64, 4, 4))
    features.sum().backward()
    assert features.dtype == torch.float16
    assert not products


def test_batch_may_be_multiplied_in_parts(monkeypatch):
    images, gradient = torch.randn(7, 4, 3, 3), torch.randn(7, 2, 3, 3)
    whole = multiply_gradient(images, gradient, (2, 4, 3, 3), (1, 1))
    monkeypatch.setattr(_convolutions, "_MOST_UNFOLDED", 2 * 9 * 4 * 9)
    parts = multiply_gradient(images, gradient, (2, 4, 3, 3), (1, 1))
    torch.testing.assert_close(parts, whole)
    # Parts are not rounded before they are added.
    images, gradient = images.bfloat16(), gradient.bfloat16()
    parts = multiply_gradient(images, gradient, (2, 4, 3, 3), (1, 1))
    assert parts.dtype == torch.bfloat16


def test_networks_may_use_transforms_of_functions(products):
    """As networks do that look at the gradients of each sample."""
    network = nn.Conv2d(64, 4, 3, padding=1, bias=False)
    images = torch.randn(3, 64, 4, 4)

    def loss(weight, image):
        features = torch.func.functional_call(
            network, {"weight": weight}, (image[None],)
        )
        return features.float().square().sum()

    with Runtime(CPU, "bfloat16").autocast():
        each = torch.vmap(torch.func.grad(loss), (None, 0))(network.weight, images)
    assert products
    with torch.autocast("cpu", torch.bfloat16):
        expected = torch.vmap(torch.func.grad(loss), (None, 0))(network.weight, images)
    assert (each - expected).norm() <= 1e-2 * expected.norm()
