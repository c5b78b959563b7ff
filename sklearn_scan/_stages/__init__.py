# SPDX-License-Identifier: BSD-3-Clause
"""What `fit` runs, in this order.

====================  =========================================================
`_counting`           the number of clusters, where it is not given
`_mining`             the nearest neighbours of every sample
`_head_search`        many heads on the frozen embedding, of which one stays
`_clustering`         section 2.2 of the paper: the whole network, on views
`_self_labeling`      section 2.3: the network learns from its confident answers
`_selection`          keeps or discards what the last two return
====================  =========================================================

Stages return new networks, or the reason why there is none, and leave those that they
are given as they are. `SCANClustering.fit` warns of reasons.
"""

from sklearn_scan._stages._clustering import cluster
from sklearn_scan._stages._context import SEEDS, FitContext, MinedSamples
from sklearn_scan._stages._counting import (
    MOST_SAMPLES,
    N_PARTS,
    NumberOfClusters,
    count_clusters,
)
from sklearn_scan._stages._evaluation import Evaluator
from sklearn_scan._stages._finishing import (
    explain_empty_clusters,
    find_prototypes,
    make_net,
)
from sklearn_scan._stages._head_search import search_heads, start_heads
from sklearn_scan._stages._mining import find_neighbors
from sklearn_scan._stages._partitions import make_graph, unit_rows
from sklearn_scan._stages._search_once import search_heads_once
from sklearn_scan._stages._selection import Selector
from sklearn_scan._stages._self_labeling import make_confidence_loss, self_label
from sklearn_scan._stages._trials import check_countable, list_numbers, try_numbers

__all__ = [
    "MOST_SAMPLES",
    "N_PARTS",
    "SEEDS",
    "Evaluator",
    "FitContext",
    "MinedSamples",
    "NumberOfClusters",
    "Selector",
    "check_countable",
    "cluster",
    "count_clusters",
    "explain_empty_clusters",
    "find_neighbors",
    "find_prototypes",
    "list_numbers",
    "make_confidence_loss",
    "make_graph",
    "make_net",
    "search_heads",
    "search_heads_once",
    "self_label",
    "start_heads",
    "try_numbers",
    "unit_rows",
]
