# SPDX-License-Identifier: BSD-3-Clause
"""One file of safetensors: arrays, and the description of what they belong to.

Not a zip of several files: there are no names of files to leave a folder by, nothing is
compressed that could grow, and any tool that knows safetensors can look at the arrays.
The description is JSON, kept as an array of bytes like all others.
"""

import hashlib
import json
import os
import re
import stat
import struct
from dataclasses import dataclass, field

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors import torch as of_torch

from sklearn_scan._devices import available_memory
from sklearn_scan._disk import whole_file
from sklearn_scan._version import __version__

#: Raised by one when older releases could not read a new file.
FORMAT_VERSION = 1

_FORMAT, _DESCRIPTION = "sklearn_scan", "description"
# Of the header and the description. Both are parsed into many small objects.
_MOST_BYTES_OF_JSON = 2**25
# An array is copied each time it is asked for. Together copies take no more than this
# many times all arrays, and a little more, as small ones are often the same.
_MOST_COPIES = 8
_SLACK = 2**20

# Types of arrays, as numpy and torch name them.
_TYPES = {"bool", "float16", "bfloat16", "float32", "float64"}
_TYPES |= {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}


# What other files begin with that may be passed in place of one.
_OTHERS = {
    b"\x80": "a pickle. If you trust it, joblib.load or pickle reads it; saving what "
    "that returns makes a file that needs no trust",
    b"PK\x03\x04": "a zip, as torch.save writes. `load` reads estimators, and the "
    "weights of a network are for the parameter `weights` of Pretrained",
    b"\x89HDF": "a file of HDF5",
}


class RefusedFileError(ValueError):
    """What a file holds is not what `save` writes."""


@dataclass
class Blocks:
    """Arrays on their way into a file, each content once."""

    content: dict = field(default_factory=dict)
    names: dict = field(default_factory=dict)

    def add(self, values, hint):
        """Keep an array or a tensor; return its node of the description.

        Parameters
        ----------
        values : ndarray or Tensor
            Of booleans or numbers.
        hint : str
            What it is, for whoever looks into the file.
        """
        dtype = _name_type(values)
        if dtype not in _TYPES:
            raise TypeError(f"arrays of type {dtype} are not data that can be saved")
        order = "C"
        if isinstance(values, np.ndarray) and values.flags.f_contiguous:
            # Products of matrices differ in the last bit between layouts.
            order = "C" if values.flags.c_contiguous else "F"
        tensor, shape = _to_tensor(values), list(values.shape)
        digest = _digest(tensor)
        key = (digest, dtype, tuple(shape))
        if key not in self.names:
            self.names[key] = self._find_free(hint)
            self.content[self.names[key]] = tensor
        return {
            "block": self.names[key],
            "dtype": dtype,
            "shape": shape,
            "order": order,
            "sha256": digest,
        }

    def _find_free(self, hint):
        name, n = hint, 1
        while name in self.content or name == _DESCRIPTION:
            n += 1
            name = f"{hint}#{n}"
        return name


class BlockReader:
    """Arrays of a file that was read.

    Parameters
    ----------
    content : dict of Tensor
        By their names.
    """

    def __init__(self, content):
        self._content = content
        n_bytes = sum(tensor.nbytes for tensor in content.values())
        self._room = _MOST_COPIES * n_bytes + _SLACK

    def read_array(self, node):
        """Return a new array of numpy."""
        array = self._find(node).numpy()
        return array.copy(order="F" if node.get("order") == "F" else "C")

    def read_tensor(self, node):
        """Return a new tensor of torch."""
        return self._find(node).clone()

    def _find(self, node):
        name = node.get("block")
        if not isinstance(name, str) or name not in self._content:
            raise RefusedFileError(f"there is no array {name!r}")
        found = self._content[name]
        self._room -= found.nbytes
        if self._room < 0:
            raise RefusedFileError(
                f"it asks for the same arrays, such as {name!r}, again and again"
            )
        real = {"dtype": _name_type(found), "shape": list(found.shape)}
        for what, value in real.items():
            if node.get(what) != value:
                raise RefusedFileError(
                    f"the array {name!r} is of {what} {value}, and "
                    f"{node.get(what)!r} is declared"
                )
        if _digest(found) != node.get("sha256"):
            raise RefusedFileError(
                f"the checksum of the array {name!r} is wrong: the file was damaged"
            )
        return found


def write_file(path, description, blocks):
    """Write a description and arrays to one file.

    Parameters
    ----------
    path : str or PathLike
        A file of this name is replaced when all is written.
    description : dict
        For JSON.
    blocks : Blocks
        What it refers to.
    """
    # Text as ASCII: names of files that are no UTF-8 have lone surrogates.
    text = json.dumps(description, separators=(",", ":"), allow_nan=False).encode()
    if len(text) > _MOST_BYTES_OF_JSON:
        raise ValueError(
            f"The estimator cannot be saved: its parameters and attributes, without "
            f"arrays, take {len(text):,} bytes, and {_MOST_BYTES_OF_JSON:,} can be "
            "read again."
        )
    described = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    metadata = {
        "format": _FORMAT,
        "format_version": str(FORMAT_VERSION),
        "sklearn_scan": __version__,
        "sha256": hashlib.sha256(text).hexdigest(),
    }
    data = of_torch.save({_DESCRIPTION: described, **blocks.content}, metadata)
    with whole_file(path) as part:
        part.write_bytes(data)


