# SPDX-License-Identifier: BSD-3-Clause
"""Torch's optimizers, without the import of its compiler.

The first optimizer of a process imports `torch._dynamo`, which takes longer than a fit
of a thousand rows, only to keep its methods out of a graph that nobody compiles here.
"""

import inspect
from functools import partial

import torch

_WRAPPED = ("add_param_group", "load_state_dict", "state_dict", "step", "zero_grad")


def _never_compiled(optimizer):
    """Take the compiler's wrappers off the methods of an optimizer class."""
    for name in _WRAPPED:
        setattr(optimizer, name, inspect.unwrap(getattr(optimizer, name)))
    # The wrapper of `step` switches gradients off as well.
    optimizer.step = torch.no_grad()(optimizer.step)
    return optimizer


@_never_compiled
class Adam(torch.optim.Adam):
    """`torch.optim.Adam`, not to be compiled."""


@_never_compiled
class AdamW(torch.optim.AdamW):
    """`torch.optim.AdamW`, not to be compiled."""


@_never_compiled
class SGD(torch.optim.SGD):
    """`torch.optim.SGD`, not to be compiled."""


# Every optimizer with a name. Fused: one kernel instead of a dozen per parameter.
OPTIMIZERS = {
    "adam": partial(Adam, fused=True),
    "adamw": partial(AdamW, fused=True),
    "sgd": partial(SGD, momentum=0.9, fused=True),
}
