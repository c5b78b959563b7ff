# SPDX-License-Identifier: BSD-3-Clause
"""Looking at what a clusterer sees, and at what it found."""

from sklearn_scan.inspection._confusion import ConfusionDisplay
from sklearn_scan.inspection._curves import TrainingCurvesDisplay
from sklearn_scan.inspection._diagnosis import Diagnosis, Finding
from sklearn_scan.inspection._gallery import apply_edits, write_gallery
from sklearn_scan.inspection._map import EmbeddingMapDisplay
from sklearn_scan.inspection._n_clusters import NumberOfClustersDisplay
from sklearn_scan.inspection._neighbors import NeighborsDisplay
from sklearn_scan.inspection._prototypes import PrototypesDisplay
from sklearn_scan.inspection._ranking import RankingDisplay
from sklearn_scan.inspection._reliability import ReliabilityDisplay
from sklearn_scan.inspection._sizes import ClusterSizesDisplay
from sklearn_scan.inspection._stability import StabilityDisplay, cluster_stability
from sklearn_scan.inspection._views import ViewsDisplay, draw_views, plot_views

__all__ = [
    "ClusterSizesDisplay",
    "ConfusionDisplay",
    "Diagnosis",
    "EmbeddingMapDisplay",
    "Finding",
    "NeighborsDisplay",
    "NumberOfClustersDisplay",
    "PrototypesDisplay",
    "RankingDisplay",
    "ReliabilityDisplay",
    "StabilityDisplay",
    "TrainingCurvesDisplay",
    "ViewsDisplay",
    "apply_edits",
    "cluster_stability",
    "draw_views",
    "plot_views",
    "write_gallery",
]
