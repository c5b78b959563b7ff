# SPDX-License-Identifier: BSD-3-Clause
"""How good a network is, without labels."""

import numpy as np
import torch
from torch import nn

from sklearn_scan._engine import infer, left_align
from sklearn_scan._losses import marginal_entropy
from sklearn_scan.neighbors import draw_some

# Samples, and pairs of them with neighbours, on which networks are compared.
_MOST_ANCHORS = 4000
_MOST_PAIRS = 40_000
# Entries of the logits that are held at a time (64 MiB).
_BLOCK = 2**24


class Evaluator:
    """Compares networks without labels: by the SCAN loss on the training samples.

    The loss is taken over at most 4,000 samples, drawn at random, with the nearest of
    their neighbours: all, or as many as make 40,000 pairs. With random views,
    networks are compared by what they have learned to see through: the views are fresh,
    but the same for every network.

    (The reference chooses its head and its checkpoint by the loss on the test images,
    with neighbours mined among them; an estimator that has only `X` takes the
    neighbours that it was trained on.)

    Parameters
    ----------
    samples : MinedSamples
        What networks read. A sample without neighbours is its own, and each counts,
        together with its neighbours, as its weight says.
    entropy_weight : float
        Weight of the entropy, which is that of the samples without their neighbours: a
        sample that is everyone's neighbour counts as often as any other.
    views : nn.Module or None, default=None
        Drawn once for samples and once for neighbours; None to look at samples as they
        are.
    sizes : tuple of float or None, default=None
        Shares that clusters are expected to have; see `marginal_entropy`.
    """

    def __init__(self, samples, entropy_weight, views=None, sizes=None):
        self.samples = samples
        self.source = samples.source
        self.entropy_weight = entropy_weight
        self.sizes = None if sizes is None else torch.tensor(sizes)
        self.views = views
        n_anchors = min(len(samples), _MOST_ANCHORS)
        n_nearest = max(1, _MOST_PAIRS // n_anchors)
        anchors = draw_some(len(samples), n_anchors)
        neighbors = samples.neighbors[anchors, :n_nearest]
        self.sample_weight = torch.ones(n_anchors)
        if samples.sample_weight is not None:
            self.sample_weight = torch.tensor(samples.sample_weight[anchors]).float()
        # What is looked at, and where among that samples and neighbours are.
        self.indices = np.union1d(anchors, neighbors[neighbors >= 0])
        self.anchors = torch.from_numpy(np.searchsorted(self.indices, anchors))
        places = np.searchsorted(self.indices, neighbors)
        self.neighbors, self.counts = left_align(
            np.where(neighbors < 0, -1, places), itself=self.anchors
        )

    def losses(self, network):
        """Return the loss of each head, of shape (n_heads,)."""
        return self._compute_losses(network.heads, *self._look_twice(network))

    def judge(self, network, probabilities):
        """Say how good a network is, in one look at each of two views.

        Parameters
        ----------
        network : ClusterNetwork
            Of which the first head counts.
        probabilities : Tensor of shape (n_samples, n_clusters)
            Those of all samples as they are.

        Returns
        -------
        loss : float
        invariance : float
            The share of samples of which a view is in the same cluster.
        """
        first, second = self._look_twice(network)
        loss = self._compute_losses(network.heads, first, second)[0]
        seen = _log_probabilities(network.heads, first)[0].argmax(dim=0)
        is_same = seen == probabilities[self.indices].argmax(dim=1)
        return float(loss), float(is_same.float().mean())

    def _compute_losses(self, heads, first, second):
        """Return the losses (n_heads,) of features of two views of the samples."""
        agreement = torch.zeros(heads.n_heads)
        marginal = torch.zeros(heads.n_heads, heads.n_classes)
        # Features of all are held; logits of all heads, for few samples at a time.
        n_at_a_time = max(1, _BLOCK // (heads.n_heads * heads.n_classes))
        for part in torch.arange(len(self.anchors)).split(n_at_a_time):
            log_p = _log_probabilities(heads, first[self.anchors[part]])
            weights = self.sample_weight[part]
            marginal += log_p.exp() @ weights
            for k, column in enumerate(self.neighbors[part].T):
                is_paired = self.counts[part] > k
                pairs = log_p + _log_probabilities(heads, second[column])
                agreement += pairs.logsumexp(dim=1) @ (weights * is_paired)
        marginal = marginal / self.sample_weight.sum()
        entropy = marginal_entropy(marginal, self.sizes)
        n_pairs = (self.sample_weight * self.counts).sum()
        return -agreement / n_pairs - self.entropy_weight * entropy

    def keep_best_head(self, network):
        """Leave the network with its best head alone."""
        losses = self.losses(network).nan_to_num(nan=torch.inf)
        network.heads = network.heads.select(int(losses.argmin()))
        return network

    def _look_twice(self, network):
        """Return the features of a view of the samples, and of one of neighbours."""
        first = self._look(network)
        return first, first if self.views is None else self._look(network)

    def _look(self, network):
        """Return the features of what is looked at, in new views."""
        views = nn.Identity() if self.views is None else self.views
        return infer(
            lambda batch: network.encoder(views(batch)),
            self.source,
            indices=self.indices,
        )


@torch.no_grad()
def _log_probabilities(heads, features):
    """Return log-probabilities (n_heads, n_clusters, b) on the CPU."""
    logits = heads(features.to(heads.linear.weight.device))
    return logits.mT.log_softmax(dim=1).cpu()
