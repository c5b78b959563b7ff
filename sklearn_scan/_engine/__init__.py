# SPDX-License-Identifier: BSD-3-Clause
"""How a network learns: the one skorch net that all stages share.

The engine knows nothing of SCAN. A stage is a module, whose `forward` draws the views
it needs and returns what its loss needs, and a criterion, whose `forward` returns the
loss to minimise and a dictionary of what is worth recording. A module that must see all
samples before an epoch has `begin_epoch` (see `StageNet`). A stage knows nothing of
devices, precision, checkpoints or progress.
"""

from sklearn_scan._engine._data import (
    Batches,
    IndexedSamples,
    NeighborPairs,
    SampleDraw,
    Samples,
    left_align,
)
from sklearn_scan._engine._fingerprint import fingerprint
from sklearn_scan._engine._memory_budget import inference_batch, make_step
from sklearn_scan._engine._net import StageNet
from sklearn_scan._engine._progress import FitProgress
from sklearn_scan._engine._runtime import (
    Runtime,
    resolve_seed,
    spawn_seeds,
    training_turn,
)
from sklearn_scan._engine._schedule import LR_SCHEDULES, OPTIMIZERS, Schedule
from sklearn_scan._engine._trainer import (
    Trainer,
    Unfinished,
    infer,
    is_caching,
    one_at_a_time,
    settle_statistics,
    wrap_trained,
)

__all__ = [
    "LR_SCHEDULES",
    "OPTIMIZERS",
    "Batches",
    "FitProgress",
    "IndexedSamples",
    "NeighborPairs",
    "Runtime",
    "SampleDraw",
    "Samples",
    "Schedule",
    "StageNet",
    "Trainer",
    "Unfinished",
    "fingerprint",
    "infer",
    "inference_batch",
    "is_caching",
    "left_align",
    "make_step",
    "one_at_a_time",
    "resolve_seed",
    "settle_statistics",
    "spawn_seeds",
    "training_turn",
    "wrap_trained",
]
