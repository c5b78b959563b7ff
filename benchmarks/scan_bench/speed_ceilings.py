# SPDX-License-Identifier: BSD-3-Clause
"""What the machine can do at most, and what a stage needs at least."""

import time
from functools import partial

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from sklearn_scan._engine._allocator import kept_memory

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Ceilings:
    """The best that was seen of the machine: the more often it is measured, the truer.

    Parameters
    ----------
    device : str
        Where to measure.
    """

    def __init__(self, device):
        self.device = torch.device(device)
        self.best = {}

    def measure(self):
        """Measure products and copies once more; return the best so far."""
        side = 8192 if self.device.type == "cuda" else 2048
        for name, dtype in PRECISIONS.items():
            self._keep(f"{name} GFLOP/s", 2 * side**3 / self._time_product(side, dtype))
            self._keep(
                f"{name} convolution GFLOP/s",
                2 * 64 * 16**2 * 9 * 256**2 / self._time_convolution(dtype),
            )
        n_bytes = 2**28
        source = torch.ones(n_bytes, dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        seconds = self._best_of(5, lambda: target.copy_(source))
        self._keep("copy GB/s", n_bytes / seconds)
        return self.best

    def flops(self, precision):
        """Return the best floating-point operations per second."""
        return self.best[f"{precision} GFLOP/s"] * 1e9

    def _time_product(self, side, dtype):
        a = torch.randn(side, side, device=self.device).to(dtype)
        b = torch.randn(side, side, device=self.device).to(dtype)
        return self._best_of(8, lambda: a @ b)

    def _time_convolution(self, dtype):
        """Time a layer of a ResNet: for some products there are faster routes."""
        make = partial(torch.randn, device=self.device, dtype=dtype)
        images = make(64, 256, 16, 16).contiguous(memory_format=torch.channels_last)
        weight = make(256, 256, 3, 3).contiguous(memory_format=torch.channels_last)
        return self._best_of(8, lambda: F.conv2d(images, weight, padding=1))

    def _best_of(self, n_times, work):
        seconds = []
        for _ in range(n_times + 1):
            started = time.perf_counter()
            work()
            synchronize(self.device)
            seconds.append(time.perf_counter() - started)
        return min(seconds[1:])

    def _keep(self, name, rate):
        self.best[name] = max(self.best.get(name, 0), rate / 1e9)


def count_flops(network, shape):
    """Count the operations of a network on one sample, forward and for training.

    Matrix products and convolutions alone, a product and a sum being two. Training
    counts the gradients of weights and of inputs, but for the input of the first layer.

    Parameters
    ----------
    network : nn.Module
        From a batch of samples.
    shape : tuple of int
        Of one sample.

    Returns
    -------
    forward, training : float
    """
    network.eval()
    samples = torch.zeros(2, *shape)
    with FlopCounterMode(display=False) as forward:
        outputs = network(samples)
    with FlopCounterMode(display=False) as backward:
        outputs.sum().backward()
    forward, backward = forward.get_total_flops() / 2, backward.get_total_flops() / 2
    return forward, forward + backward


class NetAlone:
    """The forward pass, and the training step, of a network and of nothing else.

    In the precision and the layout of the library, on one batch that lies there.

    Parameters
    ----------
    network : nn.Module
        Moved to the device.
    shape : tuple of int
        Of a batch.
    runtime : Runtime
        Device and precision.
    """

    def __init__(self, network, shape, runtime):
        self.runtime = runtime
        layout = {"memory_format": torch.channels_last}
        self.network = network.to(runtime.device, **layout)
        self.batch = torch.randn(shape, device=runtime.device).contiguous(**layout)

    def seconds(self, n_times=3):
        """Return the best seconds per sample of both."""
        times = {"forward": [], "training": []}
        with kept_memory(self.runtime.device):
            for _ in range(n_times + 1):
                self.network.eval()
                times["forward"].append(self._time(self._infer))
                self.network.train()
                times["training"].append(self._time(self._step))
        return {name: min(taken[1:]) for name, taken in times.items()}

    def _infer(self):
        with torch.no_grad(), self.runtime.autocast():
            self.network(self.batch)

    def _step(self):
        self.network.zero_grad(set_to_none=True)
        with self.runtime.autocast():
            outputs = self.network(self.batch)
        outputs.float().sum().backward()

    def _time(self, work):
        started = time.perf_counter()
        work()
        synchronize(self.runtime.device)
        return (time.perf_counter() - started) / len(self.batch)


def synchronize(device):
    """Wait for the device."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
