# SPDX-License-Identifier: BSD-3-Clause
"""What the tasks share that remember earlier states of themselves."""

import copy

import torch
import torch.nn.functional as F
from torch import nn


class MovingAverage(nn.Module):
    """A copy of a network whose weights follow those of the network slowly.

    No gradient reaches the copy. Its statistics of batch normalisation are its own.

    Parameters
    ----------
    network : nn.Module
        What is copied.
    momentum : float
        Share of its own weights that the copy keeps at every step.
    """

    def __init__(self, network, momentum):
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.momentum = momentum

    @torch.no_grad()
    def follow(self, network):
        """Move each weight w to ``momentum * w + (1 - momentum) * v``, v its model."""
        weights = zip(self.network.parameters(), network.parameters(), strict=True)
        for slow, fast in weights:
            slow.lerp_(fast, 1 - self.momentum)

    @torch.no_grad()
    def forward(self, samples):
        """Return what the copy makes of samples."""
        return self.network(samples)


def unit_rows(vectors):
    """Scale the rows of (b, d) to length one, in float32 or what is more precise."""
    dtype = torch.promote_types(vectors.dtype, torch.float32)
    return F.normalize(vectors.to(dtype), dim=1)


def random_unit_rows(n_rows, n_columns):
    """Draw rows uniformly from the unit sphere."""
    return unit_rows(torch.randn(n_rows, n_columns))
