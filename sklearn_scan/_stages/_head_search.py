# SPDX-License-Identifier: BSD-3-Clause
"""Step 2, its first part: many heads on the frozen embedding, of which one stays.

The paper begins step 2 with a head at random. On a frozen embedding a head costs a
tenth of a second, so that many are trained here, and they begin where the geometry of
the embedding says that clusters are: half of them at partitions of the graph of
neighbours (Ng, Jordan and Weiss, "On spectral clustering", 2001), half at those of
k-means. Among heads with equal losses, those that began there agree with people more
often than those that began at random.

On rows the head stays that cuts off the fewest neighbours, and on an embedding that was
trained on the samples that with the lowest loss. As the SCAN loss prefers clusters of
equal sizes, all heads may split a large cluster and merge small ones; then a partition
cuts off fewer, and heads are trained that follow it (`follow_partition`).

(The average of the better heads, with their clusters matched, was tried in place of the
best one: it gains where heads begin at random, and nothing where they begin here.)
"""

from dataclasses import replace
from functools import partial

import torch
from sklearn.utils.class_weight import compute_sample_weight
from torch import nn

from sklearn_scan._engine import SampleDraw, Stage, infer
from sklearn_scan._inputs import ArraySource, learn_format
from sklearn_scan._losses import SCANLoss
from sklearn_scan._nets import ClusterNetwork, Encoder, LinearHeads
from sklearn_scan._stages._evaluation import Evaluator
from sklearn_scan._stages._following import follow_partition, respect_sizes
from sklearn_scan._stages._graph import MOST_PARTITIONED, draw_graph, predict_labels
from sklearn_scan._stages._linear_steps import fit_partitions, minimise_loss
from sklearn_scan._stages._partitions import find_partitions, find_pieces
from sklearn_scan._stages._polishing import polish_head
from sklearn_scan.neighbors import draw_some

# Principal components that heads are trained on; a wider embedding has little to add.
_MOST_COMPONENTS = 256
# Heads that are trained to the end on an embedding that was trained on the samples.
_MOST_TRAINED = 20
# Share of samples of which a head must know the piece, and steps to learn it: 200 are
# enough where pieces are far apart; where one sample is still wrong, 2,000 more follow.
_TOLD = 0.99
_FITTING_STEPS_FOR_PIECES = (200, 2000)


def search_heads(samples, n_clusters, n_heads, loss, plan, context, follows=True):
    """Train heads on a frozen embedding, and keep the best.

    Parameters
    ----------
    samples : MinedSamples
        The embedding, one row per sample, and the neighbours.
    n_clusters, n_heads : int
        Clusters per head, and heads.
    loss : SCANLoss
        What to minimise.
    plan : StagePlan
        How long and how fast.
    context : FitContext
        Trains, and has the seeds.
    follows : bool, default=True
        Whether heads may follow a partition of unequal sizes.

    Returns
    -------
    network : ClusterNetwork
        From the embedding to clusters, with one head.
    sample_weight : ndarray of shape (n_samples,) or None
        How often each sample is to be drawn from here on, so that all clusters are seen
        equally often. None to draw all equally often.
    """
    n_steps = plan.schedule.n_steps(len(samples))
    source, components = project(samples.source)
    network = make_heads(
        source, n_clusters, n_heads, is_projected=components is not None
    )
    narrow = replace(samples, source=source)
    graph = draw_graph(network.encoder, narrow, n_clusters)
    partitions = begin_heads(network.heads, graph)
    if not partitions:
        # Only the entropy could move a sample from one piece of the graph to another,
        # and it would where their sizes differ.
        loss = SCANLoss(0.0, loss.n_steps)

    pairs = narrow.make_pairs()
    features = infer(network.encoder, source)
    if partitions and samples.is_learned:
        shortlist_heads(network, narrow, features, pairs, loss, plan.schedule)
    context.trainer.run(Stage("head_search", network, loss, pairs, plan.schedule))

    select_head(network, narrow, graph, loss)
    # Where the graph falls into clusters, their sizes are known already.
    has_sizes = not partitions
    if follows and graph.has_edges and not has_sizes:
        with context.isolated("following"):
            follow = partial(
                follow_partition, features, graph, pairs.draw_neighbors, loss, n_steps
            )
            follower = respect_sizes(network.heads, graph, partitions, follow)
        if has_sizes := follower is not None:
            network.heads = follower
    if has_sizes:
        labels = predict_labels(network.heads, features)
        weight = compute_sample_weight("balanced", labels)
        samples = replace(samples, sample_weight=weight)
    network = _undo_projection(network, components, samples.source)
    with context.isolated("polishing"):
        polish_head(network, samples, loss, n_steps)
    return network, samples.sample_weight


