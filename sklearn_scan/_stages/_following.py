# SPDX-License-Identifier: BSD-3-Clause
"""Where clusters are of very different sizes: heads that follow a partition."""

from sklearn.utils.class_weight import compute_sample_weight

from sklearn_scan._engine import SampleDraw
from sklearn_scan._nets import LinearHeads
from sklearn_scan._stages._graph import predict_labels
from sklearn_scan._stages._linear_steps import fit_partitions, minimise_loss

# How much less a partition, and then a head that follows it, must cut for the best head
# to give way: as a share, on rows and on an embedding that was trained on the samples,
# and at least; and the number of heads that follow.
_LESS_CUT = 0.05
_LESS_CUT_TRAINED = 0.2
_LEAST_CUT = 0.002
_N_FOLLOWERS = 3
_STEPS = 600
_RATE = 1e-2


def respect_sizes(head, graph, partitions, follow):
    """Return a head that follows a partition, where one is clearly better.

    The SCAN loss gains by splitting a large cluster and merging two small ones. Where
    the head cuts off clearly more neighbours than some partition does, others are
    trained from this partition. The best of them is returned if it cuts off less, too.
    Clearly more is a twentieth on rows, and a fifth on an embedding that was trained on
    the samples, where equal sizes are the better guide.

    Parameters
    ----------
    head : LinearHeads
        The best one of the search.
    graph : GraphSample
        What was partitioned.
    partitions : list of ndarray of shape (n_rows,)
        Numbers of clusters.
    follow : callable
        Returns heads that follow a partition; see `follow_partition`.

    Returns
    -------
    head : LinearHeads or None
        None where the best one of the search stays.
    """
    cut = graph.cut_of(head)
    share = _LESS_CUT_TRAINED if graph.is_learned else _LESS_CUT
    limit = cut - max(share * cut, _LEAST_CUT)
    partition = min(partitions, key=graph.cut)
    if graph.cut(partition) >= limit:
        return None
    follower = graph.find_best_head(follow(partition))
    return follower if graph.cut_of(follower) < limit else None


def follow_partition(features, graph, draw_neighbors, loss, most_steps, partition):
    """Train heads that begin at a partition and keep the sizes of its clusters.

    Samples are drawn so that each cluster is seen equally often: equal shares, which
    the SCAN loss prefers, then are the sizes of the partition.

    Parameters
    ----------
    features : Tensor of shape (n_samples, n_features)
        What heads are given, of all samples.
    graph : GraphSample
        What was partitioned.
    draw_neighbors : callable
        Returns a neighbour of each of the samples of given indices.
    loss : SCANLoss
        That of the search.
    most_steps : int
        Bound of the number of steps.
    partition : ndarray of shape (n_rows,)
        Numbers of clusters.

    Returns
    -------
    heads : LinearHeads
        Three of them.
    """
    heads = LinearHeads(features.shape[1], graph.n_clusters, _N_FOLLOWERS)
    heads.to(graph.device)
    fit_partitions(heads, graph.rows, [partition] * _N_FOLLOWERS)
    labels = predict_labels(heads.select(0), features)
    draw = SampleDraw(len(features), compute_sample_weight("balanced", labels))

    def draw_pairs(n_drawn):
        anchors = draw(n_drawn)
        return anchors, draw_neighbors(anchors)

    n_steps = min(_STEPS, most_steps)
    minimise_loss(heads, features, draw_pairs, loss, n_steps, _RATE)
    return heads
