# SPDX-License-Identifier: BSD-3-Clause
"""Heads: what stands on an encoder while it learns a task."""

import torch
import torch.nn.functional as F
from torch import nn


def at_least_float32(tensor):
    """Return the tensor in float32, or in float64 where it is in that."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def unit_rows(vectors):
    """Scale rows (n, d) to length one, in float32 at least; zeros stay zeros."""
    return F.normalize(at_least_float32(vectors), dim=1)


class Projector(nn.Sequential):
    """The perceptron between the features and a contrastive loss.

    Parameters
    ----------
    n_in : int
        Length of a feature vector.
    n_out : int, default=128
        Length of a projection.
    """

    def __init__(self, n_in, n_out=128):
        super().__init__(
            nn.Linear(n_in, n_in, bias=False),
            nn.BatchNorm1d(n_in),
            nn.ReLU(inplace=True),
            nn.Linear(n_in, n_out),
        )


class UnitLength(nn.Module):
    """Scale every feature vector to length one."""

    def forward(self, features):
        """Return features (b, n_features) of length one; zeros stay zeros."""
        return unit_rows(features)


class LinearHeads(nn.Module):
    """Several linear classifiers on the same features, as one matrix product.

    Parameters
    ----------
    n_in : int
        Length of a feature vector.
    n_classes : int
        Classes, or clusters, per head.
    n_heads : int, default=1
        How many heads there are, each with its own random start.
    """

    def __init__(self, n_in, n_classes, n_heads=1):
        super().__init__()
        self.n_classes = n_classes
        self.n_heads = n_heads
        self.linear = nn.Linear(n_in, n_heads * n_classes)

    def forward(self, features):
        """Return logits (n_heads, b, n_classes), in float32, for features (b, n_in).

        In bfloat16 a confidence above 0.99 would have two values. In memory samples
        come last, along which a softmax over few clusters takes a tenth of the time.
        """
        weight, bias = self.linear.weight, self.linear.bias[:, None]
        with torch.autocast(features.device.type, enabled=False):
            logits = torch.addmm(bias, weight, features.float().T)
        return logits.view(self.n_heads, self.n_classes, -1).transpose(1, 2)

    def select(self, *chosen):
        """Return the heads of these numbers as `LinearHeads` of their own."""
        selected = LinearHeads(self.linear.in_features, self.n_classes, len(chosen))
        with torch.no_grad():
            for new, old in zip(selected.parameters(), self.parameters(), strict=True):
                by_head = old.unflatten(0, (self.n_heads, self.n_classes))
                new.copy_(by_head[list(chosen)].flatten(0, 1))
        return selected.to(self.linear.weight.device)


class MergedHeads(nn.Module):
    """Heads of which clusters are merged: the probabilities of a group are summed.

    Parameters
    ----------
    heads : LinearHeads or MergedHeads
        From features to logits of the clusters as they were.
    groups : ndarray of shape (n_classes,), dtype int64
        The new cluster of each, from 0.
    temperature : float, default=1.0
        What logits are divided by before.
    """

    def __init__(self, heads, groups, temperature=1.0):
        super().__init__()
        self.heads = heads
        self.temperature = temperature
        self.n_heads = heads.n_heads
        self.n_classes = int(groups.max()) + 1
        self.register_buffer("groups", torch.as_tensor(groups))

    @property
    def linear(self):
        """The layer below."""
        return self.heads.linear

    def forward(self, features):
        """Return the logarithms of summed probabilities (n_heads, b, n_groups)."""
        probabilities = (self.heads(features) / self.temperature).softmax(dim=-1)
        sums = probabilities.new_zeros(*probabilities.shape[:-1], self.n_classes)
        sums.index_add_(-1, self.groups, probabilities)
        return sums.clamp_min(torch.finfo(sums.dtype).tiny).log()
