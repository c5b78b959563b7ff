# SPDX-License-Identifier: BSD-3-Clause
"""Names for the types of the public interface."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

PathLike: TypeAlias = str | os.PathLike
#: Arrays, tensors, a folder, paths, or pictures: whatever `fit` takes.
SamplesLike: TypeAlias = ArrayLike | torch.Tensor | PathLike | Sequence[Any]
Labels: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float32]
RandomState: TypeAlias = int | np.random.RandomState | None
Device: TypeAlias = str | torch.device
Precision: TypeAlias = Literal["auto", "float32", "bfloat16", "float16"]
Shape: TypeAlias = Sequence[int] | None
OnError: TypeAlias = Literal["raise", "skip"]
EncoderLike: TypeAlias = str | Callable[..., Any]
ViewsLike: TypeAlias = str | tuple | Callable[..., Any]
OptimizerLike: TypeAlias = str | Callable[..., Any]
LRSchedule: TypeAlias = Literal["one_cycle", "cosine", "constant"]
WeightsLike: TypeAlias = PathLike | Mapping[str, Any] | None
AutoInt: TypeAlias = int | Literal["auto"]
ClusterSizes: TypeAlias = ArrayLike | Literal["auto", "equal"]
AutoFloat: TypeAlias = float | Literal["auto"]
