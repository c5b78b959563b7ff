# SPDX-License-Identifier: BSD-3-Clause
"""Data sets and loader of a stage: batches are index slices of a source.

A `DataLoader` fetches and collates sample by sample, which is the largest part of a
step for data in memory; here a batch is one gather.
"""

import torch
from torch.utils.data import Dataset


class Samples(Dataset):
    """Batches of samples."""

    def __init__(self, source):
        self.source = source

    def __len__(self):
        return len(self.source)

    def read(self, indices):
        """Return the tuple (samples,)."""
        return (self.source.read(indices),)


class NeighborPairs(Dataset):
    """Batches of samples, each with one neighbour drawn at random.

    The neighbour is drawn anew at every visit, and never is the sample itself (the
    reference draws it with probability 1 / (K + 1)).

    Parameters
    ----------
    source : ArraySource
        The samples.
    neighbors : ndarray of shape (n_samples, K)
        Indices of the neighbours.
    """

    def __init__(self, source, neighbors):
        self.source = source
        self.neighbors = torch.tensor(neighbors)

    def __len__(self):
        return len(self.source)

    def read(self, indices):
        """Return the tuple (samples, neighbours)."""
        column = torch.randint(self.neighbors.shape[1], (len(indices),))
        return (
            self.source.read(indices),
            self.source.read(self.neighbors[indices, column]),
        )


class Batches:
    """Shuffled batches of equal size, none larger than `batch_size`.

    The batches split the data evenly, so that there is no small last batch (batch
    normalisation fails on one sample, and a batch that holds few of the clusters
    misleads an entropy). At most one sample per batch sits out an epoch.

    Parameters
    ----------
    dataset : Dataset
        With `read(indices)`.
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
        order = torch.randperm(len(self.dataset))
        for k in range(self.n_batches):
            yield self.dataset.read(order[k * self.size : (k + 1) * self.size])


def n_even_batches(n_samples, batch_size):
    """Return the number of equal batches of at least two samples."""
    return max(1, min(-(-n_samples // batch_size), n_samples // 2))
