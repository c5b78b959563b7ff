# SPDX-License-Identifier: BSD-3-Clause
"""Step 2, its first part: many heads on the frozen embedding, of which one stays.

The paper begins step 2 with a head at random. On a frozen embedding a head costs a
tenth of a second, so that many are trained here, and they begin where the geometry of
the embedding says that clusters are: half of them at partitions of the graph of
neighbours (Ng, Jordan and Weiss, "On spectral clustering", 2001), half at those of
k-means. Among heads with equal losses, those that began there agree with people more
often than those that began at random.

The SCAN loss wants clusters of equal sizes. Where they are not, the best head by this
loss splits a large cluster and merges small ones, and the graph shows it: a partition
cuts off fewer neighbours. Then heads follow that partition (`respect_sizes`).

(The average of the better heads, with their clusters matched, was tried in place of the
best one: it gains where heads begin at random, and nothing where they begin here.)
"""

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from sklearn_scan._clustering import ClusterNetwork, Judge, scan_loss
from sklearn_scan._engine import NeighborPairs, draw_anchors, infer, left_align
from sklearn_scan._nets import ClusterHeads, Encoder
from sklearn_scan._partitions import find_partitions, find_pieces, measure_cut
from sklearn_scan._sources import ArraySource, learn_format
from sklearn_scan.neighbors import choose_metric, draw_some, mine_neighbors

# Samples on which partitions are found, whatever the number of all; and neighbours that
# are then mined among them.
_MOST_PARTITIONED = 10_000
_K = 20
# Principal components that heads are trained on; a wider embedding has little to add.
_MOST_COMPONENTS = 256
# Share of samples of which a head must know the piece.
_TOLD = 0.99
# How much less a partition must cut, and then a head, for the best head to give way;
# and heads that are trained to do so.
_LESS_CUT = 0.05
_N_FOLLOWERS = 3
# Steps with which heads are fitted to pieces, follow a partition, and are polished;
# their learning rates; and samples in such a step.
_FITTING_STEPS_FOR_PIECES = 2000
_FITTING_RATE = 1e-2
_FOLLOWING_STEPS = 600
_FOLLOWING_RATE = 1e-2
_POLISHING_STEPS = 300
_POLISHING_RATE = 3e-3
_BATCH = 512


def search_heads(source, neighbors, n_clusters, n_heads, loss, schedule, trainer):
    """Train heads on a frozen embedding, and keep the best.

    Parameters
    ----------
    source : ArraySource
        The embedding, one row per sample.
    neighbors : ndarray of shape (n_samples, K)
        Of every sample; -1 stands for none.
    n_clusters, n_heads : int
        Clusters per head, and heads.
    loss : SCANLoss
        What to minimise.
    schedule, trainer
        See `Trainer.train`.

    Returns
    -------
    network : ClusterNetwork
        From the embedding to clusters, with one head.
    weights : ndarray of shape (n_samples,) or None
        How often each sample is to be an anchor from here on, so that all clusters are
        seen equally often; None for equally often, clusters being of similar sizes.
    """
    whole, (source, components) = source, project(source)
    network = make_heads(
        source, n_clusters, n_heads, is_projected=components is not None
    )
    chosen = draw_some(len(source), max(_MOST_PARTITIONED, 20 * n_clusters))
    rows = infer(network.encoder, source, indices=chosen)
    graph = neighbors
    if len(chosen) < len(source):
        graph = mine_neighbors(rows.numpy(), _K, metric=choose_metric(rows.numpy()))
    partitions = []
    if fit_pieces(network.heads, rows, graph):
        # Nothing joins the clusters, so that only the entropy could move a sample from
        # one to another; and it would, where their sizes differ.
        loss.entropy_weight = 0.0
    else:
        partitions = find_partitions(rows.numpy(), graph, n_clusters, n_heads)
        fit_partitions(network.heads, rows, partitions)

    pairs = NeighborPairs(source, neighbors)
    trainer.train("clustering", network, loss, pairs, schedule)

    if graph.shape[1] > 0:
        network.heads = select_head(network.heads, rows, graph)
    else:
        network = Judge(source, neighbors, loss.final_weight).select_head(network)
    weights = None
    if partitions:
        pairs = infer(network.encoder, source), neighbors
        weights = respect_sizes(
            network, partitions, (rows, graph), pairs, loss.final_weight
        )
    return _undo_projection(network, components, whole), weights


