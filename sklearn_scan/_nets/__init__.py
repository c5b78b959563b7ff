# SPDX-License-Identifier: BSD-3-Clause
"""Networks: encoders by name, class or factory, and the heads on top of them."""

from sklearn_scan._nets._cluster_network import ClusterNetwork
from sklearn_scan._nets._encoders import (
    ENCODERS,
    ConvNet,
    Encoder,
    build_encoder,
    build_network,
    wrap_network,
)
from sklearn_scan._nets._heads import (
    LinearHeads,
    MergedHeads,
    Projector,
    UnitLength,
    at_least_float32,
    unit_rows,
)

__all__ = [
    "ENCODERS",
    "ClusterNetwork",
    "ConvNet",
    "Encoder",
    "LinearHeads",
    "MergedHeads",
    "Projector",
    "UnitLength",
    "at_least_float32",
    "build_encoder",
    "build_network",
    "unit_rows",
    "wrap_network",
]
