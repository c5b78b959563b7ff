# SPDX-License-Identifier: BSD-3-Clause
"""Networks as data: how they are put together, and their weights.

Modules of this library are few and simple: each is written down by its class, its
numbers and its parts. The network within an encoder is not. It is made anew, as `fit`
made it, and given its weights; so a file needs no class of torchvision, of timm or of
the user, and knows nothing of what is inside of them.
"""

import math

import torch
from torch import nn

from sklearn_scan._engine import Runtime
from sklearn_scan._nets import (
    ENCODERS,
    ClusterNetwork,
    Encoder,
    LinearHeads,
    MergedHeads,
    UnitLength,
    build_encoder,
    build_network,
    wrap_network,
)
from sklearn_scan._persistence._file import RefusedFileError
from sklearn_scan._persistence._values import UnsavableError
from sklearn_scan.pretext._deep_cluster import ClusteredNetwork
from sklearn_scan.pretext._named import find_named
from sklearn_scan.pretext._pretrained import TrainedEncoder

# What is written down part by part, and all that a file may ask for by name.
_PARTS = {
    cls.__name__: cls
    for cls in (
        ClusterNetwork,
        ClusteredNetwork,
        Encoder,
        LinearHeads,
        MergedHeads,
        TrainedEncoder,
        UnitLength,
        nn.Identity,
        nn.Linear,
        nn.Sequential,
    )
}
_INTERNAL = set(vars(nn.Module()))
# Larger images would make an encoder of any name fill the memory.
_LARGEST_IMAGE = 4096


def encode_module(module, blocks, path):
    """Return the node of a trained module.

    Random views are left out: they are drawn in training alone.

    Parameters
    ----------
    module : nn.Module
        Of this library, or a container of torch.
    blocks : Blocks
        Takes the weights.
    path : str
        Where the module is, for messages and as the name of its weights.
    """
    if isinstance(module, Encoder) and not isinstance(module.network, nn.Identity):
        return {
            "module": "encoder",
            "n_features": module.n_features,
            "weights": _encode_weights(module, blocks, path),
        }
    children = {
        name: nn.Identity() if name == "views" else child
        for name, child in module.named_children()
    }
    own = {**module._parameters, **module._buffers}
    return {
        "module": _name_part(module, path),
        "settings": _encode_settings(module, path),
        "weights": {
            name: blocks.add(value, f"{path}.{name}")
            | {"is_buffer": name in module._buffers}
            for name, value in own.items()
            if value is not None
        },
        "children": {
            name: encode_module(child, blocks, f"{path}.{name}")
            for name, child in children.items()
        },
    }


def decode_module(node, blocks, pretext):
    """Return the module of a node, in evaluation mode.

    Parameters
    ----------
    node : dict
        Made by `encode_module`.
    blocks : BlockReader
        Has the weights.
    pretext : BaseEncoder or None
        How the network of an encoder is made.
    """
    if node["module"] == "encoder":
        return _decode_encoder(node, blocks, pretext).eval()
    cls = _PARTS.get(str(node["module"]))
    if cls is None:
        raise RefusedFileError(f"{node['module']!r} is no module of sklearn_scan")
    module = cls.__new__(cls)
    nn.Module.__init__(module)
    for name, value in node["settings"].items():
        _check_setting(cls, name)
        setattr(module, name, _decode_setting(value))
    for name, weight in node["weights"].items():
        _check_setting(cls, name)
        _register(module, name, blocks.read_tensor(weight), weight.get("is_buffer"))
    for name, child in node["children"].items():
        _check_setting(cls, name)
        module.add_module(name, decode_module(child, blocks, pretext))
    return module.eval()


def check_heads(heads):
    """Refuse heads of which the numbers do not fit to each other.

    An index out of bounds would be an error that ends all work on a GPU.
    """
    while isinstance(heads, MergedHeads):
        _check_merged(heads)
        heads = heads.heads
    is_right = isinstance(heads, LinearHeads) and isinstance(heads.linear, nn.Linear)
    _require(is_right and _are_counts(heads), "the heads")
    n_outputs = heads.n_heads * heads.n_classes
    weight, bias = heads.linear.weight, heads.linear.bias
    is_right = weight.ndim == 2 and len(weight) == n_outputs
    _require(is_right and bias.shape == (n_outputs,), "the heads")


def is_temperature(value):
    """Say whether logits can be divided by a value."""
    return type(value) is float and 0 < value < math.inf


def _check_merged(heads):
    below, groups = heads.heads, heads.groups
    is_right = isinstance(below, (LinearHeads, MergedHeads)) and _are_counts(heads)
    _require(is_right and _are_counts(below), "the merged heads")
    _require(heads.n_heads == below.n_heads, "the merged heads")
    is_right = groups.dtype == torch.int64 and groups.shape == (below.n_classes,)
    is_right = is_right and 0 <= groups.min() and groups.max() < heads.n_classes
    _require(is_right and is_temperature(heads.temperature), "the merged heads")


def _are_counts(heads):
    numbers = (heads.n_heads, heads.n_classes)
    return all(type(number) is int and number > 0 for number in numbers)


def _require(is_right, what):
    if not is_right:
        raise RefusedFileError(f"{what} of the network cannot be what they are")


