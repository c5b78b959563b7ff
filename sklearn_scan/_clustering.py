# SPDX-License-Identifier: BSD-3-Clause
"""Step 2: the SCAN loss, and the networks that minimise it.

Van Gansbeke et al. (ECCV 2020), section 2.2. Heads are trained on the frozen embedding
first, which is cheap (see `_head_search`); then the encoder learns with the best of
them, on random views.
"""

import copy
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from sklearn_scan._engine import NeighborPairs, infer, left_align
from sklearn_scan._nets import at_least_float32
from sklearn_scan.neighbors import draw_some

# Samples, and pairs of them with neighbours, by which networks are judged.
_MOST_ANCHORS = 4000
_MOST_PAIRS = 40_000
# Entries of the logits that are held at a time (64 MiB).
_BLOCK = 2**24
# What the weight of the entropy is divided by once clusters have found their place.
_RELAXATION = 5


def scan_loss(anchors, neighbors, entropy_weight=5.0):
    """Compute the SCAN loss of samples and their neighbours, per head.

    Equation 2 of the paper, with probabilities p of the anchors and q of the
    neighbours: ``-mean_i log <p_i, q_i> - entropy_weight * H(mean_i p_i)``. It is
    computed from log-probabilities, in float32 at least, because <p_i, q_i> underflows
    where the two disagree.

    Parameters
    ----------
    anchors, neighbors : Tensor of shape (..., b, n_clusters)
        Logits; sample i of one belongs to sample i of the other.
    entropy_weight : float, default=5.0
        The paper's lambda.

    Returns
    -------
    total, consistency, entropy : Tensor of shape (...)
        ``total = consistency - entropy_weight * entropy``. The total is negative by
        design: its lower bound is ``-entropy_weight * log(n_clusters)``.
    """
    # Clusters before samples, as `ClusterHeads` have them in memory.
    log_p = at_least_float32(anchors).mT.log_softmax(dim=-2)
    log_q = at_least_float32(neighbors).mT.log_softmax(dim=-2)
    consistency = -(log_p + log_q).logsumexp(dim=-2).mean(dim=-1)
    entropy = marginal_entropy(log_p.exp().mean(dim=-1))
    return consistency - entropy_weight * entropy, consistency, entropy


def marginal_entropy(marginal):
    """Return the entropy, in nats, of distributions over the last axis."""
    marginal = marginal.clamp_min(1e-8)
    return -(marginal * marginal.log()).sum(dim=-1)


class SCANLoss(nn.Module):
    """`scan_loss`, summed over heads for the gradient and averaged for the record.

    Parameters
    ----------
    entropy_weight : float, default=5.0
        The paper's lambda.
    n_steps : int or None, default=None
        Steps of a training in the course of which the weight falls: after a quarter of
        them it is a fifth. A large weight keeps clusters from vanishing while heads
        find their place, and makes clusters equal in size that are not; a small one
        lets them have the sizes that they have. None for the same weight throughout.
    """

    def __init__(self, entropy_weight=5.0, n_steps=None):
        super().__init__()
        self.entropy_weight = entropy_weight
        self.n_steps = n_steps
        # A buffer, so that a training that is taken up again finds it.
        self.register_buffer("step", torch.zeros((), dtype=torch.int64, device="cpu"))

    @property
    def final_weight(self):
        """The weight at the end, by which results are compared."""
        if self.n_steps is None:
            return self.entropy_weight
        return self.entropy_weight / _RELAXATION

    def forward(self, anchors, neighbors):
        """Return the loss of logits (n_heads, b, n_clusters), and its parts."""
        weight = self._next_weight() if self.training else self.entropy_weight
        total, consistency, entropy = scan_loss(anchors, neighbors, weight)
        record = {
            "loss": total.mean(),
            "consistency": consistency.mean(),
            "entropy": entropy.mean(),
        }
        return total.sum(), record

    def _next_weight(self):
        if self.n_steps is None:
            return self.entropy_weight
        is_early = int(self.step) < self.n_steps // 4
        self.step += 1
        return self.entropy_weight if is_early else self.final_weight


