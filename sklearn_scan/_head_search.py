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

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_sample_weight
from torch import nn

from sklearn_scan._clustering import ClusterNetwork, Judge, scan_loss
from sklearn_scan._engine import NeighborPairs, SampleDraw, infer, left_align
from sklearn_scan._nets import ClusterHeads, Encoder
from sklearn_scan._partitions import (
    find_partitions,
    find_pieces,
    has_edges,
    measure_cut,
)
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
# How much less a partition, and then a head that follows it, must cut for the best head
# to give way: as a share, on rows and on an embedding that was trained on the samples,
# and at least; and the number of heads that follow.
_LESS_CUT = 0.05
_LESS_CUT_TRAINED = 0.2
_LEAST_CUT = 0.002
_N_FOLLOWERS = 3
# Steps with which heads are fitted to pieces, follow a partition, and are polished (the
# latter two at most as many as the search itself); their learning rates; and samples in
# such a step.
_FITTING_STEPS_FOR_PIECES = 2000
_FITTING_RATE = 1e-2
_FEW_FEATURES = 8
_FOLLOWING_STEPS = 600
_FOLLOWING_RATE = 1e-2
_POLISHING_STEPS = 300
_POLISHING_RATE = 3e-3
_BATCH = 512
# Entries of the logits that are held at a time (64 MiB).
_BLOCK = 2**24


