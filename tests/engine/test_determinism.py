# SPDX-License-Identifier: BSD-3-Clause
"""`torch.use_deterministic_algorithms(True)` on a GPU, as seen from a CPU.

Some operations raise there, as they have no deterministic implementation. Which they
are is in the documentation of torch; here are those that images could go through.
Views are left out, which have no gradient, and are told by other tests.
"""

import numpy as np
import pytest
import torch
from helpers import TASKS
from torch.utils._python_dispatch import TorchDispatchMode

from sklearn_scan import SCANClustering, TrainingConfig, pretext

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

IMAGES = np.random.default_rng(0).random((40, 9, 8), dtype=np.float32)
UNDETERMINED = {
    "_adaptive_avg_pool2d_backward",
    "adaptive_max_pool2d_backward",
    "grid_sampler_2d_backward",
    "histc",
    "kthvalue",
    "max_unpool2d",
    "median.dim",
    "nanmedian.dim",
    "nll_loss2d_forward",
    "put_",
    "reflection_pad2d_backward",
    "upsample_bicubic2d_backward",
    "upsample_bilinear2d_backward",
}


class Seen(TorchDispatchMode):
    """Notes the operations that are called, and refuses weighted counts."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function).removeprefix("aten.").removesuffix(".default")
        assert name != "bincount" or len(args) < 2 or args[1] is None
        self.names.add(name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("task", "encoder"),
    [*((task, "convnet") for task in TASKS), (pretext.SimCLR, "resnet18_stl")],
)
def test_no_stage_needs_what_is_not_deterministic(task, encoder):
    once = TrainingConfig(epochs=1)
    clusterer = SCANClustering(
        3,
        pretext=task(encoder=encoder, epochs=1, views="none"),
        views="none",
        head_search=once,
        clustering=once,
        self_labeling=once,
        threshold=0.1,
        keep="last",
        device="cpu",
        precision="float32",
        random_state=0,
    )
    with Seen() as seen:
        clusterer.fit(IMAGES).predict(IMAGES)
    assert {"convolution_backward", "nll_loss_backward"} <= seen.names
    assert seen.names & UNDETERMINED == set()


def test_what_is_not_deterministic_is_noticed():
    features = torch.randn(2, 3, 4, 4, requires_grad=True)
    with Seen() as seen:
        torch.nn.functional.adaptive_avg_pool2d(features, 2).sum().backward()
        features.detach().median(dim=1)
    assert seen.names & UNDETERMINED == {"_adaptive_avg_pool2d_backward", "median.dim"}
