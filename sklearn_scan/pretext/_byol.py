# SPDX-License-Identifier: BSD-3-Clause
"""BYOL: predict what a slower copy of the network makes of another view."""

import math
from numbers import Integral, Real

import torch
from torch import nn

from sklearn_scan._compat import Interval
from sklearn_scan._nets import Projector
from sklearn_scan.pretext._base import BasePretext
from sklearn_scan.pretext._momentum import MovingAverage, unit_rows


class BYOL(BasePretext):
    """BYOL

    Parameters
    ----------
    {shared_parameters}
    """

    _parameter_constraints = BasePretext._parameter_constraints | {
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "n_projection": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        *,
        momentum=0.99,
        n_projection=128,
        encoder="auto",
        views="auto",
        epochs="auto",
        batch_size=256,
        optimizer="adamw",
        lr=3e-3,
        weight_decay=1e-4,
        annealing="one_cycle",
        image_shape=None,
        device="auto",
        precision="auto",
        random_state=None,
        verbose=0,
    ):
        self.momentum = momentum
        self.n_projection = n_projection
        super().__init__(
            encoder=encoder,
            views=views,
            epochs=epochs,
            batch_size=batch_size,
            optimizer=optimizer,
            lr=lr,
            weight_decay=weight_decay,
            annealing=annealing,
            image_shape=image_shape,
            device=device,
            precision=precision,
            random_state=random_state,
            verbose=verbose,
        )

    def _make_task(self, encoder, views, n_samples):
        projector = Projector(encoder.n_features, self.n_projection)
        predictor = Projector(self.n_projection, self.n_projection)
        network = BootstrapNetwork(encoder, projector, predictor, views, self.momentum)
        return network, RegressionLoss()


class BootstrapNetwork(nn.Module):
    """An online network with a predictor, and the slow copy that it predicts."""

    def __init__(self, encoder, projector, predictor, views, momentum):
        super().__init__()
        self.encoder = encoder
        self.projector = projector
        self.predictor = predictor
        self.views = views
        self.target = MovingAverage(nn.Sequential(encoder, projector), momentum)

    def forward(self, samples):
        """Return predictions and targets (b, d) of two views of each sample.

        In training, the target first follows what the last step has changed.
        """
        both = torch.cat([self.views(samples), self.views(samples)])
        if self.training:
            self.target.follow(nn.Sequential(self.encoder, self.projector))
        predictions = self.predictor(self.projector(self.encoder(both)))
        return (*predictions.chunk(2), *self.target(both).chunk(2))


class RegressionLoss(nn.Module):
    """The squared distance of unit vectors: each prediction, the other view's target.
    """

    def forward(self, first, second, first_target, second_target):
        """Return the loss of predictions and targets (b, d), and the targets' spread."""
        one_way = squared_distance(first, second_target)
        other_way = squared_distance(second, first_target)
        loss = (one_way + other_way).mean()
        return loss, {"loss": loss, "spread": spread(first_target)}


def squared_distance(a, b):
    """Return the squared distances (b,) of rows at unit length."""
    return 2 - 2 * (unit_rows(a) * unit_rows(b)).sum(dim=1)


def spread(vectors):
    """Say how far apart unit vectors lie: 0 all at one place, 1 in all directions."""
    scale = math.sqrt(vectors.shape[1])
    return scale * unit_rows(vectors.detach()).std(dim=0, correction=0).mean()
