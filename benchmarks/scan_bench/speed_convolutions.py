# SPDX-License-Identifier: BSD-3-Clause
"""The speed benchmark on convolutions as products of matrices."""

import time
from contextlib import nullcontext

import torch

from scan_bench.report import print_table, print_target
from scan_bench.speed_plain import resnet18_for_small_images
from sklearn_scan._devices import has_tiles
from sklearn_scan._engine import Runtime, kept_memory
from sklearn_scan._nets import ConvNet
from sklearn_scan._nets._convolutions import (
    choose_convolution,
    convolve_tiny,
    convolve_with_product,
    fast_convolutions,
    multiply_gradient,
)

# Batch, channels of the input and of the output, side of the input, kernel and stride.
LAYERS = (
    (512, 64, 64, 4, 3, 1),
    (512, 128, 128, 4, 3, 1),
    (512, 64, 64, 8, 3, 1),
    (256, 512, 512, 4, 3, 1),
    (256, 256, 512, 8, 3, 2),
    (256, 256, 256, 8, 3, 1),
    (256, 256, 512, 8, 1, 2),
    (128, 512, 2048, 7, 1, 1),
    (64, 512, 512, 7, 3, 1),
    (128, 1024, 256, 14, 1, 1),
)
# Tiny feature maps: batch, channels of the input and of the output, side.
TINY = (
    (512, 256, 256, 2),
    (32, 256, 256, 2),
    (16, 256, 256, 2),
    (512, 128, 128, 2),
    (512, 512, 512, 2),
    (16, 512, 512, 2),
    (16, 1024, 1024, 2),
    (512, 256, 256, 1),
)
# The networks that "auto" chooses for small images, and a large one: name, factory,
# batch.
NETWORKS = (
    ("small, 32 x 32 x 3", lambda: ConvNet(3, 32), (512, 3, 32, 32)),
    ("small, 28 x 28", lambda: ConvNet(1, 28), (512, 1, 28, 28)),
    ("small, 8 x 8", lambda: ConvNet(1, 8), (512, 1, 8, 8)),
    ("ResNet-18, 32 x 32 x 3", resnet18_for_small_images, (256, 3, 32, 32)),
)
_N_TURNS, _SECONDS = 5, 0.3


def measure_convolutions():
    """Compare convolutions, and gradients of weights, as products and by torch."""
    tiny = [
        measure_tiny(*layer, dtype)
        for layer in TINY
        for dtype in (torch.bfloat16, torch.float32)
    ]
    print_table(tiny)
    print()
    layers = [measure_layer(*layer) for layer in LAYERS]
    print_table(layers)
    print()
    networks, targets = [], []
    for name, make, shape in NETWORKS:
        seconds = measure_network(make(), shape)
        ratio = seconds["torch"] / seconds["library"]
        row = {"network": name} | {k: f"{1000 * s:.1f}" for k, s in seconds.items()}
        networks.append(row | {"torch / library": f"{ratio:.2f}"})
        if has_tiles():
            least = 1.25 if name.startswith("ResNet") else 1.0
            text = f"{name}: torch / library {ratio:.2f} >= {least}"
            targets.append(print_target(text, ratio >= least))
    print()
    print_table(networks)
    return {"tiny": tiny, "layers": layers, "networks": networks, "targets": targets}


def measure_tiny(n_images, n_in, n_out, side, dtype):
    """Return a row: milliseconds of both passes of one convolution of tiny maps."""
    images = make_map(n_images, n_in, side).to(dtype).requires_grad_()
    weight = (make_map(n_out, n_in, 3).to(dtype) / 50).requires_grad_()
    gradient = make_map(n_images, n_out, side).to(dtype)

    def step(convolve):
        features = convolve(images, weight)
        torch.autograd.grad(features, (images, weight), gradient)

    return {
        "images": n_images,
        "channels": f"{n_in} to {n_out}",
        "pixels": f"{side} x {side}",
        "precision": str(dtype).removeprefix("torch."),
        **compare(
            lambda: step(lambda x, w: torch.conv2d(x, w, None, 1, 1)),
            lambda: step(lambda x, w: convolve_tiny(x, w, (1, 1))),
        ),
    }


def measure_layer(n_images, n_in, n_out, side, kernel, stride):
    """Return a row: milliseconds of the gradient of the weights of one convolution."""
    n_pixels = -(-side // stride)
    images = make_map(n_images, n_in, side)
    gradient = make_map(n_images, n_out, n_pixels)
    weight = make_map(n_out, n_in, kernel)
    strides, margins = (stride, stride), (kernel // 2, kernel // 2)

    def by_torch():
        arguments = (gradient, images, weight, None, strides, margins, (1, 1))
        mask = (False, True, False)
        torch.ops.aten.convolution_backward(*arguments, False, (0, 0), 1, mask)

    def by_product():
        multiply_gradient(images, gradient, weight.shape, strides)

    with torch.autocast("cpu", torch.bfloat16):
        chosen = choose_convolution(images, weight, None, strides, margins, (1, 1), 1)
    return {
        "images": n_images,
        "channels": f"{n_in} to {n_out}",
        "pixels": f"{side} x {side}",
        "kernel": f"{kernel} x {kernel}" + f", stride {stride}" * (stride > 1),
        **compare(by_torch, by_product),
        "taken": "yes" if chosen is convolve_with_product else "no",
    }


def measure_network(network, shape):
    """Return the seconds of a forward and a backward pass, with and without."""
    runtime = Runtime(torch.device("cpu"), "bfloat16")
    network = network.to(memory_format=torch.channels_last).train()
    images = torch.randn(shape).contiguous(memory_format=torch.channels_last)

    def step(context):
        with runtime.autocast(), context:
            features = network(images)
        features.float().square().mean().backward()

    ways = {
        "torch": lambda: step(nullcontext()),
        "library": lambda: step(fast_convolutions(images)),
    }
    return in_turn(ways)


def compare(by_torch, by_product):
    """Return the columns of a table: milliseconds of both, and their ratio."""
    seconds = in_turn({"torch": by_torch, "product": by_product})
    columns = {f"{name}, ms": f"{1000 * s:.2f}" for name, s in seconds.items()}
    return columns | {"ratio": f"{seconds['torch'] / seconds['product']:.2f}"}


def make_map(n, n_channels, side):
    values = torch.randn(n, n_channels, side, side).bfloat16()
    return values.contiguous(memory_format=torch.channels_last)


def in_turn(ways):
    """Return the least seconds of each way, which take turns."""
    best = {}
    with kept_memory(torch.device("cpu")):
        for _ in range(_N_TURNS):
            for name, work in ways.items():
                seconds = time_often(work)
                best[name] = min(seconds, best.get(name, seconds))
    return best


def time_often(work):
    """Return the mean seconds, after a first time that is not counted."""
    work()
    started = time.perf_counter()
    n_times = 0
    while time.perf_counter() - started < _SECONDS:
        work()
        n_times += 1
    return (time.perf_counter() - started) / n_times