def project(source):
    """Project a wide embedding on its principal components, once for all steps.

    Returns
    -------
    source : ArraySource
        The components of the standardised embedding; the embedding itself, if it is not
        wide.
    components : Tensor of shape (n_features, n_components) or None
        What the standardised embedding was multiplied by; None where it was not.
    """
    if source.format.n_features <= _MOST_COMPONENTS:
        return source, None
    encoder = _standardise(source)
    rows = infer(encoder, source, indices=draw_some(len(source), _MOST_PARTITIONED))
    _, _, components = torch.pca_lowrank(
        rows, min(_MOST_COMPONENTS, len(rows)), niter=4
    )
    matrix = components.to(source.device)
    projected = infer(lambda batch: encoder(batch) @ matrix, source).numpy()
    return ArraySource(projected, learn_format(projected), source.device), components


def make_heads(source, n_clusters, n_heads, *, is_projected=False):
    """Make a network from an embedding, or its components, to clusters, at random."""
    encoder = nn.Identity() if is_projected else _standardise(source)
    heads = ClusterHeads(source.format.n_features, n_clusters, n_heads)
    return ClusterNetwork(encoder, heads, nn.Identity()).to(source.device)


def _standardise(source):
    n_features = source.format.n_features
    return Encoder(nn.Identity(), source.format, n_features).to(source.device)


def _undo_projection(network, components, source):
    """Return the same network with heads on the embedding itself."""
    if components is None:
        return network
    old, wide = network.heads.linear, make_heads(source, network.heads.n_clusters, 1)
    with torch.no_grad():
        wide.heads.linear.weight.copy_(old.weight.cpu() @ components.T)
        wide.heads.linear.bias.copy_(old.bias)
    return wide.eval()


# Where heads begin.


def fit_pieces(heads, rows, neighbors):
    """Train heads, in place, to tell the pieces of a graph, if there are as many.

    Parameters
    ----------
    heads : ClusterHeads
        To be trained.
    rows : Tensor of shape (n_samples, n_features)
        What they are given.
    neighbors : ndarray of shape (n_samples, K)
        The graph.

    Returns
    -------
    are_told : bool
        Whether there are as many pieces as clusters, and heads can tell them: a linear
        one cannot tell a ring from what it surrounds.
    """
    n_pieces, pieces = find_pieces(neighbors)
    if n_pieces != heads.n_clusters:
        return False
    partitions = [pieces] * heads.n_heads
    fit_partitions(heads, rows, partitions, _FITTING_STEPS_FOR_PIECES)
    return bool((_predict(heads, rows) == pieces).mean() > _TOLD)


def fit_partitions(heads, rows, partitions, n_steps=150):
    """Train each head, in place, to tell the parts of its partition.

    Parameters
    ----------
    heads : ClusterHeads
        One per partition.
    rows : Tensor of shape (n_samples, n_features)
        What heads are given.
    partitions : list of ndarray of shape (n_samples,)
        Numbers of clusters.
    n_steps : int, default=150
        How long.
    """
    device = heads.linear.weight.device
    targets = torch.tensor(np.stack(partitions), dtype=torch.int64, device=device)
    rows = rows.to(device)
    optimizer, annealing = _begin_steps(heads, n_steps, _FITTING_RATE)
    for _ in range(n_steps):
        batch = torch.randint(len(rows), (min(_BATCH, len(rows)),)).to(device)
        loss = F.cross_entropy(
            heads(rows[batch]).flatten(0, 1), targets[:, batch].flatten()
        )
        # Summed over heads: each learns as if it were alone.
        _step(heads.n_heads * loss, optimizer, annealing)


# What becomes of the best.


def select_head(heads, rows, neighbors):
    """Return the head whose clusters cut off the fewest neighbours (`measure_cut`).

    Among heads that minimise the SCAN loss this tells better than the loss itself which
    one agrees with people: it looks at labels alone, and every cluster counts as much.
    """
    candidates = [heads.select(k) for k in range(heads.n_heads)]
    cuts = [
        measure_cut(_predict(head, rows), neighbors, heads.n_clusters)
        for head in candidates
    ]
    return candidates[int(np.argmin(cuts))]


