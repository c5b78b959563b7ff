# SPDX-License-Identifier: BSD-3-Clause
"""Arrays and memmaps as batches of tensors on a device."""

import numpy as np
import torch
from torch.utils.data import Dataset


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
    """

    def __init__(self, array, format, device):
        self.array = array
        self.format = format
        self.device = torch.device(device)
        self._resident = None
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            if array.nbytes < free // 2:
                self._resident = torch.tensor(array, device=self.device)

    def __len__(self):
        return len(self.array)

    def read(self, indices):
        """Return the decoded samples at `indices`, a CPU tensor of int64."""
        if self._resident is not None:
            raw = self._resident[indices.to(self.device, non_blocking=True)]
        else:
            # Fancy indexing copies, so that the tensor owns writable memory even when
            # the array is a read-only memmap.
            gathered = np.asarray(self.array[indices.numpy()])
            if gathered.dtype == np.float64:  # unknown to some devices, wasted on all
                gathered = gathered.astype(np.float32)
            raw = torch.from_numpy(gathered)
            if self.device.type == "cuda":
                # From pinned memory the copy runs beside the kernels.
                raw = raw.pin_memory()
            raw = raw.to(self.device, non_blocking=True)
        return self.format.decode(raw)
