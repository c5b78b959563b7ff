# SPDX-License-Identifier: BSD-3-Clause
"""Choosing settings without labels.

Scorers ``f(estimator, X, y=None)``, higher is better, for the searches of scikit-learn;
a search that looks at all candidates together; and the number of clusters.
"""

from sklearn_scan._stages import NumberOfClusters
from sklearn_scan.model_selection._n_clusters import estimate_n_clusters
from sklearn_scan.model_selection._pooling import Ranking
from sklearn_scan.model_selection._scorers import (
    head_agreement_scorer,
    make_silhouette_scorer,
    neighbor_consistency_scorer,
    neighbor_modularity_scorer,
    pseudo_label_scorer,
    scan_objective_scorer,
    silhouette_scorer,
    stability_scorer,
)
from sklearn_scan.model_selection._search import LabelFreeSearch, select

__all__ = [
    "LabelFreeSearch",
    "NumberOfClusters",
    "Ranking",
    "estimate_n_clusters",
    "head_agreement_scorer",
    "make_silhouette_scorer",
    "neighbor_consistency_scorer",
    "neighbor_modularity_scorer",
    "pseudo_label_scorer",
    "scan_objective_scorer",
    "select",
    "silhouette_scorer",
    "stability_scorer",
]
