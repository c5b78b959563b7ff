# SPDX-License-Identifier: BSD-3-Clause
"""Arrays and memmaps as batches of tensors on a device."""

from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
import torch
from torch.utils.data import Dataset

from sklearn_scan._devices import available_memory, has_own_memory, send
from sklearn_scan._inputs._lazy import LazyImages
from sklearn_scan._inputs._paging import release

# Large arrays are copied to a GPU in parts of about this many bytes.
_BYTES_PER_PART = 2**26


class ArraySource(Dataset):
    """An array, read by index as decoded tensors on a device.

    On a GPU the raw array (uint8 where it was uint8) is moved there once if it takes
    less than half of the free memory, and a batch is an index slice; otherwise, and on
    a CPU, the rows of a batch are gathered from host memory or from the memmap.

    Parameters
    ----------
    array : ndarray or memmap of shape (n_samples, ...)
        The samples.
    format : ImageFormat or RowFormat
        How to decode them.
    device : torch.device
        Where batches are needed.
    precision : {"float32", "bfloat16", "float16"}, default="float32"
        In which networks look at the samples where nothing is learned.
    """

    def __init__(self, array, format, device, precision="float32"):
        self.array = array
        self.format = format
        self.device = torch.device(device)
        self.precision = precision
        self.resident = None
        self.n_read = 0
        if has_own_memory(self.device):
            self.resident = _find_shared(array, self.device)
            if self.resident is None:
                self.resident = _upload(array, self.device)

    @classmethod
    def open(cls, array, format, runtime):
        """Return samples as a network of this runtime looks at them.

        Rows in float32: they take no time, and need not be rounded.
        """
        is_image = len(format.tensor_shape) == 3
        precision = runtime.precision if is_image else "float32"
        return cls(array, format, runtime.device, precision)

    def __len__(self):
        return len(self.array)

    def share(self):
        """Let later sources of this array use its copy on the device.

        Until `sharing` ends; outside of it, each source makes its own.
        """
        if (sources := _shared.get()) is not None:
            sources.append(self)

    def read(self, indices):
        """Return the decoded samples at `indices`, a CPU tensor of int64."""
        if self.resident is not None:
            raw = self.resident[send(indices, self.device)]
        else:
            # Fancy indexing copies, so that the tensor owns writable memory even when
            # the array is a read-only memmap.
            raw = _as_tensor(self.array[indices.numpy()])
            self.n_read = release(self.array, self.n_read + raw.nbytes)
            if has_own_memory(self.device):
                # From pinned memory the copy runs beside the kernels.
                raw = raw.pin_memory()
            raw = send(raw, self.device)
        return self.format.decode(raw)


@contextmanager
def sharing():
    """Let sources share what `ArraySource.share` names, until the context ends."""
    token = _shared.set([])
    try:
        yield
    finally:
        _shared.reset(token)


# Not for good, nor by weak references: what is left of a fit that failed must not be
# taken for an array that has been changed since.
_shared: ContextVar[list | None] = ContextVar("shared", default=None)


def _find_shared(array, device):
    """Return the copy of an array that is on a device already; None if none is."""
    for source in _shared.get() or ():
        if source.array is array and source.device == device:
            return source.resident
    return None


def _upload(array, device):
    """Copy an array to a device; return None where it is too large."""
    if array.nbytes >= available_memory(device) // 2 or isinstance(array, LazyImages):
        return None
    dtype = _as_tensor(np.array(array[:0])).dtype
    resident = torch.empty(array.shape, dtype=dtype, device=device)
    n_rows = max(1, _BYTES_PER_PART * len(array) // max(1, array.nbytes))
    for first in range(0, len(array), n_rows):
        part = slice(first, first + n_rows)
        # Of a copy: rows may be read-only, or run backwards as those of `X[..., ::-1]`
        # do, which torch does not take.
        resident[part] = _as_tensor(np.array(array[part])).to(device)
    return resident


def _as_tensor(rows):
    """Return rows, which nobody else holds, as a tensor."""
    rows = np.asarray(rows)
    if rows.dtype == np.float64:  # unknown to some devices, wasted on all
        rows = rows.astype(np.float32)
    return torch.from_numpy(rows)
