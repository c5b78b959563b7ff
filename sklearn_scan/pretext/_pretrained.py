# SPDX-License-Identifier: BSD-3-Clause
"""An encoder that was trained elsewhere."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from sklearn_scan._compat import StrOptions
from sklearn_scan._engine import resolve_seed, wrap_trained
from sklearn_scan._nets import build_encoder
from sklearn_scan._typing import (
    Device,
    EncoderLike,
    Precision,
    RandomState,
    Shape,
    WeightsLike,
)
from sklearn_scan.pretext._encoder import BaseEncoder

# Where training programs put the weights within what they save.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "encoder")


class Pretrained(BaseEncoder):
    """An encoder with the weights of a network that was trained elsewhere.

    `fit` trains nothing: it loads the weights, and learns from `X` no more than the
    layout and the range of the samples. In :class:`~sklearn_scan.SCANClustering` it
    takes the place of a pretext task, and the encoder is trained on from there.

    Parameters
    ----------
    encoder : str, class or callable, default="auto"
        The network that the weights belong to: a name such as "resnet50", or a class or
        function that is given the shape of a sample, (c, h, w) or (n_features,), and
        returns a `torch.nn.Module` from samples to features (b, d). "auto" is what
        :class:`SimCLR` takes.
    weights : str, PathLike, dict or None, default=None
        A file of PyTorch or of safetensors, or a state dict: names to tensors or
        arrays. A file is read without running code that it may hold. None leaves the
        network as `encoder` makes it: trained, where that loads weights by itself, or
        at random, which is the baseline of all pretext tasks.
    prefix : str, default=""
        What the names of the encoder's weights begin with in `weights`, such as
        ``"module.encoder_q."`` for MoCo. It is taken off; all other entries are left
        out.
    mean, std : tuple of float or "data", default="data"
        The mean and standard deviation, per channel, that the network was trained to
        see taken off, of values from 0 to 1. For ImageNet
        ``mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)``. "data" is those of
        `X`.
    image_shape : tuple of int or None, default=None
        Shape (h, w), (h, w, c) or (c, h, w) of one image where `X` holds images as
        rows, or files.
    device : str or torch.device, default="auto"
        Where to compute. "auto" takes a CUDA GPU where there is one.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        Not used by `transform`, which computes in float32.
    random_state : int, RandomState instance or None, default=None
        Determines the weights where there are none to load.
    verbose : int, default=0
        Not used: nothing takes long.

    Attributes
    ----------
    {shared_attributes}

    See Also
    --------
    sklearn.frozen.FrozenEstimator : Makes a clusterer take a pretext fitted before.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_scan.pretext import Pretrained, SimCLR
    >>> images = load_digits().images[:200]
    >>> trained = SimCLR(encoder="convnet", epochs=1, random_state=0).fit(images)
    >>> weights = trained.net_.module_.encoder.network.state_dict()
    >>> Pretrained("convnet", weights).fit_transform(images).shape
    (200, 128)
    """

    _parameter_constraints = {
        "weights": [str, os.PathLike, Mapping, None],
        "prefix": [str],
        "mean": [StrOptions({"data"}), tuple, list],
        "std": [StrOptions({"data"}), tuple, list],
    }

    def __init__(
        self,
        encoder: EncoderLike = "auto",
        weights: WeightsLike = None,
        *,
        prefix: str = "",
        mean: Literal["data"] | Sequence[float] = "data",
        std: Literal["data"] | Sequence[float] = "data",
        image_shape: Shape = None,
        device: Device = "auto",
        precision: Precision = "auto",
        random_state: RandomState = None,
        verbose: int = 0,
    ):
        self.encoder = encoder
        self.weights = weights
        self.prefix = prefix
        self.mean = mean
        self.std = std
        self.image_shape = image_shape
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose

    def build(self, source):
        """Return the network in a module, without the weights, and no criterion.

        Parameters
        ----------
        source : ArraySource
            The samples.
        """
        encoder = build_encoder(self.encoder, source.format)
        for name in ("mean", "std"):
            if (given := getattr(self, name)) != "data":
                _set_statistic(encoder, name, given)
        return TrainedEncoder(encoder), nn.Identity()

    def fit_samples(self, X, input_spec, trainer):
        """Load the weights."""
        self._take_input_spec(input_spec)
        with trainer.runtime.isolated(resolve_seed(self.random_state)):
            module, criterion = self.build(self._open(X, trainer.runtime))
        if self.weights is not None:
            weights = _select(_read(self.weights), self.prefix)
            _load(module.encoder.network, weights, self.encoder, self.prefix)
        self.net_ = wrap_trained(module, criterion, trainer.runtime)
        self.history_ = trainer.progress.history.setdefault("pretext", [])


class TrainedEncoder(nn.Module):
    """Holds an encoder where tasks keep theirs."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder


def _read(weights):
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


def _select(state, prefix):
    return {
        name.removeprefix(prefix): torch.as_tensor(value).detach().cpu()
        for name, value in state.items()
        if name.startswith(prefix)
    }


def _load(network, weights, encoder, prefix):
    """Load weights; more than is needed may be given, but not less."""
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


def _set_statistic(encoder, name, given):
    """Set the mean, or the reciprocal of the standard deviation, of an encoder."""
    buffer = encoder.mean if name == "mean" else encoder.scale
    if len(given) != buffer.numel():
        raise ValueError(
            f"{name}={given!r} has {len(given)} entries, and the samples have "
            f"{buffer.numel()} channels."
        )
    values = torch.tensor(given, dtype=buffer.dtype).view_as(buffer)
    buffer.copy_(values if name == "mean" else 1 / values)
