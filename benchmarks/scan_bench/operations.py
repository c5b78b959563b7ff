# SPDX-License-Identifier: BSD-3-Clause
"""Training steps on tensors that have a shape and a device, and nothing else.

torch's fake tensors compute shapes alone, so that a step "on CUDA" runs on any machine.
They refuse operations between devices, and operations whose result depends on data,
such as `nonzero`, `item` or a boolean mask: on a GPU, those make the host wait. What
fake tensors let pass, `OperationCounter` notes.
"""

import copy
from contextlib import contextmanager
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sklearn_scan import pretext
from sklearn_scan._engine import NeighborPairs, Runtime, Samples, Schedule, StageNet
from sklearn_scan._inputs import ArraySource, learn_format
from sklearn_scan._losses import ConfidenceLoss, SCANLoss
from sklearn_scan._nets import ClusterNetwork, LinearHeads, build_encoder
from sklearn_scan._stages._head_search import make_heads
from sklearn_scan._stages._self_labeling import SelfLabelingNetwork
from sklearn_scan._views import Views, _strong, build_views
from sklearn_scan.pretext._base import BasePretext

TASKS = tuple(
    name for name in pretext.__all__ if issubclass(getattr(pretext, name), BasePretext)
)
STAGES = ("head search", "clustering", "self-labelling")
# Shapes of a sample.
IMAGES, ROWS = (32, 32, 3), (64,)
N_SAMPLES = 512
N_CLUSTERS = 10
# What has no deterministic kernel for CUDA, as torch.use_deterministic_algorithms
# says; fake tensors do not know.
_NOT_DETERMINISTIC = {
    "aten.median.dim",
    "aten.nanmedian.dim",
    "aten.kthvalue.default",
    "aten.histc.default",
    "aten.put_.default",
    "aten.grid_sampler_2d_backward.default",
    "aten.upsample_bilinear2d_backward.default",
    "aten._adaptive_avg_pool2d_backward.default",
    "aten.adaptive_max_pool2d_backward.default",
    "aten.nll_loss2d_forward.default",
    "aten.reflection_pad2d_backward.default",
    "aten.replication_pad2d_backward.default",
}
_DETERMINISTIC_FOR_INTEGERS = {"aten.cumsum.default", "aten.bincount.default"}
# What runs no kernel.
_NO_KERNEL = {
    "aten.empty.memory_format",
    "aten.empty_like.default",
    "aten.new_empty.default",
    "aten.new_empty_strided.default",
    "aten.promote_types.default",
    "aten._unsafe_view.default",
    "aten.lift_fresh.default",
    "aten.detach.default",
}


class OperationCounter(TorchDispatchMode):
    """Counts operations, and notes those that keep a GPU waiting or guessing.

    Attributes
    ----------
    operations : list of str
        The names of all.
    n_kernels : int
        Operations that compute: views of memory do not.
    n_in_views : int
        Of these, how many are run by the random views.
    waits : list of str
        Copies between the host and the device for which the host waits.
    copies : list of str
        All such copies.
    not_deterministic : list of str
        Operations that torch refuses under `torch.use_deterministic_algorithms`.
    """

    def __init__(self, module=None):
        super().__init__()
        self.operations, self.waits, self.copies = [], [], []
        self.not_deterministic = []
        self.n_kernels = self.n_in_views = 0
        self._depth = 0
        for part in module.modules() if module is not None else ():
            if isinstance(part, Views):
                part.register_forward_pre_hook(self._enter)
                part.register_forward_hook(self._leave)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        name = str(function)
        if not name.startswith("aten."):  # what fake tensors ask themselves
            return result
        self.operations.append(name)
        if _runs_kernel(function):
            self.n_kernels += 1
            self.n_in_views += self._depth > 0
        given = _devices((args, kwargs))
        if {"cpu", "cuda"} <= given | _devices(result):
            self.copies.append(name)
            if not _is_asynchronous(function, args, kwargs):
                self.waits.append(name)
        if _is_random_in_order(name, args):
            self.not_deterministic.append(name)
        return result

    def _enter(self, module, args):
        self._depth += 1

    def _leave(self, module, args, output):
        self._depth -= 1


def _runs_kernel(function):
    returned = function._schema.returns
    is_view = any(
        r.alias_info is not None and not r.alias_info.is_write for r in returned
    )
    return not is_view and str(function) not in _NO_KERNEL


def _devices(values):
    # A tensor without dimensions may stay on the host: it is passed as a number.
    tensors = [v for v in tree_leaves(values) if isinstance(v, torch.Tensor) and v.ndim]
    return {tensor.device.type for tensor in tensors}


def _is_asynchronous(function, args, kwargs):
    names = [argument.name for argument in function._schema.arguments]
    given = dict(zip(names, args, strict=False)) | kwargs
    return bool(given.get("non_blocking"))


def _is_random_in_order(name, args):
    if name in _DETERMINISTIC_FOR_INTEGERS:
        return args[0].dtype.is_floating_point
    return name in _NOT_DETERMINISTIC


