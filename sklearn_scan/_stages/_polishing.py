# SPDX-License-Identifier: BSD-3-Clause
"""The last steps of the head search: neighbours that a head denies count less."""

import torch

from sklearn_scan._engine import SampleDraw, infer, left_align
from sklearn_scan._stages._linear_steps import minimise_loss

_STEPS = 300
_RATE = 3e-3


def polish_head(network, samples, loss, most_steps):
    """Train a head on, in place, with the neighbours that it agrees with.

    A neighbour is drawn with probability proportional to ``<p, q>``, the predicted
    probability, before polishing, that it is in the same cluster: mined neighbours of
    another kind count less, as in the weighted pairs of TEMI (Adaloglou, Michels,
    Kalisch and Kollmann, BMVC 2023).

    Parameters
    ----------
    network : ClusterNetwork
        With one head.
    samples : MinedSamples
        The embedding, its neighbours, and how often each sample is drawn.
    loss : SCANLoss
        That of the search.
    most_steps : int
        Bound of the number of steps.
    """
    features = infer(network.encoder, samples.source)
    neighbors, counts = left_align(samples.neighbors)
    probabilities = _predict_probabilities(network.heads, features)

    draw = SampleDraw(len(features), samples.sample_weight)

    def draw_pairs(n_drawn):
        anchors = draw(n_drawn)
        chosen = neighbors[anchors]
        agreement = (probabilities[anchors, None] * probabilities[chosen]).sum(dim=2)
        is_gap = torch.arange(chosen.shape[1]) >= counts[anchors, None]
        agreement = agreement.clamp_min(1e-8).masked_fill(is_gap, 0)
        return anchors, chosen.gather(1, torch.multinomial(agreement, 1)).squeeze(1)

    n_steps = min(_STEPS, most_steps)
    minimise_loss(network.heads, features, draw_pairs, loss, n_steps, _RATE)


@torch.no_grad()
def _predict_probabilities(head, rows):
    """Return the probabilities (n_rows, n_clusters) of rows, on the CPU."""
    return head(rows.to(head.linear.weight.device))[0].softmax(dim=-1).cpu()
