# SPDX-License-Identifier: BSD-3-Clause
"""Weights from files, and into networks."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

# Where training programs put the weights within what they save.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "encoder")


def read_weights(weights):
    """Read the state dict of a file, or take it as it is.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or no weights in it.
    """
    state = weights if isinstance(weights, Mapping) else _read_file(weights)
    for wrapper in _WRAPPERS:
        if isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    return state


def _read_file(path):
    """Read a file of PyTorch or of safetensors, without running code."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"There is no file weights={str(path)!r}. Relative paths start at "
            f"{str(Path.cwd())!r}."
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    # Whatever decoders raise: KeyError, UnpicklingError, SafetensorError, ...
    except Exception as error:
        raise ValueError(
            f"weights={str(path)!r} is no file of weights that can be read without "
            "running code: a state dict that was written by torch.save, or a file of "
            "safetensors, whose name ends in .safetensors, is needed."
        ) from error
    if not isinstance(state, Mapping):
        raise ValueError(
            f"weights={str(path)!r} holds a {type(state).__name__}, and a state dict "
            "is needed: names to tensors."
        )
    return state


def select_weights(state, prefix):
    """Return the weights whose names begin with a prefix, without it."""
    return {
        name.removeprefix(prefix): torch.as_tensor(value).detach().cpu()
        for name, value in state.items()
        # Training programs also save names and numbers of other things.
        if name.startswith(prefix) and isinstance(value, (torch.Tensor, np.ndarray))
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
