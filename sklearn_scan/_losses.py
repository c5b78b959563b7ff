# SPDX-License-Identifier: BSD-3-Clause
"""What the stages minimise: the losses of the SCAN paper, equation 2 and section 2.3.

Losses are computed in log space, and in float32 at least, whatever the precision of the
networks.
"""

import torch
import torch.nn.functional as F
from torch import nn

from sklearn_scan._nets import at_least_float32

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
    # Clusters before samples, as `LinearHeads` have them in memory.
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
    def relaxes(self):
        """Whether the weight falls."""
        return self.n_steps is not None

    @property
    def final_weight(self):
        """The weight at the end, by which results are compared."""
        return self.entropy_weight / (_RELAXATION if self.relaxes else 1)

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
        if not self.relaxes:
            return self.entropy_weight
        # On the device: the host does not wait to know the step.
        is_early = self.step < self.n_steps // 4
        self.step += 1
        return torch.where(is_early, self.entropy_weight, self.final_weight)


def is_confident(confidence, threshold):
    """Say which samples are confident, by their largest probability."""
    return confidence > threshold


class ConfidenceLoss(nn.Module):
    """Cross-entropy of strong views against the confident answers on plain samples.

    Parameters
    ----------
    threshold : float, default=0.99
        A sample counts if its largest probability exceeds this.
    balanced : bool, default=True
        Weigh each sample by the inverse frequency of its pseudo-label among those that
        count, so that every cluster present pulls with the same force.
    left_out : tuple of int, default=()
        Clusters that nothing is learned about: samples of theirs do not count, and
        other samples do not push them away.
    """

    def __init__(self, threshold=0.99, balanced=True, left_out=()):
        super().__init__()
        self.threshold = threshold
        self.balanced = balanced
        self.left_out = left_out

    def forward(self, weak, strong):
        """Return the loss of logits (b, n_clusters), and the confident fraction.

        A batch without a confident sample has loss zero and gradient zero; the
        reference raises.
        """
        confidence, labels = at_least_float32(weak).softmax(dim=-1).max(dim=-1)
        weight = is_confident(confidence, self.threshold).to(confidence.dtype)
        strong = at_least_float32(strong)
        if self.left_out:
            is_out = torch.zeros(weak.shape[1], dtype=torch.bool, device=weak.device)
            # One by one: a list of them would be a copy from the host.
            for cluster in self.left_out:
                is_out[cluster] = True
            weight = weight * ~is_out[labels]
            # Not -inf: of a label that is left out the loss would be infinite.
            strong = strong.masked_fill(is_out, torch.finfo(strong.dtype).min)
        confident = weight.mean()
        if self.balanced:
            counts = weight.new_zeros(weak.shape[-1])
            counts = counts.scatter_add(0, labels, weight)
            weight = weight / counts.clamp_min(1)[labels]
        losses = F.cross_entropy(strong, labels, reduction="none")
        # Only where they count: what is left out has losses beyond all bounds.
        losses = losses.where(weight > 0, 0.0)
        loss = (weight * losses).sum() / weight.sum().clamp_min(1e-8)
        return loss, {"loss": loss, "confident": confident}