def search_heads(source, neighbors, n_clusters, n_heads, loss, schedule, run):
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
    schedule : Schedule
        How long and how fast.
    run : Run
        Trains, and has the seeds.

    Returns
    -------
    network : ClusterNetwork
        From the embedding to clusters, with one head.
    sample_weight : ndarray of shape (n_samples,) or None
        How often each sample is to be drawn from here on, so that all clusters are seen
        equally often. None to draw all equally often.
    """
    whole = source
    source, components = project(source)
    network = make_heads(
        source, n_clusters, n_heads, is_projected=components is not None
    )
    sample = draw_graph(network.encoder, source, neighbors, n_clusters)
    partitions = begin_heads(network.heads, sample, loss)

    pairs = NeighborPairs(source, neighbors)
    run.trainer.train("head_search", network, loss, pairs, schedule)

    # On an embedding that was trained on the samples, equal sizes are the better guide.
    if sample.has_edges and loss.n_steps is not None:
        network.heads = sample.select_head(network.heads)
    else:
        Judge(source, neighbors, loss.final_weight).select_head(network)
    # Where the graph falls into clusters, their sizes are known already.
    has_sizes = not partitions
    if sample.has_edges and not has_sizes:
        with run.isolated("following"):
            has_sizes = respect_sizes(
                network,
                sample,
                partitions,
                pairs,
                loss,
                schedule.n_steps(len(source)),
            )
    sample_weight = None
    if has_sizes:
        labels = predict_labels(network.heads, infer(network.encoder, source))
        sample_weight = compute_sample_weight("balanced", labels)
    return _undo_projection(network, components, whole), sample_weight


@dataclass(frozen=True)
class GraphSample:
    """Samples of an embedding with the graph of their neighbours.

    Attributes
    ----------
    rows : Tensor of shape (n_rows, n_features)
        What heads are given.
    neighbors : ndarray of shape (n_rows, K)
        The neighbours of each; -1 stands for none.
    n_clusters : int
        Clusters that are looked for.
    """

    rows: torch.Tensor
    neighbors: np.ndarray
    n_clusters: int

    @property
    def has_edges(self):
        """Whether anybody has a neighbour."""
        return has_edges(self.neighbors)

    def cut(self, labels):
        """Return what a partition cuts off; see `measure_cut`."""
        return measure_cut(labels, self.neighbors, self.n_clusters)

    def cut_of(self, head):
        """Return what the clusters of a head cut off."""
        return self.cut(predict_labels(head, self.rows))

    def select_head(self, heads):
        """Return the head whose clusters cut off the fewest neighbours.

        Among heads on rows that minimise the SCAN loss, the cut tells better than the
        loss which one agrees with people: it looks at labels alone, and every cluster
        counts as much as any other.
        """
        candidates = [heads.select(k) for k in range(heads.n_heads)]
        return candidates[int(np.argmin([self.cut_of(head) for head in candidates]))]


def draw_graph(encoder, source, neighbors, n_clusters):
    """Return all samples with their neighbours, or some with neighbours among them."""
    chosen = draw_some(len(source), max(_MOST_PARTITIONED, 20 * n_clusters))
    rows = infer(encoder, source, indices=chosen)
    if len(chosen) == len(source):
        return GraphSample(rows, neighbors, n_clusters)
    if neighbors.shape[1] == 0:
        return GraphSample(rows, neighbors[: len(chosen)], n_clusters)
    K = min(_K, max(1, len(chosen) // (2 * n_clusters)))
    graph = mine_neighbors(rows.numpy(), K, metric=choose_metric(rows.numpy()))
    return GraphSample(rows, graph, n_clusters)


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


def begin_heads(heads, sample, loss):
    """Train heads, in place, to tell partitions of a sample, and return these.

    None are returned where the graph falls into clusters, and heads can tell these.
    Then only the entropy could move a sample from one cluster to another, and it would
    where their sizes differ; so its weight becomes zero.
    """
    if fit_pieces(heads, sample.rows, sample.neighbors):
        loss.entropy_weight = 0.0
        return []
    partitions = find_partitions(
        sample.rows.numpy(), sample.neighbors, heads.n_clusters, heads.n_heads
    )
    fit_partitions(heads, sample.rows, partitions)
    return partitions


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
    labels = predict_labels(heads.select(0), rows)
    return bool((labels == pieces).mean() > _TOLD)


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
    # Of few features, weights must be large to tell three clusters in a row.
    lr = _FITTING_RATE * max(1, _FEW_FEATURES / rows.shape[1])
    optimizer, lr_schedule = _begin_steps(heads, n_steps, lr)
    for _ in range(n_steps):
        batch = torch.randint(len(rows), (min(_BATCH, len(rows)),)).to(device)
        loss = F.cross_entropy(
            heads(rows[batch]).flatten(0, 1), targets[:, batch].flatten()
        )
        # Summed over heads: each learns as if it were alone.
        _step(heads.n_heads * loss, optimizer, lr_schedule)


# What becomes of the best.


def respect_sizes(network, sample, partitions, pairs, loss, most_steps):
    """Let the head give way, where a partition of the sample is clearly better.

    The SCAN loss gains by splitting a large cluster and merging two small ones. Where
    the head cuts off clearly more neighbours than some partition does, others are
    trained from this partition. The best of them takes the place of the head if it cuts
    off less, too. Clearly more is a twentieth on rows, and a fifth on an embedding that
    was trained on the samples, where equal sizes are the better guide.

    Parameters
    ----------
    network : ClusterNetwork
        With one head, which is replaced in place.
    sample : GraphSample
        What was partitioned.
    partitions : list of ndarray of shape (n_rows,)
        Numbers of clusters.
    pairs : NeighborPairs
        All samples, with their neighbours.
    loss : SCANLoss
        That of the head.
    most_steps : int
        Bound of the steps with which heads follow the partition.

    Returns
    -------
    is_replaced : bool
        Whether the head was replaced.
    """
    cut = sample.cut_of(network.heads)
    share = _LESS_CUT_TRAINED if loss.n_steps is None else _LESS_CUT
    limit = cut - max(share * cut, _LEAST_CUT)
    partition = min(partitions, key=sample.cut)
    if sample.cut(partition) >= limit:
        return False
    heads = follow_partition(partition, sample, network, pairs, loss, most_steps)
    head = sample.select_head(heads)
    if sample.cut_of(head) >= limit:
        return False
    network.heads = head
    return True


def follow_partition(partition, sample, network, pairs, loss, most_steps):
    """Train heads that begin at a partition and keep the sizes of its clusters.

    Samples are drawn so that each cluster is seen equally often: equal shares, which
    the SCAN loss prefers, then are the sizes of the partition.

    Parameters
    ----------
    partition : ndarray of shape (n_rows,)
        Numbers of clusters.
    sample : GraphSample
        What was partitioned.
    network : ClusterNetwork
        Whose encoder the heads are for.
    pairs, loss, most_steps
        See `respect_sizes`.

    Returns
    -------
    heads : ClusterHeads
        Three of them.
    """
    features = infer(network.encoder, pairs.source)
    heads = ClusterHeads(features.shape[1], sample.n_clusters, _N_FOLLOWERS)
    heads.to(network.heads.linear.weight.device)
    fit_partitions(heads, sample.rows, [partition] * _N_FOLLOWERS)
    labels = predict_labels(heads.select(0), features)
    draw = SampleDraw(len(features), compute_sample_weight("balanced", labels))
    n_steps = min(_FOLLOWING_STEPS, most_steps)
    _minimise_loss(
        heads,
        features,
        draw,
        pairs.draw_neighbors,
        loss.final_weight,
        n_steps,
        _FOLLOWING_RATE,
    )
    return heads


def polish_head(
    network, source, neighbors, entropy_weight, most_steps, sample_weight=None
):
    """Train a head on, in place, with the neighbours that it agrees with.

    A neighbour is drawn with probability proportional to ``<p, q>``, the predicted
    probability, before polishing, that it is in the same cluster: mined neighbours of
    another kind count less, as in the weighted pairs of TEMI (Adaloglou, Michels,
    Kalisch and Kollmann, BMVC 2023).

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
    most_steps : int
        Bound of the number of steps.
    sample_weight : ndarray of shape (n_samples,) or None, default=None
        How often each sample is drawn, relative to the others. None to draw all equally
        often.
    """
    features = infer(network.encoder, source)
    neighbors, counts = left_align(neighbors)
    probabilities = _predict_probabilities(network.heads, features)

    def draw_neighbors(anchors):
        chosen = neighbors[anchors]
        agreement = (probabilities[anchors, None] * probabilities[chosen]).sum(dim=2)
        is_gap = torch.arange(chosen.shape[1]) >= counts[anchors, None]
        agreement = agreement.clamp_min(1e-8).masked_fill(is_gap, 0)
        return chosen.gather(1, torch.multinomial(agreement, 1)).squeeze(1)

    draw = SampleDraw(len(features), sample_weight)
    n_steps = min(_POLISHING_STEPS, most_steps)
    _minimise_loss(
        network.heads,
        features,
        draw,
        draw_neighbors,
        entropy_weight,
        n_steps,
        _POLISHING_RATE,
    )


def _minimise_loss(heads, features, draw, draw_neighbors, entropy_weight, n_steps, lr):
    """Minimise the SCAN loss of heads, in place, on samples and neighbours drawn."""
    device = heads.linear.weight.device
    optimizer, lr_schedule = _begin_steps(heads, n_steps, lr)
    for _ in range(n_steps):
        anchors = draw(min(_BATCH, len(features)))
        pairs = features[torch.cat([anchors, draw_neighbors(anchors)])]
        logits = heads(pairs.to(device)).chunk(2, dim=1)
        _step(scan_loss(*logits, entropy_weight)[0].sum(), optimizer, lr_schedule)


def _begin_steps(heads, n_steps, lr):
    optimizer = torch.optim.AdamW(heads.parameters(), lr=lr, fused=True)
    lr_schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        lr,
        total_steps=max(n_steps, 2),
        # Torch divides by zero where the rise takes exactly one step.
        pct_start=0.1 if n_steps > 10 else 0.05,
    )
    return optimizer, lr_schedule


def _step(loss, optimizer, lr_schedule):
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    lr_schedule.step()


@torch.no_grad()
def predict_labels(head, rows):
    """Return the clusters (n_rows,) of rows, as an array."""
    device = head.linear.weight.device
    # Logits of few rows at a time.
    parts = rows.split(max(1, _BLOCK // head.n_clusters))
    labels = [head(part.to(device))[0].argmax(dim=1).cpu() for part in parts]
    return torch.cat(labels).numpy()


@torch.no_grad()
def _predict_probabilities(head, rows):
    """Return the probabilities (n_rows, n_clusters) of rows, on the CPU."""
    return head(rows.to(head.linear.weight.device))[0].softmax(dim=-1).cpu()
