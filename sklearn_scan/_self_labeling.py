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
        weight = (confidence > self.threshold).to(confidence.dtype)
        strong = at_least_float32(strong)
        if self.left_out:
            is_out = torch.zeros(weak.shape[1], dtype=torch.bool, device=weak.device)
            is_out[list(self.left_out)] = True
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
        None, after a warning, where there is nothing to learn from, or where clusters
        were lost. Clusters without a confident member are left out: class balancing
        would pull them apart. Without the guard there is a network in any case, and
        all clusters take part.
    """
    before = run.probabilities(network)
    left_out = find_unsure_clusters(before, loss.threshold)
    n_found = len(before.argmax(dim=1).unique())
    if is_guarded and left_out and n_found - len(left_out) < 2:
        _warn(
            f"Self-labelling was left out: {len(left_out)} of {n_found} clusters have "
            f"no sample above threshold={loss.threshold} (the largest confidence is "
            f"{float(before.max()):.4f}). Lower threshold, or train longer."
        )
        return None
    if is_guarded:
        loss = ConfidenceLoss(loss.threshold, loss.balanced, left_out)
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
    n_left = len(run.probabilities(network).argmax(dim=1).unique())
    if is_guarded and n_left < n_found:
        _warn(
            "Self-labelling left a cluster without members; its result was discarded, "
            "and that of the clustering step stands."
        )
        return None
    return network


def find_unsure_clusters(probabilities, threshold):
    """Return the clusters that have members, and none above `threshold`."""
    confidence, labels = probabilities.max(dim=1)
    found = set(labels.tolist())
    return tuple(sorted(found - set(labels[confidence > threshold].tolist())))


# What self-labelling may lose: of the share of samples that the network is sure of (a
# little, as it learns that some answers were not sure), of the agreement with earlier
# sure answers, and of the invariance under views.
_MOST_LOST = {"confident": 0.1, "agreement": 0.05, "invariance": 0.005}


def compare_answers(before, after, threshold):
    """Compare what two networks answer, of which the second was self-labelled.

    Parameters
    ----------
    before, after : tuple of (Tensor of shape (n_samples, n_clusters), float)
        The probabilities of the samples, and the invariance: the share of samples of
        which a view is in the same cluster.
    threshold : float
        Above which a network is sure.

    Returns
    -------
    comparison : dict of tuple of float
        Before and after: "confident", the share of samples that the network is sure of;
        "agreement", the share with the same cluster among those that both are sure of;
        and "invariance".
    """
    (old, old_invariance), (new, new_invariance) = before, after
    was_sure, is_sure = (p.amax(dim=1) > threshold for p in (old, new))
    same = (old.argmax(dim=1) == new.argmax(dim=1))[was_sure & is_sure].float()
    return {
        "confident": (float(was_sure.float().mean()), float(is_sure.float().mean())),
        "agreement": (1.0, float(same.mean()) if len(same) else 0.0),
        "invariance": (old_invariance, new_invariance),
    }


def is_improvement(comparison):
    """Say whether answers are sure, are what they were, and see through views."""
    return all(old - new <= _MOST_LOST[name] for name, (old, new) in comparison.items())


def _warn(message):
    # Blamed on the line that called `fit`, past the steps and the decorator of fit.
    warnings.warn(message, ConvergenceWarning, stacklevel=6)
