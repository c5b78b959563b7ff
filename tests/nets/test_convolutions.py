# SPDX-License-Identifier: BSD-3-Clause
"""Convolutions as products equal torch's, and are used where they are faster."""

from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from sklearn_scan._engine import Runtime
from sklearn_scan._inputs import learn_format
from sklearn_scan._nets import ConvNet, _convolutions, build_encoder
from sklearn_scan._nets._convolutions import (
    choose_convolution,
    convolve_tiny,
    convolve_with_product,
    fast_convolutions,
    multiply_gradient,
)


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


@pytest.fixture
def tiny(monkeypatch):
    """Return the shapes of images that are convolved as tiny ones."""
    shapes = []

    def record(images, weight, stride):
        shapes.append(tuple(images.shape))
        return convolve_tiny(images, weight, stride)

    monkeypatch.setattr(_convolutions, "convolve_tiny", record)
    return shapes


@contextmanager
def learning(precision="bfloat16"):
    """Convolve as networks do that learn."""
    runtime = Runtime(torch.device("cpu"), precision)
    with runtime.autocast(), fast_convolutions(torch.empty(1, 1, 1, 1)):
        yield


def make_images(*shape, dtype=torch.float32):
    images = torch.randn(shape, dtype=dtype)
    return images.contiguous(memory_format=torch.channels_last)


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
    ("size", "side"),
    [((2, 2), 3), ((1, 2), 3), ((1, 1), 3), ((3, 2), 5), ((1, 1), 1)],
)
def test_tiny_images_are_convolved_as_by_torch(size, side, stride):
    torch.manual_seed(0)
    images = make_images(9, 5, *size, dtype=torch.float64)
    weight = torch.randn(4, 5, side, side, dtype=torch.float64)
    inputs = images.requires_grad_(), weight.requires_grad_()
    expected = torch.conv2d(*inputs, None, stride, side // 2)
    found = convolve_tiny(*inputs, stride)
    torch.testing.assert_close(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last)
    gradient = torch.randn(expected.shape, dtype=torch.float64)
    for one, other in zip(
        torch.autograd.grad(found, inputs, gradient),
        torch.autograd.grad(expected, inputs, gradient),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_gradients_of_gradients_of_tiny_images_are_right():
    torch.manual_seed(0)
    images = make_images(2, 3, 2, 2, dtype=torch.float64).requires_grad_()
    weight = torch.randn(2, 3, 3, 3, dtype=torch.float64).requires_grad_()

    def convolve(images, weight):
        return convolve_tiny(images, weight, (2, 2))

    assert torch.autograd.gradcheck(convolve, (images, weight))
    assert torch.autograd.gradgradcheck(convolve, (images, weight))


def test_gradients_of_tiny_images_are_added_in_float32():
    """The middle of a kernel lies on every pixel of 2 x 2."""
    matrix = torch.zeros(4, 4, dtype=torch.bfloat16)
    matrix.diagonal().copy_(torch.tensor([256, 1, 1, 1]))
    found = _convolutions._gather(matrix, (1, 1, 3, 3), (2, 2), (1, 1))
    assert found[0, 0, 1, 1] == 260  # 259, rounded; in bfloat16 each 1 is lost


@pytest.mark.parametrize("needs", [(True, False), (False, True), (False, False)])
@pytest.mark.parametrize("convolve", [convolve_tiny, convolve_with_product])
def test_only_gradients_that_are_needed_are_computed(convolve, needs):
    images, weight = make_images(2, 3, 2, 2), torch.randn(4, 3, 3, 3)
    inputs = images.requires_grad_(needs[0]), weight.requires_grad_(needs[1])
    features = convolve(*inputs, (1, 1))
    assert features.requires_grad == any(needs)
    if any(needs):
        features.sum().backward()
    assert [x.grad is not None for x in inputs] == list(needs)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("images", "side", "is_tiny"),
    [
        ((16, 3, 2, 2), 3, True),
        ((16, 3, 1, 2), 3, True),
        ((16, 3, 2, 3), 3, False),
        ((16, 3, 3, 2), 3, False),
        ((16, 3, 3, 3), 5, False),  # not measured
        ((15, 3, 2, 2), 3, False),  # too few to be worth a matrix
    ],
)
def test_tiny_images_are_told_in_any_precision(images, side, is_tiny, precision, tiny):
    network = nn.Conv2d(3, 4, side, padding=side // 2, bias=False)
    images = make_images(*images)
    found, gradients = differentiate(network, images, learning(precision))
    assert len(tiny) == is_tiny
    assert found.dtype == getattr(torch, precision)
    expected, wanted = differentiate(network, images, nullcontext())
    tolerance = {"rtol": 0.05, "atol": 0.05} if precision == "bfloat16" else {}
    torch.testing.assert_close(found.float(), expected, **tolerance)
    for one, other in zip(gradients, wanted, strict=True):
        assert (one - other).norm() <= 0.02 * other.norm()


def test_a_large_matrix_is_not_made(tiny, monkeypatch):
    network = nn.Conv2d(3, 4, 3, padding=1, bias=False)
    monkeypatch.setattr(_convolutions, "_LARGEST_MATRIX", 16 * 3 * 4 - 1)
    differentiate(network, make_images(16, 3, 2, 2), learning("float32"))
    assert not tiny


@pytest.mark.parametrize("n_images", [6, 16])
@pytest.mark.parametrize(
    ("shape", "n_fast", "n_tiny"),
    [((3, 32, 32), 3, 1), ((1, 28, 28), 2, 0), ((1, 8, 8), 3, 1)],
)
def test_network_learns_as_before(shape, n_fast, n_tiny, n_images, products, tiny):
    torch.manual_seed(0)
    network = ConvNet(shape[0], shape[1]).to(memory_format=torch.channels_last)
    images = make_images(n_images, *shape)
    plain = torch.autocast("cpu", torch.bfloat16, cache_enabled=False)
    expected_features, expected = differentiate(network, images, plain)
    assert not products
    features, gradients = differentiate(network, images, learning())
    assert len(products) + len(tiny) == n_fast
    assert len(tiny) == n_tiny * (n_images == 16)
    assert all(shape[1] >= 64 for shape in products)
    if tiny:
        torch.testing.assert_close(features, expected_features, rtol=0.02, atol=0.02)
    else:
        assert torch.equal(features, expected_features)
    for found, wanted in zip(gradients, expected, strict=True):
        assert (found - wanted).norm() <= 1e-2 * wanted.norm()


@pytest.mark.parametrize(
    ("has_tiles", "precision", "n_products"),
    [(True, "bfloat16", 1), (False, "bfloat16", 0), (True, "float32", 0)],
)
@pytest.mark.parametrize("size", [2, 4])
def test_products_are_taken_where_they_are_fast(
    has_tiles, precision, n_products, size, products, monkeypatch
):
    monkeypatch.setattr(_convolutions, "has_tiles", lambda: has_tiles)
    network = nn.Conv2d(64, 8, 3, padding=1, bias=False)
    differentiate(network, make_images(2, 64, size, size), learning(precision))
    assert len(products) == n_products


@pytest.mark.parametrize("is_learning", [True, False])
@pytest.mark.parametrize(("shape", "encoder"), [((8, 8), "convnet"), ((64,), "mlp")])
def test_encoders_that_learn_convolve_fast(shape, encoder, is_learning, tiny):
    """Answers are torch's, and so are rows."""
    format = learn_format(np.random.default_rng(0).random((16, *shape)))
    encoder = build_encoder(encoder, format).train(is_learning)
    encoder.to(memory_format=torch.channels_last)  # as it learns
    encoder(torch.rand(16, *format.tensor_shape))
    assert len(tiny) == (len(shape) == 2 and is_learning)


def test_other_devices_are_left_to_torch():
    batch = torch.empty(16, 3, 2, 2, device="meta")
    assert isinstance(fast_convolutions(batch), nullcontext)
    with learning():
        weight = torch.empty(4, 3, 3, 3, device="meta")
        assert torch.conv2d(batch, weight, None, *[(1, 1)] * 3, 1).is_meta


def test_rows_are_left_alone():
    assert isinstance(fast_convolutions(torch.empty(16, 64)), nullcontext)


@pytest.mark.parametrize("shape", [(2, 64, 4, 4), (16, 64, 2, 2)])
@pytest.mark.parametrize(
    "change",
    [
        {"bias": True},
        {"groups": 2},
        {"dilation": 2},
        {"padding": 0, "kernel_size": 1, "stride": 3},
        {"padding": 2},
        {"padding": "same"},
        {"stride": 3},
        {"stride": (1, 2)},
        {"kernel_size": 2},
        {"kernel_size": (1, 3), "padding": (1, 1)},
        {"kernel_size": (1, 3), "padding": (0, 1)},
        {"kernel_size": (3, 1), "padding": (1, 0)},
        {"kernel_size": (3, 1), "padding": (0, 0)},
    ],
)
def test_other_convolutions_are_left_to_torch(change, shape, products, tiny):
    if change == {"dilation": 2} or change.get("padding") == (0, 0):
        shape = (*shape[:2], 4, 4)  # of which something is left
    options = {"in_channels": 64, "out_channels": 4, "kernel_size": 3, "padding": 1}
    network = nn.Conv2d(**options | {"bias": False} | change)
    differentiate(network, make_images(*shape), learning())
    assert not products
    assert not tiny


@pytest.mark.parametrize(
    "shape", [(64, 4, 4), (2, 64, 5, 4), (2, 32, 4, 4), (2, 512, 8, 8), (2, 64, 9, 9)]
)
def test_other_images_are_left_to_torch(shape, products, tiny):
    network = nn.Conv2d(shape[-3], 4, 3, padding=1, bias=False)
    images = torch.randn(shape)
    if len(shape) == 4:
        images = images.contiguous(memory_format=torch.channels_last)
    differentiate(network, images, learning())
    assert not products
    assert not tiny


@pytest.mark.parametrize("shape", [(2, 64, 4, 4), (16, 64, 2, 2)])
def test_other_layouts_are_left_to_torch(shape, products, tiny):
    """Torch's output has the layout of its input, on which networks may rely."""
    network = nn.Conv2d(64, 4, 3, padding=1, bias=False)
    with learning():
        assert network(torch.randn(shape)).is_contiguous()
    assert not products
    assert not tiny


@pytest.mark.parametrize(
    ("images", "side", "stride", "convolve"),
    [
        ((2, 64, 8, 8), 3, 2, convolve_with_product),
        ((2, 64, 8, 8), 1, 2, convolve_with_product),
        ((2, 196, 7, 7), 1, 1, convolve_with_product),
        ((16, 64, 2, 2), 3, 2, convolve_tiny),
    ],
)
def test_other_strides_and_kernels_are_replaced(
    images, side, stride, convolve, monkeypatch
):
    torch.manual_seed(0)
    monkeypatch.setattr(_convolutions, "has_tiles", lambda: True)
    network = nn.Conv2d(images[1], 4, side, stride, side // 2, bias=False)
    images = make_images(*images)
    pairs = (stride, stride), (side // 2, side // 2), (1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        assert choose_convolution(images, network.weight, None, *pairs, 1) is convolve
    _, found = differentiate(network, images, learning())
    _, expected = differentiate(network, images, nullcontext())
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() <= 0.02 * other.norm()


@pytest.mark.parametrize("shape", [(2, 64, 4, 4), (16, 64, 2, 2)])
def test_wrong_numbers_of_channels_are_told_by_torch(shape, products):
    network = nn.Conv2d(32, 4, 3, padding=1, bias=False)
    with learning(), pytest.raises(RuntimeError, match="channels"):
        network(make_images(*shape))


def test_part_without_autocast_is_left_to_torch(products):
    images, weight = make_images(1, 64, 4, 4), torch.ones(1, 64, 3, 3)
    arguments = (images, weight, None, (1, 1), (1, 1), (1, 1), 1)
    with torch.autocast("cpu", torch.bfloat16):
        assert choose_convolution(*arguments) is convolve_with_product
        with torch.autocast("cpu", enabled=False):
            assert choose_convolution(*arguments) is None


@pytest.mark.parametrize("shape", [(1, 64, 4, 4), (16, 64, 2, 2)])
def test_functions_called_otherwise_are_left_to_torch(shape, products, tiny):
    images = make_images(*shape)
    weight = torch.ones(1, 64, 3, 3, requires_grad=True)
    with learning():
        torch.conv2d(input=images, weight=weight, padding=1).sum().backward()
        torch.conv2d(images, weight, stride=1, padding=1).sum().backward()
        torch.conv2d(images, weight, None, 1, 1).sum().backward()
    assert weight.grad.shape == weight.shape
    assert not products
    assert not tiny


@pytest.mark.parametrize("shape", [(1, 64, 4, 4), (16, 64, 2, 2)])
def test_weights_with_a_convolution_of_their_own_keep_it(shape, products, tiny):
    class Doubled(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            images, weight, *others = args
            weight = weight.as_subclass(torch.Tensor)
            return 2 * function(images, weight, *others)

    images, weight = make_images(*shape), torch.randn(4, 64, 3, 3)
    pair = (1, 1)
    expected = torch.conv2d(images, weight, None, pair, pair, pair, 1)
    with learning("float32"):
        found = torch.conv2d(
            images, weight.as_subclass(Doubled), None, pair, pair, pair, 1
        )
    torch.testing.assert_close(found, 2 * expected)


@pytest.mark.parametrize("shape", [(1, 64, 4, 4), (16, 64, 2, 2)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex64])
def test_types_that_autocast_leaves_alone_stay(dtype, shape, products, tiny):
    network = nn.Conv2d(64, 4, 3, padding=1, bias=False, dtype=dtype)
    with learning():
        features = network(make_images(*shape, dtype=dtype))
    features.sum().abs().backward()
    assert features.dtype == dtype
    assert not products
    assert not tiny


@pytest.mark.parametrize("shape", [(1, 64, 4, 4), (16, 64, 2, 2)])
def test_part_in_another_precision_stays_in_it(shape, products):
    network = nn.Conv2d(64, 4, 3, padding=1, bias=False)
    with learning(), torch.autocast("cpu", torch.float16):
        features = network(make_images(*shape))
    features.sum().backward()
    assert features.dtype == torch.float16
    assert not products


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("shape", [(2, 64, 4, 4), (16, 64, 2, 2)])
def test_networks_may_compute_again_what_they_do_not_keep(
    shape, reentrant, products, tiny
):
    torch.manual_seed(0)
    network = nn.Conv2d(64, 4, 3, padding=1, bias=False)
    images = make_images(*shape)

    def save_memory(images):
        features = checkpoint(network, images, use_reentrant=reentrant)
        features += 1
        return features

    expected = differentiate(network, images, learning())[1]
    products.clear()
    tiny.clear()
    images = images.clone().requires_grad_()
    with learning():
        features = save_memory(images)
    (features.float() - 1).square().sum().backward()
    for found, wanted in zip([network.weight.grad, images.grad], expected, strict=True):
        assert (found - wanted).norm() <= 0.02 * wanted.norm()
    # The whole is repeated by torch, if it is, and not what was kept.
    assert products or tiny or reentrant


def test_features_may_be_changed_in_place(tiny):
    network = nn.Conv2d(64, 4, 3, padding=1, bias=False)
    shift = nn.Parameter(torch.ones(1))
    with learning("float32"):
        with torch.no_grad():
            features = network(make_images(16, 64, 2, 2))
        features += shift
    assert tiny
    features.sum().backward()
    assert shift.grad == features.numel()


def test_networks_may_be_compiled():
    network = nn.Conv2d(64, 4, 3, padding=1, bias=False)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    images = make_images(16, 64, 2, 2)
    found = differentiate(compiled, images, learning("float32"))
    torch.testing.assert_close(found, differentiate(network, images, nullcontext()))


def test_batch_may_be_multiplied_in_parts(monkeypatch):
    images, gradient = torch.randn(7, 4, 3, 3), torch.randn(7, 2, 3, 3)
    whole = multiply_gradient(images, gradient, (2, 4, 3, 3), (1, 1))
    monkeypatch.setattr(_convolutions, "_MOST_UNFOLDED", 2 * 9 * 4 * 9)
    parts = multiply_gradient(images, gradient, (2, 4, 3, 3), (1, 1))
    torch.testing.assert_close(parts, whole)


def test_parts_are_added_in_float32():
    parts = [torch.ones(1, dtype=torch.bfloat16)] * 513
    assert _convolutions._add(parts) == 512  # and not 256, beyond which 1 is lost


@pytest.mark.parametrize("shape", [(3, 1, 64, 4, 4), (3, 16, 64, 2, 2)])
def test_networks_may_use_transforms_of_functions(shape, products, tiny):
    """As networks do that look at the gradients of each sample."""
    network = nn.Conv2d(64, 4, 3, padding=1, bias=False)
    images = torch.randn(shape).movedim(2, -1).contiguous().movedim(-1, 2)

    def loss(weight, images):
        features = torch.func.functional_call(network, {"weight": weight}, (images,))
        return features.float().square().sum()

    each = torch.vmap(torch.func.grad(loss), (None, 0))
    with learning():
        found = each(network.weight, images)
    assert products or tiny
    with torch.autocast("cpu", torch.bfloat16):
        expected = each(network.weight, images)
    assert (found - expected).norm() <= 1e-2 * expected.norm()
