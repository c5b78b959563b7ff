# SPDX-License-Identifier: BSD-3-Clause
"""How a network learns: the one skorch net that all stages share.

The engine knows nothing of SCAN. A stage is a module, whose `forward` draws the views
it needs and returns what its loss needs, and a criterion, whose `forward` returns the
loss to minimise and a dictionary of what is worth recording. A module that must see all
samples before an epoch has `begin_epoch` (see `StageNet`). A stage knows nothing of
devices, precision, checkpoints or progress.
"""

from sklearn_scan._engine._allocator import kept_memory
from sklearn_scan._engine._cache import StageCache, Unfinished, identify_estimator
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
from sklearn_scan._engine._optimizers import OPTIMIZERS
from sklearn_scan._engine._progress import FitProgress
from sklearn_scan._engine._row_store import RowStore
from sklearn_scan._engine._runtime import (
    Runtime,
    inference,
    resolve_seed,
    spawn_seeds,
    training_turn,
)
from sklearn_scan._engine._schedule import LR_SCHEDULES, Schedule
from sklearn_scan._engine._stage import Stage
from sklearn_scan._engine._trainer import (
    Trainer,
    infer,
    refresh_statistics,
    wrap_trained,
)
from sklearn_scan._warnings import warn_user

__all__ = [
    "LR_SCHEDULES",
    "OPTIMIZERS",
    "Batches",
    "FitProgress",
    "IndexedSamples",
    "NeighborPairs",
    "RowStore",
    "Runtime",
    "SampleDraw",
    "Samples",
    "Schedule",
    "Stage",
    "StageCache",
    "StageNet",
    "Trainer",
    "Unfinished",
    "fingerprint",
    "identify_estimator",
    "infer",
    "inference",
    "inference_batch",
    "kept_memory",
    "left_align",
    "make_step",
    "refresh_statistics",
    "resolve_seed",
    "spawn_seeds",
    "training_turn",
    "warn_user",
    "wrap_trained",
]
