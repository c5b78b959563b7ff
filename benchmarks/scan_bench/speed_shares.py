# SPDX-License-Identifier: BSD-3-Clause
"""Where the time of a step goes, by a stopwatch around the methods of the library."""

import time
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import torch

from scan_bench.speed_ceilings import synchronize
from sklearn_scan._engine import IndexedSamples, NeighborPairs, Samples, Trainer
from sklearn_scan._engine._net import StageNet
from sklearn_scan._losses import ConfidenceLoss, SCANLoss
from sklearn_scan._nets import ClusterNetwork
from sklearn_scan._stages._self_labeling import SelfLabelingNetwork
from sklearn_scan._views import Views
from sklearn_scan.pretext._simclr import ContrastiveNetwork, NTXentLoss

PARTS = ("reading", "views", "net", "loss", "optimiser", "bookkeeping")

_METHODS = {
    "bookkeeping": [(StageNet, "fit_loop")],
    "reading": [(data, "read") for data in (Samples, IndexedSamples, NeighborPairs)],
    "views": [(Views, "forward")],
    "net": [
        (ContrastiveNetwork, "forward"),
        (ClusterNetwork, "forward"),
        (SelfLabelingNetwork, "forward"),
        (torch.Tensor, "backward"),
    ],
    "loss": [(loss, "forward") for loss in (NTXentLoss, SCANLoss, ConfidenceLoss)],
    "optimiser": [(torch.optim.AdamW, "step"), (torch.optim.AdamW, "zero_grad")],
}


class Stopwatch:
    """Adds up the time of parts, per stage; a part within a part stops the outer one.

    On a GPU every change of part waits for the device, which slows the whole.
    """

    def __init__(self, device):
        self.device = device
        self.seconds = {}
        self.stage = None
        self.running = []

    def shares(self, stage):
        """Return the share of each part of the time of a stage."""
        seconds = self.seconds[stage]
        total = sum(seconds.values())
        return {part: seconds[part] / total for part in PARTS}

    @contextmanager
    def part(self, name):
        self._turn()
        self.running.append(name)
        try:
            yield
        finally:
            self._turn()
            self.running.pop()

    def begin(self, stage):
        self.stage = stage
        self.seconds[stage] = dict.fromkeys(PARTS, 0.0)

    def _turn(self):
        synchronize(self.device)
        now = time.perf_counter()
        # Outside of a stage views are drawn as well, to judge by.
        if self.running and self.running[0] == "bookkeeping":
            self.seconds[self.stage][self.running[-1]] += now - self.since
        self.since = now


@contextmanager
def watch(device):
    """Watch all training within the context; yield the stopwatch."""
    stopwatch = Stopwatch(device)
    train = Trainer.train

    def begin_and_train(trainer, stage, identity):
        stopwatch.begin(stage.name)
        return train(trainer, stage, identity)

    with ExitStack() as stack:
        stack.enter_context(patch.object(Trainer, "train", begin_and_train))
        for name, methods in _METHODS.items():
            for owner, method in methods:
                timed = _timed(stopwatch, name, getattr(owner, method))
                stack.enter_context(patch.object(owner, method, timed))
        yield stopwatch


def _timed(stopwatch, name, function):
    def run(*args, **kwargs):
        with stopwatch.part(name):
            return function(*args, **kwargs)

    return run
