# SPDX-License-Identifier: BSD-3-Clause
"""Settings that are chosen without labels."""

from sklearn_scan._stages import NumberOfClusters
from sklearn_scan.model_selection._n_clusters import estimate_n_clusters

__all__ = [
    "NumberOfClusters",
    "estimate_n_clusters",
]
