# SPDX-License-Identifier: BSD-3-Clause
"""Data sets and loader of a stage: batches are index slices of a source.

A `DataLoader` fetches and collates sample by sample, which is the largest part of a
step for data in memory; here a batch is one gather.
"""

import numpy as np
import torch
from torch.utils.data import Dataset


class Samples(Dataset):
    """Batches of samples."""

    def __init__(self, source):
        self.source = source

    def __len__(self):
        return len(self.source)

    @property
    def identity(self):
        """What the data are besides the samples, for a checkpoint to be known by."""
        return type(self).__name__

    def order(self):
        """Return the indices of one epoch, in the order of their visit."""
        return torch.randperm(len(self))

    def read(self, indices):
        """Return the tuple (samples,)."""
        return (self.source.read(indices),)


class IndexedSamples(Samples):
    """Batches of samples with their indices, for tasks that remember each sample."""

    def read(self, indices):
        """Return the tuple (samples, indices), both on the device."""
        on_device = indices.to(self.source.device, non_blocking=True)
        return self.source.read(indices), on_device


class NeighborPairs(Samples):
    """Batches of samples, each with one neighbour drawn at random.

    The neighbour is drawn anew at every visit, and never is the sample itself (the
    reference draws it with probability 1 / (K + 1)), unless the sample has none: then
    it is paired with itself, and views alone make the difference.

    Parameters
    ----------
    source : ArraySource
        The samples.
    neighbors : ndarray of shape (n_samples, K)
        Indices of the neighbours; -1 stands for none.
    sample_weight : ndarray of shape (n_samples,) or None, default=None
        How often each sample is visited on average, relative to the others. None to
        visit each once in an epoch.
    """

    def __init__(self, source, neighbors, sample_weight=None):
        super().__init__(source)
        self.neighbors, self.counts = left_align(neighbors)
        self.sample_weight = sample_weight

    @property
    def identity(self):
        """The neighbours, and the weights of samples."""
        return self.neighbors.numpy(), self.counts.numpy(), self.sample_weight

    def order(self):
        """Return the indices of one epoch, in the order of their visit."""
        if self.sample_weight is None:
            return super().order()
        return SampleDraw(len(self), self.sample_weight)(len(self))

    def read(self, indices):
        """Return the tuple (samples, neighbours)."""
        neighbors = self.draw_neighbors(indices)
        return self.source.read(indices), self.source.read(neighbors)

    def draw_neighbors(self, indices):
        """Return a neighbour of each sample, at random."""
        column = (torch.rand(len(indices)) * self.counts[indices]).long()
        return self.neighbors[indices, column]


class SampleDraw:
    """Draws samples with replacement.

    Parameters
    ----------
    n_samples : int
        The number of samples to draw from.
    sample_weight : ndarray of shape (n_samples,) or None, default=None
        How often each is drawn, relative to the others. None to draw all equally often.
    """

    def __init__(self, n_samples, sample_weight=None):
        self.n_samples = n_samples
        # Not `torch.multinomial`, which ends at 2**24 categories.
        self.bounds = None
        if sample_weight is not None:
            self.bounds = np.cumsum(sample_weight, dtype=np.float64)

    def __call__(self, n_drawn):
        """Return the indices of `n_drawn` samples, a tensor on the CPU."""
        if self.bounds is None:
            return torch.randint(self.n_samples, (n_drawn,), device="cpu")
        places = torch.rand(n_drawn, dtype=torch.float64, device="cpu").numpy()
        places *= self.bounds[-1]
        indices = np.searchsorted(self.bounds, places, side="right")
        return torch.from_numpy(indices.clip(max=self.n_samples - 1))


def left_align(neighbors, itself=None):
    """Move the neighbours of each sample before the gaps, and count them.

    Parameters
    ----------
    neighbors : ndarray of shape (n_samples, K)
        Indices; -1 stands for none.
    itself : Tensor of shape (n_samples,) or None, default=None
        Indices of the samples; None if they are all there are, in order.

    Returns
    -------
    neighbors : Tensor of shape (n_samples, max(K, 1))
        A sample without neighbours is its own.
    counts : Tensor of shape (n_samples,)
        At least one.
    """
    # Read-only arrays make torch warn, and a million rows are not copied for nothing.
    neighbors = np.require(neighbors, dtype=np.int64, requirements=["C", "W"])
    neighbors = torch.from_numpy(neighbors)
    if itself is None:
        itself = torch.arange(len(neighbors), device="cpu")
    if neighbors.shape[1] == 0:
        n_others = np.ones(len(neighbors), dtype=np.int64)
        return itself[:, None], torch.from_numpy(n_others)
    is_gap = neighbors < 0
    if not is_gap.any():
        counts = np.full(len(neighbors), neighbors.shape[1])
        return neighbors, torch.from_numpy(counts)
    neighbors = neighbors.gather(1, is_gap.int().argsort(dim=1, stable=True))
    counts = (~is_gap).sum(dim=1)
    neighbors[counts == 0, 0] = itself[counts == 0]
    return neighbors, counts.clamp_min(1)


class Batches:
    """Shuffled batches of equal size, none larger than `batch_size`.

    The batches split the data evenly, so that there is no small last batch (batch
    normalisation fails on one sample, and a batch that holds few of the clusters
    misleads an entropy). At most one sample per batch sits out an epoch.

    Parameters
    ----------
    dataset : Samples
        Says in which order samples are visited, and reads them.
    batch_size : int
        Upper bound.
    """

    def __init__(self, dataset, batch_size):
        self.dataset = dataset
        self.n_batches = n_even_batches(len(dataset), batch_size)
        self.size = min(len(dataset) // self.n_batches, batch_size)

    def __len__(self):
        return self.n_batches

    def __iter__(self):
        order = self.dataset.order()
        for k in range(self.n_batches):
            yield self.dataset.read(order[k * self.size : (k + 1) * self.size])


def n_even_batches(n_samples, batch_size):
    """Return the number of equal batches of at least two samples."""
    return max(1, min(-(-n_samples // batch_size), n_samples // 2))
