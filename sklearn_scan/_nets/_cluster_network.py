# SPDX-License-Identifier: BSD-3-Clause
"""The network that clusters: an encoder, and heads on top of it."""

from contextlib import contextmanager

import torch
from torch import nn

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class ClusterNetwork(nn.Module):
    """An encoder with cluster heads, trained on views of samples and of neighbours.

    Parameters
    ----------
    encoder : Encoder
        From samples to features.
    heads : LinearHeads
        From features to logits.
    views : nn.Module
        Drawn once for the samples and once for their neighbours.
    """

    def __init__(self, encoder, heads, views):
        super().__init__()
        self.encoder = encoder
        self.heads = heads
        self.views = views
        self.is_frozen = False

    @contextmanager
    def frozen_encoder(self, is_frozen=True):
        """Let only the heads learn, behind an encoder in evaluation mode."""
        self.is_frozen = is_frozen
        learning = [p for p in self.encoder.parameters() if p.requires_grad]
        for parameter in learning:
            parameter.requires_grad_(not is_frozen)
        try:
            yield
        finally:
            self.is_frozen = False
            for parameter in learning:
                parameter.requires_grad_(True)

    def train(self, mode=True):
        """Set training mode, but for a frozen encoder."""
        super().train(mode)
        if self.is_frozen:
            self.encoder.eval()
        return self

    def forward(self, samples, neighbors):
        """Return the logits of views of `samples` and of `neighbors`.

        In two passes, as in the reference, where batch normalisation takes statistics:
        it sees samples alone and neighbours alone. In one where that is the same.
        """
        anchors, others = self.views(samples), self.views(neighbors)
        if any(map(_takes_statistics, self.encoder.modules())):
            return self.logits(anchors), self.logits(others)
        return self.logits(torch.cat([anchors, others])).chunk(2, dim=1)

    def logits(self, samples):
        """Return logits (n_heads, b, n_clusters) of the samples as they are."""
        return self.heads(self.encoder(samples))

    def probabilities(self, samples):
        """Return the probabilities (b, n_clusters) of the first head."""
        return self.logits(samples)[0].softmax(dim=-1)

    def on_top_of(self, embedder):
        """Return this network behind the module that made what it reads.

        On the device of this network: the module may have been trained on another.
        """
        embedder = embedder.to(self.heads.linear.weight.device)
        return ClusterNetwork(
            nn.Sequential(embedder, self.encoder), self.heads, self.views
        )


def _takes_statistics(module):
    return module.training and isinstance(module, _BATCH_NORMS)
