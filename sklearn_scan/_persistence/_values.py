# SPDX-License-Identifier: BSD-3-Clause
"""Plain values and arrays as nodes of JSON, and back.

Numbers, strings, booleans and None are themselves, and so are lists. Everything else is
an object with a "type".
"""

import dataclasses
import math
import os
from functools import partial

import numpy as np
import torch
from scipy import sparse
from sklearn.utils import Bunch

from sklearn_scan._inputs import ImageFormat, InputSpec, Preparation, RowFormat
from sklearn_scan._persistence._file import RefusedFileError
from sklearn_scan._persistence._names import find_name

# Longer lists of strings, such as paths, are kept as an array.
_MOST_STRINGS = 100
# Of an array of strings, each of which takes what the longest does.
_MOST_BYTES_OF_STRINGS = 2**28
# What a generator of numpy keeps; the last place in it is not checked by numpy.
_N_WORDS = 624
# Of one image or row; a network is tried on two of them.
_MOST_VALUES = 2**26


class UnsavableError(TypeError):
    """A value is none that can be written down as data."""


def encode_plain(value, blocks, path, encode):
    """Return the node of a value.

    Parameters
    ----------
    value : object
        To be written down.
    blocks : Blocks
        Takes arrays.
    path : str
        Where the value is, for messages.
    encode : callable
        ``f(value, path)`` for what is within the value.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return _as_builtin(value)
    if isinstance(value, (float, np.bool_, np.number)):
        return _encode_number(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return _encode_sequence(value, blocks, path, encode)
    if isinstance(value, dict):
        return _encode_dict(value, path, encode)
    if type(value) in (np.ndarray, np.memmap) or isinstance(value, torch.Tensor):
        return _encode_array(value, blocks, path, encode)
    if sparse.issparse(value):
        return _encode_sparse(value, blocks, path)
    if isinstance(value, np.random.RandomState):
        return {"type": "RandomState", "state": encode(list(value.get_state()), path)}
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (torch.device, np.dtype)):
        return {"type": type(value).__name__.split("[")[0], "name": str(value)}
    if isinstance(value, type) and issubclass(value, np.generic):
        return {"type": "dtype", "name": np.dtype(value).name, "is_class": True}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _encode_record(value, path, encode)
    if isinstance(value, partial):
        parts = (value.func, value.args, value.keywords)
        return {"type": "partial", "parts": encode(list(parts), path)}
    if callable(value):
        try:
            return {"type": "function", "name": find_name(value)}
        except TypeError as error:
            raise UnsavableError(f"{path} cannot be saved: {error}.") from error
    raise UnsavableError(
        f"{path} cannot be saved: it is a {type(value).__module__}."
        f"{type(value).__name__}, and numbers, strings, arrays and estimators made of "
        "these are saved. Use joblib instead, for yourself and those who trust you."
    )


def decode_plain(node, blocks, names, decode):
    """Return the value of a node.

    Parameters
    ----------
    node : object
        Of JSON.
    blocks : BlockReader
        Has arrays.
    names : Names
        Has functions.
    decode : callable
        ``f(node)`` for what is within the node.
    """
    if isinstance(node, list):
        return [decode(each) for each in node]
    if not isinstance(node, dict):
        return node
    decoder = _DECODERS.get(node.get("type"))
    if decoder is None:
        raise RefusedFileError(f"values of type {node.get('type')!r} are not known")
    return decoder(node, blocks, names, decode)


def _as_builtin(value):
    # Subclasses of builtins, such as an enumeration of strings, may print otherwise.
    for kind in (bool, int, str):
        if isinstance(value, kind):
            return kind(value) if kind is not str else str.__str__(value)
    return None


def _encode_number(value):
    if type(value) is float and math.isfinite(value):
        return value
    if isinstance(value, (np.bool_, np.number)):
        # As text: the longest float is the same again, and so is what is not finite.
        return {"type": "scalar", "dtype": value.dtype.name, "value": str(value)}
    return {"type": "float", "value": str(value)}


def _encode_sequence(value, blocks, path, encode):
    items = list(value)
    if len(items) > _MOST_STRINGS and all(type(item) is str for item in items):
        return _encode_strings(items, blocks, path) | {"kind": type(value).__name__}
    nodes = [encode(item, f"{path}[{i}]") for i, item in enumerate(items)]
    if type(value) is list:
        return nodes
    if type(value) in (tuple, set, frozenset):
        return {"type": type(value).__name__, "items": nodes}
    raise UnsavableError(
        f"{path} cannot be saved: it is a {type(value).__name__}, which is more than a "
        "list or a tuple."
    )


def _encode_strings(items, blocks, path):
    # Names of files that are no UTF-8 have lone surrogates.
    parts = [item.encode("utf-8", "surrogatepass") for item in items]
    text = np.frombuffer(b"".join(parts), dtype=np.uint8)
    ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
    nodes = {"text": blocks.add(text, path), "ends": blocks.add(ends, f"{path}.ends")}
    return {"type": "strings"} | nodes


def _encode_dict(value, path, encode):
    kind = "Bunch" if isinstance(value, Bunch) else "dict"
    strings = (*value, *value.values())
    if len(value) > _MOST_STRINGS and all(type(each) is str for each in strings):
        parts = {"keys": list(value), "values": list(value.values())}
        return {"type": kind} | {n: encode(p, f"{path}.{n}") for n, p in parts.items()}
    items = [
        [encode(key, f"a key of {path}"), encode(item, f"{path}[{key!r}]")]
        for key, item in value.items()
    ]
    return {"type": kind, "items": items}


def _encode_array(value, blocks, path, encode):
    is_tensor = isinstance(value, torch.Tensor)
    if not is_tensor and value.dtype.kind in "OUT":
        # Names of columns, classes: what numpy has no numbers for.
        if value.dtype.kind == "U" and value.nbytes > _MOST_BYTES_OF_STRINGS:
            raise UnsavableError(
                f"{path} cannot be saved: it takes {value.nbytes:,} bytes, as each of "
                "its strings takes what the longest does. Make it of type object."
            )
        items = encode(value.ravel().tolist(), path)
        kind = "object" if value.dtype.kind in "OT" else "str"
        shape = list(value.shape)
        return {"type": "objects", "items": items, "shape": shape, "kind": kind}
    kind = "tensor" if is_tensor else "array"
    return {"type": kind} | _add(blocks, value, path)


def _encode_sparse(value, blocks, path):
    if value.format not in ("csr", "csc"):
        raise UnsavableError(
            f"{path} cannot be saved: it is a sparse matrix of the format "
            f"{value.format!r}, and 'csr' and 'csc' are saved."
        )
    arrays = (value.data, value.indices, value.indptr)
    return {
        "type": "sparse",
        "parts": [{"type": "array"} | _add(blocks, part, path) for part in arrays],
        "shape": list(value.shape),
        "class": type(value).__name__,
    }


def _add(blocks, values, path):
    try:
        return blocks.add(values, path)
    except TypeError as error:
        raise UnsavableError(f"{path} cannot be saved: {error}.") from error


def _encode_record(value, path, encode):
    cls = type(value)
    if _RECORDS.get(cls.__name__) is not cls:
        raise UnsavableError(f"{path} cannot be saved: it is a {cls.__name__}.")
    fields = [field.name for field in dataclasses.fields(value) if field.init]
    return {
        "type": "record",
        "name": cls.__name__,
        "fields": {f: encode(getattr(value, f), f"{path}.{f}") for f in fields},
    }


def _decode_scalar(node, blocks, names, decode):
    dtype, text = node.get("dtype"), node.get("value")
    if dtype not in _SCALARS or not isinstance(text, str):
        raise RefusedFileError(f"{dtype!r} is no type of a number")
    kind = np.dtype(dtype).kind
    value = text == "True" if kind == "b" else int(text) if kind in "iu" else text
    return np.dtype(dtype).type(value)


def _decode_strings(node, blocks, names, decode):
    text, ends = blocks.read_array(node["text"]), blocks.read_array(node["ends"])
    starts = np.concatenate([[0], ends[:-1]])
    is_right = text.dtype == np.uint8 and ends.dtype == np.int64
    is_right = is_right and text.ndim == ends.ndim == 1 and ends[-1] == len(text)
    if not is_right or (starts > ends).any():
        raise RefusedFileError("a list of strings is not cut where they end")
    text = text.tobytes()
    return _CONTAINERS[node["kind"]](
        text[start:end].decode("utf-8", "surrogatepass")
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
    )


def _decode_dict(node, blocks, names, decode):
    if "keys" in node:
        pairs = list(zip(decode(node["keys"]), decode(node["values"]), strict=True))
    else:
        pairs = [(decode(key), decode(value)) for key, value in node["items"]]
    return dict(pairs) if node["type"] == "dict" else Bunch(**dict(pairs))


def _decode_objects(node, blocks, names, decode):
    items = decode(node["items"])
    if node["kind"] == "str":
        if 4 * max(map(len, items), default=0) * len(items) > _MOST_BYTES_OF_STRINGS:
            raise RefusedFileError("an array of strings takes too much memory")
        return np.array(items, dtype=str).reshape(node["shape"])
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array.reshape(node["shape"])


def _decode_sparse(node, blocks, names, decode):
    parts = tuple(decode(part) for part in node["parts"])
    matrix = _MATRICES[node["class"]](parts, shape=tuple(node["shape"]))
    matrix.check_format(full_check=True)
    return matrix


def _decode_random_state(node, blocks, names, decode):
    name, words, place, has_gauss, gauss = decode(node["state"])
    is_state = name == "MT19937" and isinstance(words, np.ndarray)
    is_state = is_state and words.dtype == np.uint32 and words.shape == (_N_WORDS,)
    # Beyond it numpy would read, and write, memory of others.
    is_state = is_state and type(place) is int and 0 <= place <= _N_WORDS
    if not is_state or has_gauss not in (0, 1) or not _is_finite(gauss):
        raise RefusedFileError("a generator of random numbers has another state")
    generator = np.random.RandomState()
    generator.set_state((name, words, place, has_gauss, gauss))
    return generator


def _decode_dtype(node, blocks, names, decode):
    if node.get("name") not in _SCALARS:
        raise RefusedFileError(f"{node.get('name')!r} is no type of a number")
    dtype = np.dtype(node["name"])
    return dtype.type if node.get("is_class") else dtype


def _decode_record(node, blocks, names, decode):
    cls = _RECORDS.get(str(node.get("name")))
    if cls is None:
        raise RefusedFileError(f"{node.get('name')!r} is no record of sklearn_scan")
    fields = {name: decode(value) for name, value in dict(node["fields"]).items()}
    if check := _CHECKS.get(cls):
        check(fields)
    return cls(**fields)


def _decode_partial(node, blocks, names, decode):
    function, args, keywords = decode(node["parts"])
    if not callable(function):
        raise RefusedFileError("a partial function has no function")
    return partial(function, *args, **keywords)


def _check_image_format(fields):
    _check_shape(fields["sample_shape"], ranks=(2, 3))
    _require(fields["channel_axis"] in (None, 0, 2), "channel_axis")
    for name in ("low", "high"):
        _require(_is_finite(fields[name]), name)
    _require(fields["low"] < fields["high"], "high")
    _check_statistics(fields)


def _check_row_format(fields):
    _check_shape((fields["n_features"],), ranks=(1,))
    _check_statistics(fields)


def _check_spec(fields):
    _require(isinstance(fields["format"], (ImageFormat, RowFormat)), "format")
    _check_shape(fields["passed_shape"], ranks=(1, 2, 3))
    preparation = fields["preparation"]
    _require(preparation is None or isinstance(preparation, Preparation), "preparation")
    pixels = fields["pixels"]
    _require(pixels is None or isinstance(pixels, ImageFormat), "pixels")
    paths = fields["paths"]
    are_paths = isinstance(paths, list) and all(isinstance(p, str) for p in paths)
    _require(paths is None or are_paths, "paths")
    _require(type(fields["is_lazy"]) is bool, "is_lazy")
    skipped = fields["skipped"]
    if skipped is not None:
        reasons = [*skipped, *skipped.values()] if isinstance(skipped, dict) else [None]
        _require(all(isinstance(reason, str) for reason in reasons), "skipped")
        _require(are_paths and set(skipped) <= set(paths), "skipped")


def _check_preparation(fields):
    _check_shape(fields["image_shape"], ranks=(2, 3))
    _require(fields["crop"] is None, "crop")
    _require(isinstance(fields["name"], str), "name")
    for name in ("mean", "std"):
        values = fields[name]
        is_tuple = isinstance(values, tuple) and all(map(_is_finite, values))
        _require(values is None or is_tuple, name)


def _check_shape(shape, ranks):
    is_shape = isinstance(shape, tuple) and len(shape) in ranks
    is_shape = is_shape and all(type(side) is int and side > 0 for side in shape)
    _require(is_shape and math.prod(shape) <= _MOST_VALUES, "the shape of a sample")


def _check_statistics(fields):
    for name in ("mean", "std"):
        values = fields[name]
        is_tuple = isinstance(values, tuple)
        _require(is_tuple and all(map(_is_finite, values)), name)


def _is_finite(value):
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


def _require(is_right, what):
    if not is_right:
        raise RefusedFileError(f"{what} of the samples is not what it can be")


_SCALARS = {"bool", "float16", "float32", "float64"}
_SCALARS |= {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}

_MATRICES = {
    cls.__name__: cls
    for cls in (
        sparse.csr_array,
        sparse.csr_matrix,
        sparse.csc_array,
        sparse.csc_matrix,
    )
}

_CONTAINERS = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}

_CHECKS = {
    ImageFormat: _check_image_format,
    RowFormat: _check_row_format,
    InputSpec: _check_spec,
    Preparation: _check_preparation,
}

# All that a file may ask for: data classes that hold data and do nothing.
_RECORDS = {cls.__name__: cls for cls in _CHECKS}

_DECODERS = {
    "float": lambda node, *_: float(node["value"]),
    "scalar": _decode_scalar,
    "strings": _decode_strings,
    "dict": _decode_dict,
    "Bunch": _decode_dict,
    "array": lambda node, blocks, *_: blocks.read_array(node),
    "tensor": lambda node, blocks, *_: blocks.read_tensor(node),
    "objects": _decode_objects,
    "sparse": _decode_sparse,
    "RandomState": _decode_random_state,
    "device": lambda node, *_: torch.device(node["name"]),
    "dtype": _decode_dtype,
    "record": _decode_record,
    "partial": _decode_partial,
    "function": lambda node, blocks, names, _: names.find_function(node.get("name")),
    **{
        name: lambda node, blocks, names, decode: _CONTAINERS[node["type"]](
            decode(node["items"])
        )
        for name in ("tuple", "set", "frozenset")
    },
}
