# SPDX-License-Identifier: BSD-3-Clause
"""Step 1: pretext tasks, each a scikit-learn transformer of its own."""

from sklearn_scan.pretext._byol import BYOL
from sklearn_scan.pretext._deep_cluster import DeepCluster
from sklearn_scan.pretext._feature_decoupling import FeatureDecoupling
from sklearn_scan.pretext._instance_discrimination import InstanceDiscrimination
from sklearn_scan.pretext._moco import MoCo
from sklearn_scan.pretext._pretrained import Pretrained
from sklearn_scan.pretext._rotnet import RotNet
from sklearn_scan.pretext._simclr import SimCLR
from sklearn_scan.pretext._vicreg import VICReg

__all__ = [
    "BYOL",
    "DeepCluster",
    "FeatureDecoupling",
    "InstanceDiscrimination",
    "MoCo",
    "Pretrained",
    "RotNet",
    "SimCLR",
    "VICReg",
]