def read_file(path):
    """Return the description and the arrays of a file.

    Raises
    ------
    RefusedFileError
        If it is not such a file as `write_file` writes.
    """
    data = _read_bytes(path)
    metadata = _read_metadata(data)
    _check_version(metadata)
    try:
        content = of_torch.load(data)
    # A type that this release of torch or of safetensors does not know.
    except (SafetensorError, KeyError, AttributeError) as error:
        raise RefusedFileError(f"safetensors says: {error}") from error
    described = content.pop(_DESCRIPTION, None)
    if described is None:
        raise RefusedFileError("it has no description")
    text = described.numpy().tobytes()
    if hashlib.sha256(text).hexdigest() != metadata.get("sha256"):
        raise RefusedFileError(
            "the checksum of its description is wrong: the file was damaged"
        )
    return parse_json(text, "its description"), BlockReader(content)


def parse_json(text, what):
    """Return what JSON says; refuse what is long, deep, or says a thing twice."""
    if len(text) > _MOST_BYTES_OF_JSON:
        raise RefusedFileError(
            f"{what} takes {len(text):,} bytes, more than {_MOST_BYTES_OF_JSON:,}"
        )
    try:
        return json.loads(
            text, object_pairs_hook=_without_twins, parse_constant=_refuse_constant
        )
    except RecursionError as error:
        raise RefusedFileError(f"{what} is nested too deeply") from error
    except RefusedFileError:
        raise
    except ValueError as error:
        raise RefusedFileError(f"{what} is no JSON: {error}") from error


def _to_tensor(values):
    """Return a tensor of the CPU that shares no memory, in the order of rows."""
    if isinstance(values, np.ndarray):
        return torch.from_numpy(np.array(values, order="C"))
    return values.detach().cpu().clone(memory_format=torch.contiguous_format)


def _name_type(values):
    return str(values.dtype).removeprefix("torch.")


def _digest(tensor):
    return hashlib.sha256(tensor.flatten().view(torch.uint8).numpy()).hexdigest()


def _read_bytes(path):
    """Read a file into memory, if it is one and there is room."""
    if os.path.isdir(path):
        raise RefusedFileError("it is a folder, and no regular file")
    # On a pipe one would wait; Windows has no such flag, and another that it needs.
    flags = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, os.O_RDONLY | flags)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise RefusedFileError("it is no regular file")
    with open(descriptor, "rb") as file:
        # The bytes, and the arrays that are made of them.
        if 2 * status.st_size > available_memory(torch.device("cpu")):
            raise RefusedFileError(
                f"it has {status.st_size:,} bytes, for which memory has no room"
            )
        return file.read(status.st_size)


def _read_metadata(data):
    """Return the metadata of a file of safetensors, from its header."""
    if len(data) < 8:
        raise RefusedFileError("it ends before it has begun")
    (n_bytes,) = struct.unpack("<Q", data[:8])
    if not 2 <= n_bytes <= len(data) - 8 or data[8:9] != b"{":
        kinds = (
            f": it seems to be {_OTHERS[b]}" for b in _OTHERS if data.startswith(b)
        )
        raise RefusedFileError(
            f"it is no file of safetensors{next(kinds, ', or not all of it')}"
        )
    header = parse_json(data[8 : 8 + n_bytes], "its header")
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or metadata.get("format") != _FORMAT:
        raise RefusedFileError("it was not written by sklearn_scan.save")
    return metadata


def _check_version(metadata):
    """Refuse a file of a newer format, and say which release reads it."""
    text = metadata.get("format_version", "")
    # Not `isdigit`: there are digits that are no numbers.
    if not (isinstance(text, str) and text.isascii() and text.isdecimal()):
        raise RefusedFileError("it does not say which version of the format it has")
    if text != str(FORMAT_VERSION):
        writer = read_release(metadata.get("sklearn_scan"))
        raise RefusedFileError(
            f"it has version {text[:20]} of the format, written by sklearn_scan "
            f"{writer}, and sklearn_scan {__version__} reads version {FORMAT_VERSION}. "
            f"Install sklearn_scan {writer} or a later release to load it"
        )


def read_release(text):
    """Return the number of a release; what is none is not repeated in messages."""
    is_release = isinstance(text, str) and re.fullmatch(r"[\w.+!-]{1,30}", text)
    return text if is_release else "of unknown release"


def _without_twins(pairs):
    found = dict(pairs)
    if len(found) < len(pairs):
        raise RefusedFileError("a name occurs twice in its JSON")
    return found


def _refuse_constant(name):
    raise RefusedFileError(f"{name} is no JSON")
