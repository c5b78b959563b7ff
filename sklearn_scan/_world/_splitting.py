# SPDX-License-Identifier: BSD-3-Clause
"""One batch through one network, in several processes at the same time.

The loss is computed by every process on all features. So the gradient of a gathered
feature is known in full wherever it is needed, and none has to be sent back: the
process that computed the feature takes it, and the gradients of weights are added up
after the backward pass (`World.add_gradients`). `DistributedDataParallel` would average
losses of parts of a batch, which is another loss where samples are compared, and wrap
the network in another type with other names for its weights.
"""

from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from sklearn_scan._world._processes import world


def encode_together(network, batch):
    """Return the features of a batch, of which each process computes a part.

    In training, batch normalisation takes its statistics from the whole batch.

    Parameters
    ----------
    network : nn.Module
        From samples to features (b, n_features).
    batch : Tensor of shape (b, ...)
        The same in all processes.
    """
    here = world()
    if here.size == 1 or not any(True for _ in network.parameters()):
        return network(batch)
    if len(batch) < here.size:
        # All compute the whole, and gradients will be added up.
        return _Repeated.apply(network(batch), here.size)
    parts = batch.tensor_split(here.size)
    sizes = [len(part) for part in parts]
    if not network.training:
        return _Gathered.apply(network(parts[here.rank]), here, sizes)
    with _own_draws(here.rank, batch.device), _SharedStatistics(here):
        features = network(parts[here.rank])
    return _Gathered.apply(features, here, sizes)


class _Gathered(torch.autograd.Function):
    """The features of all processes; each takes the gradient of its own."""

    @staticmethod
    def forward(ctx, part, world, sizes):
        ctx.begin, ctx.length = sum(sizes[: world.rank]), sizes[world.rank]
        return world.gather(part, sizes)

    @staticmethod
    def backward(ctx, gradient):
        return gradient.narrow(0, ctx.begin, ctx.length), None, None


class _Repeated(torch.autograd.Function):
    """What all processes have computed, each of which takes a share of the gradient."""

    @staticmethod
    def forward(ctx, features, size):
        ctx.size = size
        return features.view_as(features)

    @staticmethod
    def backward(ctx, gradient):
        return gradient / ctx.size, None


class _Sum(torch.autograd.Function):
    """A sum over processes, which all of them use, each for its own samples."""

    @staticmethod
    def forward(ctx, part, world):
        ctx.world = world
        return world.add(part.clone())

    @staticmethod
    def backward(ctx, gradient):
        return ctx.world.add(gradient.contiguous().clone()), None


class _SharedStatistics(TorchFunctionMode):
    """Let batch normalisation see the samples of all processes.

    Whatever layer calls it, also one of another library; `SyncBatchNorm` is another
    type, and does not compute on a CPU.
    """

    def __init__(self, world):
        super().__init__()
        self.world = world

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Replace one function of torch."""
        if func is F.batch_norm:
            return _normalise(self.world, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _normalise(
    world,
    input,
    running_mean,
    running_var,
    weight=None,
    bias=None,
    training=False,
    momentum=0.1,
    eps=1e-5,
):
    """Normalise a batch as `F.batch_norm` does, by the statistics of all processes."""
    if not training:
        return F.batch_norm(
            input, running_mean, running_var, weight, bias, False, momentum, eps
        )
    x = input.float()
    axes = [0, *range(2, x.ndim)]
    shape = (1, -1, *(1 for _ in axes[1:]))
    n_here = x.new_full((1,), x.numel() / x.shape[1])
    total = _Sum.apply(torch.cat([x.sum(axes), n_here]), world)
    n, mean = total[-1].detach(), total[:-1] / total[-1].detach()
    centred = x - mean.view(shape)
    # In a second sum: the mean of squares less the square of the mean is not exact.
    variance = _Sum.apply(centred.square().sum(axes), world) / n
    if running_mean is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            unbiased = variance * n / (n - 1)
            running_var.lerp_(unbiased.to(running_var.dtype), momentum)
    scale = (variance + eps).rsqrt()
    scale = scale if weight is None else scale * weight
    result = centred * scale.view(shape)
    result = result if bias is None else result + bias.view(shape)
    return result.to(input.dtype)


@contextmanager
def _own_draws(rank, device):
    """Let a network draw, as dropout does, for its own samples.

    Then generators are again the same in all processes, though each drew for another
    number of samples. A network that draws nothing leaves them as they are.
    """
    generators = [torch.default_generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index])
    before = [generator.get_state() for generator in generators]
    seed = int(torch.randint(2**40, (), device="cpu")) + rank
    begun = [g.manual_seed(seed).get_state() for g in generators]
    try:
        yield
    finally:
        ended = [generator.get_state() for generator in generators]
        drew = [not a.equal(b) for a, b in zip(begun, ended, strict=True)]
        for generator, state in zip(generators, before, strict=True):
            generator.set_state(state)
        if any(drew):  # else the next call would draw the same
            for g in generators:
                torch.rand((), generator=g, device=g.device)