def make_encoder(pretext, n_features):
    """Return the encoder of a pretext as it is before it has learned.

    Parameters
    ----------
    pretext : BaseEncoder
        Its `input_spec_` is known.
    n_features : int
        Length of the feature vectors.
    """
    format = pretext.input_spec_.format
    with Runtime.resolve("cpu", "float32").isolated(0):
        named = find_own_named(pretext)
        if named is not None:
            return wrap_network(named.make_untrained(), format)
        if callable(pretext.encoder):
            return build_encoder(pretext.encoder, format)
        if pretext.encoder not in {"auto", *ENCODERS}:
            raise RefusedFileError(f"{pretext.encoder!r} is no encoder")
        # Without memory: all of its weights come from the file. No more than that, as
        # what is computed without memory makes torch import its compiler, for seconds.
        with torch.device("meta"):
            network = build_network(pretext.encoder, format)
        return wrap_network(network, format, n_features)


def find_own_named(pretext):
    """Return the encoder of another library that a pretext has by name, or None."""
    if pretext is None or not pretext.is_pretrained:
        return None
    size = pretext.image_size
    if size is not None and not 0 < size <= _LARGEST_IMAGE:
        raise RefusedFileError(f"image_size={size!r} is no size of an image")
    if isinstance(pretext.encoder, str) and pretext.encoder in ENCODERS:
        return None
    return find_named(pretext.encoder, size)


def _decode_encoder(node, blocks, pretext):
    if pretext is None:
        raise RefusedFileError("there is a network, and no pretext that it is of")
    _check_sizes(node["weights"], pretext)
    n_features = node["n_features"]
    encoder, state = make_encoder(pretext, n_features), {}
    expected = encoder.state_dict()
    if set(expected) != set(node["weights"]):
        odd = sorted(set(expected) ^ set(node["weights"]))
        raise RefusedFileError(
            f"the network of encoder={pretext.encoder!r} has other weights than the "
            f"file: {', '.join(map(repr, odd[:3]))}. It may be another release of a "
            "library, or another function, than the one that it was saved with"
        )
    for name, weight in node["weights"].items():
        state[name] = blocks.read_tensor(weight)
        found, wanted = state[name], expected[name]
        if (found.dtype, found.shape) != (wanted.dtype, wanted.shape):
            raise RefusedFileError(
                f"the weights {name!r} are of shape {tuple(found.shape)} and type "
                f"{found.dtype}, and the network of encoder={pretext.encoder!r} needs "
                f"{tuple(wanted.shape)} and {wanted.dtype}"
            )
    encoder.load_state_dict(state, assign=True)
    widths = {encoder.n_features}
    if pretext.encoder in ("auto", *ENCODERS):  # was believed: all end with weights
        widths = {side for value in state.values() for side in value.shape}
    if type(n_features) is not int or n_features not in widths:
        raise RefusedFileError(
            f"encoder={pretext.encoder!r} does not make {n_features!r} features"
        )
    return encoder


def _check_sizes(weights, pretext):
    """Refuse a named encoder that would take more memory than its weights."""
    named = find_own_named(pretext)
    if named is None:
        return
    try:
        with torch.device("meta"):
            network = named.make_untrained()
    except (RuntimeError, NotImplementedError):  # some compute while they are made
        return
    found = {tuple(weight["shape"]) for weight in weights.values()}
    if not {tuple(value.shape) for value in network.state_dict().values()} <= found:
        raise RefusedFileError(
            f"the weights are not those of encoder={pretext.encoder!r}"
        )


def _encode_weights(module, blocks, path):
    return {
        name: blocks.add(value, f"{path}.{name}")
        for name, value in module.state_dict().items()
    }


def _name_part(module, path):
    cls = type(module)
    if _PARTS.get(cls.__name__) is cls:
        return cls.__name__
    raise UnsavableError(
        f"{path} cannot be saved: it is a {cls.__module__}.{cls.__name__}, outside of "
        "an encoder."
    )


def _encode_settings(module, path):
    settings = {n: v for n, v in vars(module).items() if n not in _INTERNAL}
    for name, value in settings.items():
        parts = value if isinstance(value, tuple) else (value,)
        if not all(isinstance(p, (int, float, str, type(None))) for p in parts):
            raise UnsavableError(
                f"{path}.{name} cannot be saved: it is a {type(value).__name__}."
            )
    return {n: list(v) if isinstance(v, tuple) else v for n, v in settings.items()}


def _decode_setting(value):
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(p, (int, float, str, type(None))) for p in parts):
        raise RefusedFileError("a setting of a module is no number and no text")
    return tuple(value) if isinstance(value, list) else value


def _check_setting(cls, name):
    """Refuse names that would change what a module does."""
    if not name or name.startswith("__") or "." in name or name in _INTERNAL:
        raise RefusedFileError(f"{name!r} is no name of a part")
    if hasattr(cls, name):
        raise RefusedFileError(f"{name!r} of {cls.__name__} is not to be changed")


def _register(module, name, value, is_buffer):
    if is_buffer:
        module.register_buffer(name, value)
    else:
        module.register_parameter(
            name, nn.Parameter(value, requires_grad=value.is_floating_point())
        )
