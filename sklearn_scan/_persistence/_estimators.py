# SPDX-License-Identifier: BSD-3-Clause
"""Estimators as data: class, parameters, and what `fit` has learned.

Attributes are not listed here: whatever `fit` sets is written down by its name, if it
is data. Only networks, and what they stand on, are known by name.
"""

import warnings

import numpy as np
import sklearn
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import InconsistentVersionWarning

from sklearn_scan._backbone import (
    FixedBackbone,
    FrozenBackbone,
    KeptBackbone,
    TrainableBackbone,
    find_encoder,
)
from sklearn_scan._compat import check_params
from sklearn_scan._engine import Runtime, wrap_trained
from sklearn_scan._inputs import ImageFormat, InputSpec, Preparation, RowFormat
from sklearn_scan._nets import ClusterNetwork
from sklearn_scan._persistence._file import RefusedFileError
from sklearn_scan._persistence._names import find_name, walk_nodes
from sklearn_scan._persistence._networks import (
    check_heads,
    decode_module,
    encode_module,
    find_own_named,
    is_temperature,
)
from sklearn_scan._persistence._values import (
    UnsavableError,
    decode_plain,
    encode_plain,
)
from sklearn_scan._scan import SCANClustering
from sklearn_scan._stages import make_net
from sklearn_scan._warnings import warn_user
from sklearn_scan.pretext._encoder import BaseEncoder
from sklearn_scan.pretext._pretrained import TrainedEncoder

# Parameters that are of one machine, and what a loaded estimator has instead: those of
# this library, and the cache of pipelines.
_OF_ONE_MACHINE = {"device": "auto", "memory": None, "checkpoint": None}
_OF_ONE_MACHINE_ELSEWHERE = {"memory": None}

# Lists within lists, and estimators within estimators.
_DEEPEST = 100

# Of scikit-learn: what watches a fit, and a version that is written down elsewhere. And
# what is computed from the embedding when it is asked for.
_LEFT_OUT = {"_skl_callbacks", "_sklearn_version", "_known_samples"}
# What has a place of its own in a file, and is no attribute among others.
_APART = {"net_", "_backbone"}
# What backbones learn.
_OF_BACKBONES = {"format", "metric", "center"}
_BACKBONES = {
    cls.__name__: cls
    for cls in (TrainableBackbone, FrozenBackbone, FixedBackbone, KeptBackbone)
}


class EstimatorEncoder:
    """Writes estimators down.

    Parameters
    ----------
    blocks : Blocks
        Takes arrays.
    """

    def __init__(self, blocks):
        self.blocks = blocks
        self._named = None

    def encode(self, value, path):
        """Return the node of a value, which may be an estimator."""
        if isinstance(value, BaseEstimator) and not isinstance(value, type):
            return self._encode_estimator(value, path)
        if isinstance(value, Preparation) and value.crop is not None:
            return self._encode_preparation(value, path)
        return encode_plain(value, self.blocks, path, self.encode)

    def _encode_estimator(self, estimator, path):
        params = estimator.get_params(deep=False)
        state = dict(estimator.__getstate__())
        learned = {n: v for n, v in state.items() if n not in {*params, *_LEFT_OUT}}
        net, backbone = learned.pop("net_", None), learned.pop("_backbone", None)
        params = _move(type(estimator), params, "auto")
        before, self._named = self._named, _find_named(estimator) or self._named
        node = {
            "type": "estimator",
            "name": _name_class(estimator, path),
            "params": self._encode_all(params, path),
            "learned": self._encode_all(learned, path),
        }
        if net is not None:
            module = _find_answering(estimator, net.module_)
            place = _join(path, "network")
            node["network"] = encode_module(module, self.blocks, place)
        if backbone is not None:
            node["backbone"] = self._encode_backbone(backbone, _join(path, "backbone"))
        self._named = before
        return node

    def _encode_all(self, values, path):
        return {n: self.encode(value, _join(path, n)) for n, value in values.items()}

    def _encode_backbone(self, backbone, path):
        learned = dict(vars(backbone))
        del learned["pretext"], learned["input_spec"]
        return {
            "class": type(backbone).__name__,
            "learned": self._encode_all(learned, path),
        }

    def _encode_preparation(self, value, path):
        if self._named is None:
            raise UnsavableError(
                f"{path} cannot be saved: its crop is a function, and there is no "
                "encoder with a name that could be asked for it again."
            )
        name, image_size = self._named
        return {
            "type": "preparation",
            "encoder": name,
            "image_size": image_size,
            "description": value.describe(),
        }


