# SPDX-License-Identifier: BSD-3-Clause
"""A stage of training, as a value."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from sklearn_scan._engine._data import Samples
from sklearn_scan._engine._schedule import Schedule


@dataclass(frozen=True)
class Stage:
    """What is trained, on what, by which loss and for how long.

    Attributes
    ----------
    name : str
        Under which its records, its checkpoint and its cached weights are kept.
    module, criterion : nn.Module
        What is trained, in place, as `StageNet` describes.
    data : Samples
        What it learns from.
    schedule : Schedule
        How long and how fast.
    snapshot : callable or None, default=None
        Returns the attributes of an estimator that is ready to predict with the module
        as it is in the middle of the training; called where a callback asks for them.
    """

    name: str
    module: nn.Module
    criterion: nn.Module
    data: Samples
    schedule: Schedule
    snapshot: Callable | None = None