def respect_sizes(network, partitions, sample, pairs, entropy_weight):
    """Let the head follow a partition, in place, where the graph asks for its sizes.

    The SCAN loss gains by splitting a large cluster and merging two small ones. Where
    the head cuts off clearly more of the graph than some partition does, another one is
    trained from there, with anchors drawn so that each cluster is seen equally often:
    equal shares then are the sizes of the partition. It stays if it cuts less, too.

    Parameters
    ----------
    network : ClusterNetwork
        With one head.
    partitions : list of ndarray of shape (n_rows,)
        Numbers of clusters.
    sample : tuple of Tensor (n_rows, n_features) and ndarray (n_rows, K)
        What was partitioned, and its graph of neighbours.
    pairs : tuple of Tensor (n_samples, n_features) and ndarray (n_samples, K)
        The features of all samples, and their neighbours.
    entropy_weight : float
        Of the SCAN loss.

    Returns
    -------
    weights : ndarray of shape (n_samples,) or None
        How often each sample is to be an anchor; None where the head stays as it is.
    """
    rows, graph = sample
    features, neighbors = pairs
    cut = partial(measure_cut, neighbors=graph, n_clusters=network.heads.n_clusters)
    limit = (1 - _LESS_CUT) * cut(_predict(network.heads, rows))
    partition = min(partitions, key=cut)
    if cut(partition) >= limit:
        return None
    n_features = features.shape[1]
    heads = ClusterHeads(n_features, network.heads.n_clusters, _N_FOLLOWERS)
    heads.to(network.heads.linear.weight.device)
    fit_partitions(heads, rows, [partition] * _N_FOLLOWERS)
    weights = weigh_anchors(_predict(heads, features))
    draw = _draw_any(*left_align(neighbors))
    steps = _FOLLOWING_STEPS, _FOLLOWING_RATE
    _minimise_loss(heads, features, weights, draw, entropy_weight, *steps)
    head = select_head(heads, rows, graph)
    if cut(_predict(head, rows)) >= limit:
        return None
    network.heads = head
    return weigh_anchors(_predict(head, features))


def weigh_anchors(labels):
    """Return how often each sample is an anchor, for clusters to be seen equally often.

    Parameters
    ----------
    labels : ndarray of shape (n_samples,)
        Numbers of clusters.

    Returns
    -------
    weights : ndarray of shape (n_samples,), dtype float64
        Their mean is one.
    """
    weights = 1 / np.bincount(labels)[labels]
    return weights / weights.mean()


def polish_head(network, source, neighbors, entropy_weight, weights=None):
    """Train a head on, in place, with the neighbours that it agrees with.

    A neighbour is drawn with probability proportional to ``<p, q>``, the probability
    that it is in the same cluster by what the head said at the beginning: mined
    neighbours of another kind count less, as in the weighted pairs of TEMI (Adaloglou,
    Michels, Kalisch and Kollmann, BMVC 2023).

    Parameters
    ----------
    network : ClusterNetwork
        With one head.
    source : ArraySource
        The embedding.
    neighbors : ndarray of shape (n_samples, K)
        Of every sample; -1 stands for none.
    entropy_weight : float
        Of the SCAN loss.
    weights : ndarray of shape (n_samples,) or None, default=None
        How often each sample is an anchor; None for equally often.
    """
    features = infer(network.encoder, source)
    answers = _answer(network.heads, features)
    _minimise_loss(
        network.heads,
        features,
        weights,
        _draw_agreeing(answers, *left_align(neighbors)),
        entropy_weight,
        _POLISHING_STEPS,
        _POLISHING_RATE,
    )


def _minimise_loss(head, features, weights, draw, entropy_weight, n_steps, lr):
    """Minimise the SCAN loss of heads, in place, on neighbours that `draw` gives."""
    device = head.linear.weight.device
    optimizer, annealing = _begin_steps(head, n_steps, lr)
    for _ in range(n_steps):
        anchors = draw_anchors(len(features), weights, min(_BATCH, len(features)))
        pairs = features[torch.cat([anchors, draw(anchors)])]
        logits = head(pairs.to(device)).chunk(2, dim=1)
        _step(scan_loss(*logits, entropy_weight)[0].sum(), optimizer, annealing)


def _draw_any(neighbors, counts):
    """Return a function from samples to one neighbour of each."""

    def draw(anchors):
        column = (torch.rand(len(anchors)) * counts[anchors]).long()
        return neighbors[anchors, column]

    return draw


def _draw_agreeing(answers, neighbors, counts):
    """Return a function from samples to one neighbour of each, that agrees with it."""

    def draw(anchors):
        chosen = neighbors[anchors]
        agreement = (answers[anchors, None] * answers[chosen]).sum(dim=2)
        is_gap = torch.arange(chosen.shape[1]) >= counts[anchors, None]
        agreement = agreement.clamp_min(1e-8).masked_fill(is_gap, 0)
        return chosen.gather(1, torch.multinomial(agreement, 1)).squeeze(1)

    return draw


def _begin_steps(heads, n_steps, lr):
    optimizer = torch.optim.AdamW(heads.parameters(), lr=lr, fused=True)
    annealing = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, lr, total_steps=n_steps, pct_start=0.1
    )
    return optimizer, annealing


def _step(loss, optimizer, annealing):
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    annealing.step()


def _predict(head, rows):
    """Return the clusters (n_rows,) of rows, as an array."""
    return _answer(head, rows).argmax(dim=1).numpy()


@torch.no_grad()
def _answer(head, rows):
    """Return the probabilities (n_rows, n_clusters) of rows, on the CPU."""
    return head(rows.to(head.linear.weight.device))[0].softmax(dim=-1).cpu()