class ClusterNetwork(nn.Module):
    """An encoder with cluster heads, trained on views of samples and of neighbours.

    Parameters
    ----------
    encoder : Encoder
        From samples to features.
    heads : ClusterHeads
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
        """Return this network behind the module that made what it reads."""
        return ClusterNetwork(
            nn.Sequential(embedder, self.encoder), self.heads, self.views
        )


def _takes_statistics(module):
    return module.training and isinstance(module, nn.modules.batchnorm._BatchNorm)


def cluster(network, views, neighbors, loss, schedule, run, *, freeze_encoder=False):
    """Train a copy of a network on views of samples and of neighbours.

    All of its heads learn, together with the encoder or without; then the best stays.
    """
    network = copy.deepcopy(network)
    network.views = views
    pairs = NeighborPairs(run.source, neighbors, run.sample_weight)
    with network.frozen_encoder(freeze_encoder):
        run.trainer.train(
            "clustering",
            network,
            loss,
            pairs,
            schedule,
            snapshot=run.snapshot_of(network, schedule.batch_size),
        )
        run.settle(network, schedule.batch_size)
    return network


class Judge:
    """Judges networks without labels: by the SCAN loss on the training samples.

    The loss is taken over at most 4,000 samples, drawn at random, with the nearest of
    their neighbours: all, or as many as make 40,000 pairs. With random views,
    a network is judged by what it has learned to see through: the views are fresh, but
    the same for every network that is judged.

    (The reference chooses its head and its checkpoint by the loss on the test images,
    with neighbours mined among them; an estimator that has only `X` judges by the
    neighbours that it was trained on.)

    Parameters
    ----------
    source : ArraySource
        What the networks read.
    neighbors : ndarray of shape (n_samples, K)
        Of every sample; -1 stands for none, and a sample without is its own.
    entropy_weight : float
        Weight of the entropy, which is that of the samples without their neighbours: a
        sample that is everyone's neighbour counts as often as any other.
    views : nn.Module or None, default=None
        Drawn once for samples and once for neighbours; None to look at samples as they
        are.
    sample_weight : ndarray of shape (n_samples,) or None, default=None
        How much each sample counts, together with its neighbours. None for equal
        weights.
    """

    def __init__(
        self, source, neighbors, entropy_weight, views=None, sample_weight=None
    ):
        self.source = source
        self.entropy_weight = entropy_weight
        self.views = views
        n_anchors = min(len(source), _MOST_ANCHORS)
        n_nearest = max(1, _MOST_PAIRS // n_anchors)
        anchors = draw_some(len(source), n_anchors)
        neighbors = neighbors[anchors, :n_nearest]
        self.sample_weight = torch.ones(n_anchors)
        if sample_weight is not None:
            self.sample_weight = torch.tensor(sample_weight[anchors]).float()
        # What is looked at, and where among that samples and neighbours are.
        self.indices = np.union1d(anchors, neighbors[neighbors >= 0])
        self.anchors = torch.from_numpy(np.searchsorted(self.indices, anchors))
        places = np.searchsorted(self.indices, neighbors)
        self.neighbors, self.counts = left_align(
            np.where(neighbors < 0, -1, places), itself=self.anchors
        )

    def losses(self, network):
        """Return the loss of each head, of shape (n_heads,)."""
        first = self._look(network)
        second = first if self.views is None else self._look(network)
        heads = network.heads
        agreement = torch.zeros(heads.n_heads)
        marginal = torch.zeros(heads.n_heads, heads.n_clusters)
        # Features of all are held; logits of all heads, for few samples at a time.
        n_at_a_time = max(1, _BLOCK // (heads.n_heads * heads.n_clusters))
        for part in torch.arange(len(self.anchors)).split(n_at_a_time):
            log_p = _log_probabilities(heads, first[self.anchors[part]])
            weights = self.sample_weight[part]
            marginal += log_p.exp() @ weights
            for k, column in enumerate(self.neighbors[part].T):
                is_paired = self.counts[part] > k
                pairs = log_p + _log_probabilities(heads, second[column])
                agreement += pairs.logsumexp(dim=1) @ (weights * is_paired)
        entropy = marginal_entropy(marginal / self.sample_weight.sum())
        n_pairs = (self.sample_weight * self.counts).sum()
        return -agreement / n_pairs - self.entropy_weight * entropy

    def select_head(self, network):
        """Leave the network with its best head alone."""
        losses = self.losses(network).nan_to_num(nan=torch.inf)
        network.heads = network.heads.select(int(losses.argmin()))
        return network

    def loss(self, network):
        """Return the loss of a network with one head."""
        return float(self.losses(network)[0])

    def invariance(self, network, probabilities):
        """Return the share of samples of which a view is in the same cluster.

        `probabilities` are those of all samples as they are.
        """
        labels = infer(
            lambda batch: network.logits(self.views(batch))[0].argmax(dim=1),
            self.source,
            indices=self.indices,
        )
        return float(
            (labels == probabilities[self.indices].argmax(dim=1)).float().mean()
        )

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
