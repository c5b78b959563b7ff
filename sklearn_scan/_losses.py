# SPDX-License-Identifier: BSD-3-Clause
"""What the stages minimise: the losses of the SCAN paper, equation 2 and section 2.3.

Losses are computed in log space, and in float32 at least, whatever the precision of the
networks.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from sklearn_scan._nets import at_least_float32

# What the weight of the entropy is divided by once clusters have found their place.
_RELAXATION = 5

# Samples per cluster from which the mean prediction is known well enough.
_ENOUGH_PER_CLUSTER = 10


def scan_loss(
    anchors, neighbors, entropy_weight=5.0, *, sizes=None, running_marginal=None
):
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
    sizes : Tensor of shape (n_clusters,) or None, default=None
        Shares of the samples that clusters are expected to have, in ascending order.
        None for equal ones, as in the paper. See `marginal_entropy`.
    running_marginal : RunningMarginal or None, default=None
        Continues the mean of the p over earlier batches, where this one is small. None
        for the mean over this batch alone, as in the paper.

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
    marginal = log_p.exp().mean(dim=-1)
    if running_marginal is not None:
        marginal = running_marginal(marginal, n_samples=log_p.shape[-1])
    entropy = marginal_entropy(marginal, sizes)
    return consistency - entropy_weight * entropy, consistency, entropy


def marginal_entropy(marginal, sizes=None):
    """Return the entropy, in nats, of distributions over the last axis.

    With `sizes`, the logarithm of the number of clusters, less the Kullback-Leibler
    divergence of a distribution from the sizes: that is the entropy where all are
    equal, and is largest where the distribution is that of the sizes. The smallest
    probability is compared with the smallest size, and so on, so that any cluster may
    have any size.

    Parameters
    ----------
    marginal : Tensor of shape (..., n_clusters)
        Distributions.
    sizes : Tensor of shape (n_clusters,) or None, default=None
        Positive, in ascending order, of sum one.
    """
    marginal = marginal.clamp_min(1e-8)
    if sizes is None:
        return -(marginal * marginal.log()).sum(dim=-1)
    ordered = marginal.sort(dim=-1).values
    divergence = (ordered * (ordered.log() - sizes.log())).sum(dim=-1)
    return math.log(marginal.shape[-1]) - divergence


class RunningMarginal(nn.Module):
    """The mean prediction over as many batches as hold several samples per cluster.

    A batch of 128 samples lacks a quarter of 100 clusters by chance alone, and the
    entropy of its mean prediction pulls towards these, whatever their size. So the
    entropy is taken of an exponential moving average over batches::

        average = (momentum * average + (1 - momentum) * marginal) / correction

    with the correction for its start at zero that Adam has [1]_. It is as exact as the
    mean over 10 samples per cluster. The gradient is that of the present batch, as if
    this were the whole: earlier predictions are constants.

    Where one batch holds 10 samples per cluster, it is all there is to the average.

    References
    ----------
    .. [1] D. Kingma and J. Ba, "Adam: A method for stochastic optimization", ICLR 2015,
       section 3.
    """

    def __init__(self):
        super().__init__()
        self.average = None
        self.correction = 0.0

    def forward(self, marginal, n_samples):
        """Return the average, with the gradient of `marginal`.

        Parameters
        ----------
        marginal : Tensor of shape (..., n_clusters)
            The mean prediction of a batch.
        n_samples : int
            The size of the batch.

        Returns
        -------
        average : Tensor of shape (..., n_clusters)
        """
        momentum = find_momentum(n_samples, marginal.shape[-1])
        if momentum == 0:
            return marginal
        present = marginal.detach()
        before = torch.zeros_like(present) if self.average is None else self.average
        # A checkpoint is read on the CPU.
        before = before.to(present.device)
        self.average = momentum * before + (1 - momentum) * present
        self.correction = momentum * self.correction + (1 - momentum)
        # The value of the average; the gradient of the batch.
        return self.average / self.correction + (marginal - present)

    def get_extra_state(self):
        """Return the average, for a training that is taken up again."""
        return {"average": self.average, "correction": self.correction}

    def set_extra_state(self, state):
        """Take up the average of an earlier training."""
        self.average, self.correction = state["average"], state["correction"]


def find_momentum(n_samples, n_clusters):
    """Return by which momentum an average is as exact as enough samples per cluster.

    An average with momentum m is as exact as the mean over (1 + m) / (1 - m) batches.
    """
    n_batches = _ENOUGH_PER_CLUSTER * n_clusters / n_samples
    return max(0.0, (n_batches - 1) / (n_batches + 1))


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
    sizes : tuple of float or None, default=None
        Shares that clusters are expected to have, in ascending order; see
        `marginal_entropy`.
    """

    def __init__(self, entropy_weight=5.0, n_steps=None, sizes=None):
        super().__init__()
        self.entropy_weight = entropy_weight
        self.n_steps = n_steps
        self.sizes = sizes
        as_tensor = None if sizes is None else torch.tensor(sizes, device="cpu")
        self.register_buffer("_sizes", as_tensor, persistent=False)
        self.running_marginal = RunningMarginal()
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

    def settle(self):
        """Return a loss with the weight at the end throughout."""
        return SCANLoss(self.final_weight, sizes=self.sizes)

    def forward(self, anchors, neighbors):
        """Return the loss of logits (n_heads, b, n_clusters), and its parts."""
        weight = self._next_weight() if self.training else self.entropy_weight
        total, consistency, entropy = scan_loss(
            anchors,
            neighbors,
            weight,
            sizes=self._sizes,
            running_marginal=self.running_marginal if self.training else None,
        )
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
