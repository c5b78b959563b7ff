# SPDX-License-Identifier: BSD-3-Clause
"""From a network in training to one that answers."""

import copy

import numpy as np

from sklearn_scan._engine import refresh_statistics, wrap_trained
from sklearn_scan._losses import SCANLoss

# A cluster is shown by the most typical of this many of its most confident members.
_N_CONFIDENT = 10


def finish(network, evaluator, batch_size, context):
    """Make a network that was trained on views, in place, ready for samples.

    Its best head stays. Where the encoder learned, batch normalisation takes its
    statistics from the samples as they are.
    """
    with context.isolated("finishing"):
        if any(p.requires_grad for p in network.encoder.parameters()):
            refresh_statistics(network.encoder, evaluator.source, batch_size)
        if network.heads.n_heads > 1:
            evaluator.keep_best_head(network)
    return network.eval()


def make_snapshot(network, evaluator, batch_size, context):
    """Return a function that makes a fitted net of a network in training."""

    def take():
        finished = finish(copy.deepcopy(network), evaluator, batch_size, context)
        return {"net_": make_net(finished, evaluator.entropy_weight, context.runtime)}

    return take


def make_net(network, entropy_weight, runtime):
    """Return the skorch net of a network that was trained."""
    return wrap_trained(network, SCANLoss(entropy_weight), runtime)


def find_prototypes(labels, confidence, embedding, n_clusters):
    """Find for each cluster the sample nearest to its confident centre."""
    prototypes = np.full(n_clusters, -1, dtype=np.int64)
    for cluster in range(n_clusters):
        members = np.flatnonzero(labels == cluster)
        if len(members):
            order = np.argsort(-confidence[members], kind="stable")
            typical = members[order[:_N_CONFIDENT]]
            offsets = embedding[typical] - embedding[typical].mean(axis=0)
            prototypes[cluster] = typical[(offsets**2).sum(axis=1).argmin()]
    return prototypes


def explain_empty_clusters(labels, n_clusters):
    """Say that clusters have no member; None if all have."""
    n_found = len(np.unique(labels))
    if n_found < n_clusters:
        return (
            f"The samples fill {n_found} of n_clusters={n_clusters} clusters. There "
            "may be duplicates among them, or fewer kinds than clusters."
        )
