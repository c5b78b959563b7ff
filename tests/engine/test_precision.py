# SPDX-License-Identifier: BSD-3-Clause
"""What autocast does to gradients."""

import pytest
import torch
import torch.nn.functional as F
from helpers import TASKS
from sklearn.datasets import load_digits
from torch.overrides import TorchFunctionMode

from sklearn_scan import SCANClustering, TrainingConfig
from sklearn_scan._engine import StageNet

pytestmark = pytest.mark.filterwarnings(
    "default::sklearn.exceptions.ConvergenceWarning"
)


class OldAutocast(TorchFunctionMode):
    """Casts weights as autocast did before it looked at the grad mode.

    A weight is cast when it is first needed, in the grad mode of that moment, and the
    result serves until autocast ends. Newer releases of torch keep the graph also
    under `no_grad`, so that on them the fault does not show without this mode; where
    the installed torch is an old one, the mode repeats what it does by itself.
    """

    def __init__(self, monkeypatch):
        super().__init__()
        self.casts = {}
        clear = torch.clear_autocast_cache
        monkeypatch.setattr(
            torch, "clear_autocast_cache", lambda: (self.casts.clear(), clear())
        )

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in (F.conv2d, F.linear) and torch.is_autocast_enabled("cpu"):
            samples, weight, *rest = args
            args = (samples, self.cast(weight), *rest)
        return function(*args, **kwargs)

    def cast(self, weight):
        if not (weight.is_leaf and weight.requires_grad):
            return weight
        if not torch.is_autocast_cache_enabled():
            return weight.bfloat16()
        if id(weight) not in self.casts:
            self.casts[id(weight)] = weight.bfloat16()
        return self.casts[id(weight)]


@pytest.fixture
def steps(monkeypatch):
    """Note, of every step, which stage it is and which weights it leaves out."""
    noted = []
    take_step = StageNet.train_step

    def take_step_and_note(net, batch, **params):
        step = take_step(net, batch, **params)
        left_out = [
            name
            for name, weight in net.module_.named_parameters()
            if weight.requires_grad and weight.grad is None
        ]
        noted.append((type(net.module_).__name__, left_out))
        return step

    monkeypatch.setattr(StageNet, "train_step", take_step_and_note)
    return noted


@pytest.mark.parametrize("is_old", [False, True], ids=["torch as it is", "old torch"])
@pytest.mark.parametrize("task", TASKS)
def test_in_bfloat16_every_step_trains_every_weight(task, is_old, steps, monkeypatch):
    once = TrainingConfig(epochs=1)
    clusterer = SCANClustering(
        3,
        pretext=task(epochs=1),
        head_search=once,
        clustering=once,
        self_labeling=once,
        threshold=0.1,
        keep="last",
        device="cpu",
        precision="bfloat16",
        random_state=0,
    )
    X = load_digits().images[:80]
    if is_old:
        with OldAutocast(monkeypatch):
            clusterer.fit(X)
    else:
        clusterer.fit(X)
    assert "SelfLabelingNetwork" in dict(steps)
    assert [(stage, names) for stage, names in steps if names] == []
