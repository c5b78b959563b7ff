# SPDX-License-Identifier: BSD-3-Clause
"""Step 3: learning from one's own confident answers.

Van Gansbeke et al. (ECCV 2020), section 2.3: a sample that the network is sure of, seen
as it is, becomes a labelled sample for a strongly changed view of itself.
"""

import copy

import torch
from torch import nn

from sklearn_scan._engine import Samples, Stage
from sklearn_scan._losses import ConfidenceLoss, is_confident
from sklearn_scan._stages._finishing import finish, make_snapshot
from sklearn_scan._views import build_views


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


def make_confidence_loss(probabilities, threshold, *, balanced, is_guarded):
    """Return the loss of self-labelling, or the reason why there is nothing to learn.

    Parameters
    ----------
    probabilities : Tensor of shape (n_samples, n_clusters)
        The answers to learn from.
    threshold, balanced
        See `ConfidenceLoss`.
    is_guarded : bool
        Whether clusters without a confident member are left out, since class balancing
        would pull them apart.

    Returns
    -------
    loss : ConfidenceLoss or None
        None where fewer than two clusters have a confident member.
    reason : str or None
        Why there is none.
    """
    if not is_guarded:
        return ConfidenceLoss(threshold, balanced), None
    n_found = len(probabilities.argmax(dim=1).unique())
    left_out = find_unsure_clusters(probabilities, threshold)
    if left_out and n_found - len(left_out) < 2:
        return None, (
            f"Self-labelling was left out: {len(left_out)} of {n_found} clusters have "
            f"no sample above threshold={threshold} (the largest confidence is "
            f"{float(probabilities.max()):.4f}). Lower threshold, or train longer."
        )
    return ConfidenceLoss(threshold, balanced, left_out), None


def self_label(network, loss, plan, evaluator, context):
    """Train a copy of a network on its own confident answers.

    Parameters
    ----------
    network : ClusterNetwork
        With one head; left as it is.
    loss : ConfidenceLoss
        What to minimise.
    plan : StagePlan
        How to train.
    evaluator : Evaluator
        Has the samples.
    context : FitContext
        Trains.

    Returns
    -------
    network : ClusterNetwork
    """
    network = copy.deepcopy(network)
    source = evaluator.source
    views = build_views(plan.views, source, strong=True)
    schedule = context.fit_to_memory("self_labeling", plan)
    shared = evaluator, schedule.batch_size, context
    with network.frozen_encoder(plan.freeze_encoder):
        stage = Stage(
            "self_labeling",
            SelfLabelingNetwork(network, views),
            loss,
            Samples(source),
            schedule,
            make_snapshot(network, *shared),
        )
        context.trainer.run(stage)
        return finish(network, *shared)


def find_unsure_clusters(probabilities, threshold):
    """Return the clusters that have members, and none above `threshold`."""
    confidence, labels = probabilities.max(dim=1)
    found = set(labels.tolist())
    return tuple(
        sorted(found - set(labels[is_confident(confidence, threshold)].tolist()))
    )