class EstimatorDecoder:
    """Makes estimators of what was written down.

    Parameters
    ----------
    blocks : BlockReader
        Has arrays.
    names : Names
        Has classes and functions.
    device : str or torch.device
        Where estimators of this library are to compute.
    """

    def __init__(self, blocks, names, device):
        self.blocks = blocks
        self.names = names
        self.device = device
        self._depth = 0

    def decode(self, node):
        """Return the value of a node, which may be an estimator."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise RefusedFileError("its description is nested too deeply")
        value = self._decode(node)
        self._depth -= 1
        return value

    def _decode(self, node):
        kind = node.get("type") if isinstance(node, dict) else None
        if kind == "estimator":
            return self._decode_estimator(node)
        if kind == "preparation":
            return _decode_preparation(node)
        return decode_plain(node, self.blocks, self.names, self.decode)

    def _decode_estimator(self, node):
        cls = self.names.find_class(node["name"])
        params = self._decode_all(node["params"])
        params = _move(cls, params, self.device)
        estimator = cls(**params)
        if _is_ours(cls):
            check_params(estimator)
        learned = self._decode_all(node["learned"])
        _check_attributes(estimator, learned)
        vars(estimator).update(learned)
        if "network" in node or "input_spec_" in learned:
            _require(isinstance(learned.get("input_spec_"), InputSpec), "input_spec_")
        if "backbone" in node:
            vars(estimator)["_backbone"] = self._decode_backbone(node, estimator)
        if "network" in node:
            vars(estimator)["net_"] = self._decode_net(node["network"], estimator)
        if isinstance(estimator, SCANClustering) and "net_" in vars(estimator):
            check_clusterer(estimator)
        return estimator

    def _decode_all(self, nodes):
        return {name: self.decode(node) for name, node in nodes.items()}

    def _decode_backbone(self, node, clusterer):
        _require(isinstance(clusterer, SCANClustering), "the backbone")
        pretext = clusterer.pretext_
        _require(isinstance(pretext, BaseEstimator), "pretext_")
        cls = _BACKBONES[node["backbone"]["class"]]
        ours = find_encoder(pretext)
        _require(ours is pretext or cls is FixedBackbone, "pretext_")
        if ours is not None:
            _require(isinstance(ours.input_spec_, InputSpec), "pretext_.input_spec_")
        learned = self._decode_all(node["backbone"]["learned"])
        _require(set(learned) <= _OF_BACKBONES, "the backbone")
        if cls in (FixedBackbone, KeptBackbone):
            is_format = isinstance(learned.get("format"), (ImageFormat, RowFormat))
            _require(is_format, "the format of the backbone")
        # Without `__init__`, which asks a pretext for weights that were not stored.
        backbone = cls.__new__(cls)
        given = {"pretext": pretext, "input_spec": clusterer.input_spec_}
        vars(backbone).update(learned | given)
        return backbone

    def _decode_net(self, node, estimator):
        runtime = Runtime.resolve(self.device, "float32")
        if isinstance(estimator, BaseEncoder):
            module = decode_module(node, self.blocks, estimator)
            _require(hasattr(module, "encoder"), "the network")
            return wrap_trained(module, torch.nn.Identity(), runtime)
        _require(isinstance(estimator, SCANClustering), "the network")
        pretext = find_encoder(estimator.pretext_)
        module = decode_module(node, self.blocks, pretext)
        _require(isinstance(module, ClusterNetwork), "the network")
        check_heads(module.heads)
        return make_net(module, float(estimator.entropy_weight), runtime)


def check_clusterer(clusterer):
    """Refuse results that cannot be those of a fit: of other sizes, or no indices."""
    n_samples = len(clusterer.embedding_)
    n_clusters = clusterer.net_.module_.heads.n_classes
    for name, upper, n_rows in (
        ("labels_", n_clusters, n_samples),
        ("prototypes_", n_samples, n_clusters),
        ("neighbors_", n_samples, n_samples),
    ):
        found = getattr(clusterer, name)
        is_index = isinstance(found, np.ndarray) and found.dtype.kind == "i"
        is_index = is_index and (found >= -1).all() and (found < upper).all()
        _require(is_index and len(found) == n_rows, name)
    for name, n_axes in (("embedding_", 2), ("confidence_", 1)):
        found = getattr(clusterer, name)
        is_float = isinstance(found, np.ndarray) and found.dtype.kind == "f"
        is_float = is_float and found.ndim == n_axes and len(found) == n_samples
        _require(is_float, name)
    _require(clusterer.n_clusters_ == n_clusters, "n_clusters_")
    _require(is_temperature(clusterer.temperature_), "temperature_")


def warn_of_versions(description):
    """Warn where scikit-learn has changed since a transformer of it was saved."""
    saved = description["versions"].get("sklearn")
    names = {str(node.get("name")) for node in walk_nodes(description["estimator"])}
    of_sklearn = sorted(name for name in names if name.startswith("sklearn."))
    if of_sklearn and saved != sklearn.__version__:
        warnings.warn(
            InconsistentVersionWarning(
                estimator_name=of_sklearn[0].partition(":")[2],
                current_sklearn_version=sklearn.__version__,
                original_sklearn_version=saved,
            ),
            stacklevel=3,
        )


def _decode_preparation(node):
    stand_in = _Named(node["encoder"], node["image_size"])
    named = find_own_named(stand_in)
    _require(named is not None, "the encoder of a preparation")
    found = named.find_preparation()
    if found.describe() != node.get("description"):
        warn_user(
            f"The library of encoder={node['encoder']!r} prepares images differently "
            "from the release with which this estimator was fitted, so that "
            "probabilities may differ."
        )
    return found


class _Named:
    """What `find_own_named` looks at."""

    is_pretrained = True

    def __init__(self, encoder, image_size):
        self.encoder = encoder
        self.image_size = image_size


def _find_named(estimator):
    """Return name and size of the named encoder that an estimator prepares for."""
    if isinstance(estimator, SCANClustering):
        estimator = getattr(estimator, "pretext_", None)
    pretext = find_encoder(estimator)
    if pretext is None or callable(pretext.encoder):
        return None
    named = find_own_named(pretext)
    return None if named is None else (pretext.encoder, pretext.image_size)


def _is_ours(cls):
    return issubclass(cls, (BaseEncoder, SCANClustering))


def _move(cls, params, device):
    """Return parameters for another machine."""
    ours = _OF_ONE_MACHINE | {"device": device}
    other = ours if _is_ours(cls) else _OF_ONE_MACHINE_ELSEWHERE
    return {name: other.get(name, value) for name, value in params.items()}


def _join(path, name):
    return f"{path}.{name}" if path else name


def _find_answering(estimator, module):
    """Return the part of a module that is asked after `fit`."""
    is_encoder = isinstance(estimator, BaseEncoder)
    if is_encoder and not estimator.answers_with_task:
        return TrainedEncoder(module.encoder)
    return module


def _name_class(estimator, path):
    try:
        return find_name(type(estimator))
    except TypeError as error:
        raise UnsavableError(f"{path or 'The estimator'}: {error}.") from error


def _check_attributes(estimator, names):
    """Refuse names that would change what an estimator does.

    Those of parameters, whether the file has them or not: what it leaves out, such as a
    folder of the cache, is not to come in this way.
    """
    cls = type(estimator)
    taken = {*estimator.get_params(deep=False), *_LEFT_OUT, *_APART}
    for name in names:
        is_of_class = callable(getattr(cls, name, None))
        if _is_ours(cls):
            is_of_class = hasattr(cls, name)
        _require(not (name in taken or name.startswith("__") or is_of_class), name)


def _require(is_right, what):
    if not is_right:
        raise RefusedFileError(f"{what} is not what it can be")
