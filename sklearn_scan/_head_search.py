# SPDX-License-Identifier: BSD-3-Clause
"""Step 2, its first part: many heads on the frozen embedding, of which one stays.

The paper begins step 2 with a head at random. On a frozen embedding a head costs a
tenth of a second, so that many are trained here, and they begin where the geometry of
the embedding says that clusters are: half of them at partitions of the graph of
neighbours (Ng, Jordan and Weiss, "On spectral clustering", 2001), half at those of
k-means. Among heads with equal losses, those that began there agree with people more
often than those that began at random.

(The average of the better heads, with their clusters matched, was tried in place of the
best one: it gains where heads begin at random, and nothing where they begin here.)
"""

import warnings

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import csr_array, diags_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import ArpackNoConvergence, eigsh
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from sklearn_scan._clustering import ClusterNetwork, Judge, scan_loss
from sklearn_scan._engine import NeighborPairs, infer, left_align
from sklearn_scan._nets import ClusterHeads, Encoder
from sklearn_scan._sources import ArraySource, learn_format
from sklearn_scan.neighbors import choose_metric, draw_some, mine_neighbors

# Samples on which partitions are found, whatever the number of all; and neighbours that
# are then mined among them.
_MOST_PARTITIONED = 10_000
_K = 20
# Principal components that heads are trained on; a wider embedding has little to add.
_MOST_COMPONENTS = 256
# Eigenvectors of the graph, and the size up to which all are computed at once.
_MOST_EIGENVECTORS = 128
_SMALL_GRAPH = 500
# Runs of k-means for the first start of each kind; the others are single runs.
_N_INIT = 10
# Share of samples of which a head must know the piece.
_TOLD = 0.99
# Steps with which heads are fitted to pieces, and the best head is polished; learning
# rates of both; and samples in such a step.
_FITTING_STEPS_FOR_PIECES = 2000
_FITTING_RATE = 1e-2
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
        What to minimise, and what to choose heads by.
    schedule, trainer
        See `Trainer.train`.

    Returns
    -------
    network : ClusterNetwork
        From the embedding to clusters, with one head.
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
    if fit_pieces(network.heads, rows, graph):
        # Nothing joins the clusters, so that only the entropy could move a sample from
        # one to another; and it would, where their sizes differ.
        loss.entropy_weight = 0.0
    else:
        partitions = find_partitions(rows.numpy(), graph, n_clusters, n_heads)
        fit_partitions(network.heads, rows, partitions)

    pairs = NeighborPairs(source, neighbors)
    trainer.train("clustering", network, loss, pairs, schedule)

    network = Judge(source, neighbors, loss.final_weight).select_head(network)
    return _undo_projection(network, components, whole)


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


def find_partitions(rows, neighbors, n_clusters, n_partitions):
    """Partition rows by their graph of neighbours and by k-means, in turn.

    Parameters
    ----------
    rows : ndarray of shape (n_samples, n_features)
        The embedding.
    neighbors : ndarray of shape (n_samples, K)
        Of every row; -1 stands for none.
    n_clusters, n_partitions : int
        Parts of each partition, and partitions, each from its own random start.

    Returns
    -------
    partitions : list of ndarray of shape (n_samples,)
        Numbers of clusters. Where there are no neighbours, all are of k-means.
    """
    spaces = [rows]
    if neighbors.shape[1] > 0:
        spaces.insert(0, embed_graph(neighbors, n_clusters))
    return [
        _run_kmeans(spaces[k % len(spaces)], n_clusters, 1 if k > 1 else _N_INIT)
        for k in range(n_partitions)
    ]


def _run_kmeans(rows, n_clusters, n_init):
    # Here, because this import takes a quarter of a second.
    from sklearn.cluster import KMeans

    seed = int(torch.randint(2**31 - 1, ()))
    kmeans = KMeans(n_clusters, n_init=n_init, random_state=seed)
    with warnings.catch_warnings():
        # Duplicates leave clusters empty, of which `fit` warns in the end.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return kmeans.fit_predict(rows)


def embed_graph(neighbors, n_clusters):
    """Return the spectral embedding (n_samples, n_vectors) of a graph of neighbours.

    The leading eigenvectors of the normalised adjacency matrix, each row scaled to
    length one.
    """
    n_samples = len(neighbors)
    graph = _make_graph(neighbors)
    degree = np.asarray(graph.sum(axis=1)).ravel()
    scale = diags_array(1 / np.sqrt(np.maximum(degree, 1e-12)))
    vectors = _leading_eigenvectors(
        scale @ graph @ scale, min(n_clusters, _MOST_EIGENVECTORS, n_samples)
    )
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)


def _make_graph(neighbors):
    """Return the symmetric graph of who is a neighbour of whom; -1 is nobody."""
    anchors, columns = np.nonzero(neighbors >= 0)
    edges = (anchors, neighbors[anchors, columns])
    n_samples = len(neighbors)
    graph = csr_array((np.ones(len(anchors)), edges), shape=(n_samples, n_samples))
    return (graph + graph.T) / 2


def _leading_eigenvectors(matrix, n_vectors):
    n_samples = matrix.shape[0]
    if n_samples <= max(_SMALL_GRAPH, 2 * n_vectors):
        return np.linalg.eigh(matrix.toarray())[1][:, -n_vectors:]
    start = torch.randn(n_samples, dtype=torch.float64).numpy()
    try:
        # Not to the last digit: these are starts.
        return eigsh(matrix, n_vectors, which="LA", v0=start, tol=1e-3)[1]
    except ArpackNoConvergence as stopped:
        return stopped.eigenvectors if stopped.eigenvectors.size else start[:, None]


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
    n_pieces, pieces = connected_components(_make_graph(neighbors), directed=False)
    if n_pieces != heads.n_clusters:
        return False
    partitions = [pieces] * heads.n_heads
    fit_partitions(heads, rows, partitions, _FITTING_STEPS_FOR_PIECES)
    told = _answer(heads, rows.to(heads.linear.weight.device)).argmax(dim=1).cpu()
    return bool((told.numpy() == pieces).mean() > _TOLD)


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


def polish_head(network, source, neighbors, entropy_weight):
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
    """
    features = infer(network.encoder, source)
    neighbors, counts = left_align(neighbors)
    answers = _answer(network.heads, features.to(source.device)).cpu()
    draw = _draw_agreeing(answers, neighbors, counts)
    optimizer, annealing = _begin_steps(
        network.heads, _POLISHING_STEPS, _POLISHING_RATE
    )
    for _ in range(_POLISHING_STEPS):
        anchors = torch.randint(len(features), (min(_BATCH, len(features)),))
        pairs = features[torch.cat([anchors, draw(anchors)])]
        logits = network.heads(pairs.to(source.device)).chunk(2, dim=1)
        _step(scan_loss(*logits, entropy_weight)[0].sum(), optimizer, annealing)


def _draw_agreeing(answers, neighbors, counts):
    """Return a function from samples to one neighbour of each."""

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


@torch.no_grad()
def _answer(head, rows):
    return head(rows)[0].softmax(dim=-1)
