# SPDX-License-Identifier: BSD-3-Clause
"""What tasks share that remember earlier states of themselves."""

import copy

import torch
from torch import nn

from sklearn_scan._nets import unit_rows


class MovingAverage(nn.Module):
    """A copy of networks, one behind the other, whose weights follow theirs slowly.

    No gradient reaches the copy. Its statistics of batch normalisation are its own.

    Parameters
    ----------
    *networks : nn.Module
        What is copied.
    momentum : float
        Share of its own weights that the copy keeps at every step.
    """

    def __init__(self, *networks, momentum):
        super().__init__()
        self.network = copy.deepcopy(nn.Sequential(*networks)).requires_grad_(False)
        self.momentum = momentum

    @torch.no_grad()
    def follow(self, *networks):
        """Make each weight ``momentum * weight + (1 - momentum) * followed``."""
        weights = list(self.network.parameters())
        followed = list(nn.Sequential(*networks).parameters())
        torch._foreach_lerp_(weights, followed, 1 - self.momentum)

    @torch.no_grad()
    def forward(self, samples):
        """Return what the copy makes of samples."""
        return self.network(samples)


def random_unit_rows(n_rows, n_columns):
    """Draw rows of length one, of all directions alike."""
    return unit_rows(torch.randn(n_rows, n_columns))


def blend(old, new, momentum):
    """Return rows of length one, of which `momentum` is the share of the old ones."""
    return unit_rows(unit_rows(new).lerp(old, momentum))
