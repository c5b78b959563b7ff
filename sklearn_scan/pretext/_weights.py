# SPDX-License-Identifier: BSD-3-Clause
"""Weights from files, and into networks."""

from collections.abc import Mapping
from pathlib import Path

import torch

# Where training programs put the weights within what they save.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "encoder")


def read_weights(weights):
    """Read the state dict of a file, or take it as it is."""
    if isinstance(weights, Mapping):
        state = weights
    elif Path(weights).suffix == ".safetensors":
        from safetensors.torch import load_file

        state = load_file(weights)
    else:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    for wrapper in _WRAPPERS:
        if isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    return state


def select_weights(state, prefix):
    """Return the weights whose names begin with a prefix, without it."""
    return {
        name.removeprefix(prefix): torch.as_tensor(value).detach().cpu()
        for name, value in state.items()
        if name.startswith(prefix)
    }


def load_weights(network, weights, encoder, prefix=""):
    """Load weights; more than is needed may be given, but not less.

    Parameters
    ----------
    network : nn.Module
        Changed in place.
    weights : dict
        Names to tensors.
    encoder, prefix : object
        What the user gave, for messages.
    """
    needed = network.state_dict()
    # Counts the batches of training, which older programs do not save.
    missing = [
        name
        for name in needed
        if name not in weights and not name.endswith("num_batches_tracked")
    ]
    if missing:
        raise ValueError(
            f"The weights have no entry for {len(missing)} of the {len(needed)} "
            f"weights of encoder={encoder!r}, among them {missing[:3]}. With prefix="
            f"{prefix!r} they have {len(weights)} entries: {sorted(weights)[:5]}. Give "
            "the prefix that the names begin with, or the encoder that they belong to."
        )
    wrong = [n for n in needed if n in weights and weights[n].shape != needed[n].shape]
    if wrong:
        name = wrong[0]
        raise ValueError(
            f"{len(wrong)} weights are of another shape than encoder={encoder!r} "
            f"has, among them {name!r}: {tuple(weights[name].shape)} was given, and "
            f"{tuple(needed[name].shape)} is needed."
        )
    network.load_state_dict({n: weights.get(n, needed[n]) for n in needed})