@contextmanager
def fake_device():
    """Compute with fake tensors, but for what strong views draw on the host."""
    draw = _strong.draw_groups

    def draw_for_real(*args):
        with unset_fake_temporarily():
            return draw(*args)

    with (
        patch.object(_strong, "draw_groups", draw_for_real),
        FakeTensorMode(allow_non_fake_inputs=True) as mode,
    ):
        yield mode


def make_source(shape=IMAGES):
    """Return a source of random samples on the host."""
    X = np.random.default_rng(0).integers(0, 256, (N_SAMPLES, *shape))
    X = X.astype(np.uint8 if len(shape) == 3 else np.float32)
    return ArraySource(X, learn_format(X), "cpu")


def move_source(source, device):
    """Return a source of as many fake samples that are kept on the device.

    To be called under `fake_device`.
    """
    moved = copy.copy(source)
    moved.device = torch.device(device)
    dtype = torch.uint8 if source.array.dtype == np.uint8 else torch.float32
    moved.resident = torch.empty(source.array.shape, dtype=dtype, device=device)
    return moved


def move(module, device):
    """Put fake tensors on a device in the place of parameters and buffers.

    `Module.to` would exchange what is inside of tensors, real ones for fake ones.
    """
    for part in module.modules():
        for name, weight in part.named_parameters(recurse=False):
            empty = torch.empty_like(weight, device=device)
            fake = torch.nn.Parameter(empty, requires_grad=weight.requires_grad)
            part._parameters[name] = fake
        for name, buffer in part.named_buffers(recurse=False):
            part._buffers[name] = torch.empty_like(buffer, device=device)
    return module


def build_step(
    name, device, *, shape=IMAGES, encoder="auto", views="auto", precision="float32"
):
    """Return the step of a pretext task or of a stage, ready for `take`.

    To be called under `fake_device`.

    Parameters
    ----------
    name : str
        One of `TASKS` or `STAGES`.
    device : {"cpu", "cuda"}
        Where the fake tensors say that they are.
    shape : tuple of int, default=(32, 32, 3)
        Of a sample; the search of heads has an embedding in any case.
    encoder, views : str
        What the task is given; self-labelling has strong views in any case.
    precision : {"float32", "bfloat16"}, default="float32"
        As in `Runtime`.

    Returns
    -------
    step : SimpleNamespace
        As much of a `StageNet` as a step needs, and its data.
    """
    with unset_fake_temporarily():
        source = make_source(ROWS if name == "head search" else shape)
        module, criterion, data = _build(name, source, encoder, views)
    data.source = move_source(source, device)
    move(module, device)
    move(criterion, device)
    schedule = Schedule(1, 256, 1e-3, 1e-4, "adamw", "constant")
    runtime = Runtime(torch.device(device), precision)
    return SimpleNamespace(
        module_=module.train(),
        criterion_=criterion.train(),
        optimizer_=schedule.make_optimizer(module.parameters(), lr=1e-3),
        scaler_=runtime.make_scaler(),
        runtime=runtime,
        data=data,
    )


def _build(name, source, encoder, views):
    """Return a module on the CPU, its criterion and its data."""
    if name in TASKS:
        task = getattr(pretext, name)(encoder=encoder, views=views)
        module, criterion = task.build(source)
        return module, criterion, task.make_data(source, module)
    neighbors = np.roll(np.arange(N_SAMPLES), 1)[:, None]
    if name == "head search":
        module = make_heads(source, N_CLUSTERS, 8)
        return module, SCANLoss(n_steps=100), NeighborPairs(source, neighbors)
    encoder = build_encoder(encoder, source.format)
    is_image = len(source.format.tensor_shape) == 3
    heads = LinearHeads(encoder.n_features, N_CLUSTERS)
    network = ClusterNetwork(encoder, heads, build_views(views, source))
    if name == "clustering":
        return network, SCANLoss(), NeighborPairs(source, neighbors)
    strong = build_views("strong" if is_image else "auto", source)
    network = SelfLabelingNetwork(network, strong)
    return network, ConfidenceLoss(left_out=(1, 3)), Samples(source)


def read_batch(step, n_samples=256):
    """Return a batch of the data of a step."""
    return step.data.read(torch.arange(n_samples) % N_SAMPLES)


def take(step, *, backward):
    """Read a batch, compute the loss, and, if asked to, learn; return the counts.

    The engine of autograd knows fake tensors on the CPU alone. The first step, in
    which the optimizer makes its state, is not counted.
    """
    if backward:
        StageNet.train_step(step, read_batch(step))
    with OperationCounter(step.module_) as counter:
        batch = read_batch(step)
        if backward:
            StageNet.train_step(step, batch)
        else:
            with step.runtime.autocast():
                outputs = step.module_(*batch)
            step.criterion_(*outputs)
    return counter


def look(views, device, shape=IMAGES, n_samples=256):
    """Draw the views of a batch of fake samples, and return the counts."""
    with unset_fake_temporarily():
        source = make_source(shape)
        module = build_views(views, source)
    move(module, device)
    batch = move_source(source, device).read(torch.arange(n_samples))
    with OperationCounter(module) as counter:
        module(batch)
    return counter
