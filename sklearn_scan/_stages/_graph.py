# SPDX-License-Identifier: BSD-3-Clause
"""The graph of neighbours, by which partitions of an embedding are compared."""

from dataclasses import dataclass

import numpy as np
import torch

from sklearn_scan._engine import infer
from sklearn_scan._stages._partitions import has_edges, measure_cut
from sklearn_scan.neighbors import choose_metric, draw_some, mine_neighbors

# Samples on which partitions are found, whatever the number of all; and neighbours that
# are then mined among them.
MOST_PARTITIONED = 10_000
_K = 20
# Entries of the logits that are held at a time (64 MiB).
_BLOCK = 2**24


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
    device : torch.device
        Where heads are.
    is_learned : bool
        Whether the embedding was trained on the samples; see `MinedSamples`.
    """

    rows: torch.Tensor
    neighbors: np.ndarray
    n_clusters: int
    device: torch.device | str = "cpu"
    is_learned: bool = False

    @property
    def has_edges(self):
        """Whether any sample has a neighbour."""
        return has_edges(self.neighbors)

    def cut(self, labels):
        """Return what a partition cuts off; see `measure_cut`."""
        return measure_cut(labels, self.neighbors, self.n_clusters)

    def cut_of(self, head):
        """Return what the clusters of a head cut off."""
        return self.cut(predict_labels(head, self.rows))

    def find_best_head(self, heads):
        """Return the head whose clusters cut off the fewest neighbours.

        Among heads on rows that minimise the SCAN loss, the cut tells better than the
        loss which one agrees with people: it looks at labels alone, and every cluster
        counts as much as any other.
        """
        candidates = [heads.select(k) for k in range(heads.n_heads)]
        return candidates[int(np.argmin([self.cut_of(head) for head in candidates]))]


def draw_graph(encoder, samples, n_clusters):
    """Return all samples with their neighbours, or some with neighbours among them."""
    chosen = draw_some(len(samples), max(MOST_PARTITIONED, 20 * n_clusters))
    rest = n_clusters, samples.source.device, samples.is_learned
    rows = infer(encoder, samples.source, indices=chosen)
    if len(chosen) == len(samples):
        return GraphSample(rows, samples.neighbors, *rest)
    if samples.neighbors.shape[1] == 0:
        return GraphSample(rows, samples.neighbors[: len(chosen)], *rest)
    K = min(_K, max(1, len(chosen) // (2 * n_clusters)))
    graph = mine_neighbors(rows.numpy(), K, metric=choose_metric(rows.numpy()))
    return GraphSample(rows, graph, *rest)


@torch.no_grad()
def predict_labels(head, rows):
    """Return the clusters (n_rows,) of rows, as an array."""
    device = head.linear.weight.device
    # Logits of few rows at a time.
    parts = rows.split(max(1, _BLOCK // head.n_classes))
    labels = [head(part.to(device))[0].argmax(dim=1) for part in parts]
    return torch.cat(labels).cpu().numpy()