def start_heads(encoder, n_clusters, n_heads, device):
    """Put heads at random on an encoder, where there is no search of heads."""
    heads = LinearHeads(encoder.n_features, n_clusters, n_heads)
    return ClusterNetwork(encoder, heads, nn.Identity()).to(device)


def shortlist_heads(network, samples, features, pairs, loss, schedule):
    """Leave a network, in place, with the best heads after a short training.

    Which solution a head will reach shows early: on embeddings of digits, letters and
    drawings, the best of those that stay ends where the best of all would.

    Parameters
    ----------
    network : ClusterNetwork
        With heads that begin at partitions.
    samples : MinedSamples
        By which heads are compared.
    features : Tensor of shape (n_samples, n_features)
        What heads are given, of all samples.
    pairs : NeighborPairs
        Draws neighbours.
    loss : SCANLoss
        What to minimise.
    schedule : Schedule
        That of the search, of which this takes a quarter of the steps.
    """
    if network.heads.n_heads <= _MOST_TRAINED:
        return
    draw = SampleDraw(len(features))

    def draw_pairs(n_drawn):
        anchors = draw(n_drawn)
        return anchors, pairs.draw_neighbors(anchors)

    n_steps = schedule.n_steps(len(features)) // 4
    minimise_loss(network.heads, features, draw_pairs, loss, n_steps, schedule.lr)
    evaluator = Evaluator(samples, loss.final_weight, sizes=loss.sizes)
    losses = evaluator.losses(network).nan_to_num(nan=torch.inf)
    best = losses.argsort()[:_MOST_TRAINED].tolist()
    network.heads = network.heads.select(*best)


def select_head(network, samples, graph, loss):
    """Leave a network, in place, with its best head alone.

    By the cut in the graph, or by the loss on an embedding that was trained on the
    samples, where equal sizes are the better guide.
    """
    if graph.has_edges and not graph.is_learned:
        network.heads = graph.find_best_head(network.heads)
    else:
        evaluator = Evaluator(samples, loss.final_weight, sizes=loss.sizes)
        evaluator.keep_best_head(network)


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
    rows = infer(encoder, source, indices=draw_some(len(source), MOST_PARTITIONED))
    _, _, components = torch.pca_lowrank(
        rows, min(_MOST_COMPONENTS, len(rows)), niter=4
    )
    matrix = components.to(source.device)
    projected = infer(lambda batch: encoder(batch) @ matrix, source).numpy()
    return ArraySource(projected, learn_format(projected), source.device), components


def make_heads(source, n_clusters, n_heads, *, is_projected=False):
    """Make a network from an embedding, or its components, to clusters, at random."""
    encoder = nn.Identity() if is_projected else _standardise(source)
    heads = LinearHeads(source.format.n_features, n_clusters, n_heads)
    return ClusterNetwork(encoder, heads, nn.Identity()).to(source.device)


def _standardise(source):
    n_features = source.format.n_features
    return Encoder(nn.Identity(), source.format, n_features).to(source.device)


def _undo_projection(network, components, source):
    """Return the same network with heads on the embedding itself."""
    if components is None:
        return network
    old, wide = network.heads.linear, make_heads(source, network.heads.n_classes, 1)
    with torch.no_grad():
        wide.heads.linear.weight.copy_(old.weight.cpu() @ components.T)
        wide.heads.linear.bias.copy_(old.bias)
    return wide.eval()


def begin_heads(heads, graph):
    """Train heads, in place, to tell partitions of a graph, and return these.

    The list is empty if the graph has exactly as many connected components as there are
    clusters, and linear heads can separate them.
    """
    if fit_pieces(heads, graph.rows, graph.neighbors):
        return []
    partitions = find_partitions(
        graph.rows.numpy(), graph.neighbors, heads.n_classes, heads.n_heads
    )
    fit_partitions(heads, graph.rows, partitions)
    return partitions


def fit_pieces(heads, rows, neighbors):
    """Train heads, in place, to tell the pieces of a graph, if there are as many.

    Parameters
    ----------
    heads : LinearHeads
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
    if n_pieces != heads.n_classes:
        return False
    for n_steps in _FITTING_STEPS_FOR_PIECES:
        fit_partitions(heads, rows, [pieces] * heads.n_heads, n_steps)
        told = (predict_labels(heads.select(0), rows) == pieces).mean()
        if told == 1:
            break
    return bool(told > _TOLD)
