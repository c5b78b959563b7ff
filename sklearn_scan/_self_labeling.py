# SPDX-License-Identifier: BSD-3-Clause
"""Step 3: learning from one's own confident answers.

Van Gansbeke et al. (ECCV 2020), section 2.3: a sample that the network is sure of, seen
as it is, becomes a labelled sample for a strongly changed view of itself.
"""

import copy
import warnings

import torch
import torch.nn.functional as F
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from sklearn_scan._engine import Samples
from sklearn_scan._nets import at_least_float32


class ConfidenceLoss(nn.Module):
    """Cross-entropy of strong views against the confident answers on plain samples.

    Parameters
    ----------
    threshold : float, default=0.99
        A sample counts if its largest probability exceeds this.
    balanced : bool, default=True
        Weigh each sample by the inverse frequency of its pseudo-label among those that
        count, so that every cluster present pulls with the same force.
    """

    def __init__(self, threshold=0.99, balanced=True):
        super().__init__()
        self.threshold = threshold
        self.balanced = balanced

    def forward(self, weak, strong):
        """Return the loss of logits (b, n_clusters), and the confident fraction.

        A batch without a confident sample has loss zero and gradient zero; the
        reference raises.
        """
        confidence, labels = at_least_float32(weak).softmax(dim=-1).max(dim=-1)
        weight = (confidence > self.threshold).to(confidence.dtype)
        confident = weight.mean()
        if self.balanced:
            counts = weight.new_zeros(weak.shape[-1])
            counts = counts.scatter_add(0, labels, weight)
            weight = weight / counts.clamp_min(1)[labels]
        losses = F.cross_entropy(at_least_float32(strong), labels, reduction="none")
        loss = (weight * losses).sum() / weight.sum().clamp_min(1e-8)
        return loss, {"loss": loss, "confident": confident}


class SelfLabelingNetwork(nn.Module):
    """A clustering network that answers for a sample and for a strong view of it.

    Parameters
    ----------
    network : ClusterNetwork
        With one head.
    views : nn.Module
        The strong views.
    """

    def __init__(self, network, views):
        super().__init__()
        self.network = network
        self.views = views

    def forward(self, samples):
        """Return the logits of the samples as they are, and of strong views.

        The pseudo-labels come from the network in evaluation mode, so that they are
        what `predict` would answer. (The reference leaves batch normalisation in
        training mode here, which lets an answer depend on the rest of the batch and
        moves the running statistics twice per step.)
        """
        self.network.eval()
        with torch.no_grad():
            weak = self.network.logits(samples)[0]
        self.network.train()
        return weak, self.network.logits(self.views(samples))[0]


def self_label(
    network,
    views,
    loss,
    schedule,
    run,
    *,
    freeze_encoder=False,
    is_guarded=True,
):
    """Train a copy of a network on its own confident answers.

    Returns
    -------
    network : ClusterNetwork or None
        None, after a warning, where there is nothing to learn from or where clusters
        were lost: class balancing pulls a cluster without a confident member apart.
        Without the guard there is a network in any case.
    """
    before = run.probabilities(network)
    if is_guarded and (objection := _object_to_start(before, loss.threshold)):
        _warn(objection)
        return None
    network = copy.deepcopy(network)
    module = SelfLabelingNetwork(network, views)
    with network.frozen_encoder(freeze_encoder):
        run.trainer.train(
            "self_labeling",
            module,
            loss,
            Samples(run.source),
            schedule,
            snapshot=run.snapshot_of(network, schedule.batch_size),
        )
        run.settle(network, schedule.batch_size)
    after = run.probabilities(network)
    if is_guarded and len(after.argmax(dim=1).unique()) < len(
        before.argmax(dim=1).unique()
    ):
        _warn(
            "Self-labelling left a cluster without members; its result was discarded, "
            "and that of the clustering step stands."
        )
        return None
    return network


def _object_to_start(probabilities, threshold):
    """Say why not, where some cluster with members has no confident one."""
    confidence, labels = probabilities.max(dim=1)
    n_found = len(labels.unique())
    n_covered = len(labels[confidence > threshold].unique())
    if n_covered == n_found:
        return None
    return (
        f"Self-labelling was left out: {n_found - n_covered} of {n_found} clusters "
        f"have no sample above threshold={threshold} (the largest confidence is "
        f"{float(confidence.max()):.4f}). Lower threshold, or train longer."
    )


def _warn(message):
    # Blamed on the line that called `fit`, past the steps and the decorator of fit.
    warnings.warn(message, ConvergenceWarning, stacklevel=6)
