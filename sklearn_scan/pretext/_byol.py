# SPDX-License-Identifier: BSD-3-Clause
"""BYOL: predict what a slower copy of the network makes of another view."""

from numbers import Integral, Real

import torch
from torch import nn

from sklearn_scan._compat import Interval
from sklearn_scan._nets import Projector
from sklearn_scan._typing import (
    AutoInt,
    Device,
    EncoderLike,
    LRSchedule,
    OnError,
    OptimizerLike,
    Precision,
    RandomState,
    Shape,
    ViewsLike,
)
from sklearn_scan.pretext._base import BasePretext
from sklearn_scan.pretext._momentum import MovingAverage, unit_rows


class BYOL(BasePretext):
    """BYOL, a representation learned by predicting another view of the same sample.

    Every sample is seen in two random views. An encoder, a projector and a predictor
    make of them the predictions q_1 and q_2; a target, whose weights are the moving
    average of those of the encoder and the projector, makes z_1 and z_2. The loss is
    the squared distance of each prediction from the other view's target, all at unit
    length: ``(2 - 2 * cos(q_1, z_2)) + (2 - 2 * cos(q_2, z_1))``, as the mean over the
    samples. No gradient reaches the target, which goes from w to
    ``momentum * w + (1 - momentum) * v`` before every step, v being the weights it
    follows. `transform` returns the features of the encoder, at unit length; all else
    is left behind.

    Nothing is told apart, so there are no negatives that could be of the same cluster.
    Read more in Grill et al. [1]_.

    Parameters
    ----------
    momentum : float, default=0.9
        Momentum of the target, in [0, 1). Higher values suit longer trainings: the
        target should follow within a small part of the steps, and 0.9 follows within
        some ten.
    n_projection : int, default=128
        Length of a projection.
    {shared_parameters}

    Attributes
    ----------
    {shared_attributes}

    See Also
    --------
    MoCo : Has a slow copy as well, and tells samples apart.
    SimCLR : Compares with the rest of the batch.
    sklearn_scan.SCANClustering : Clusters what a pretext task has learned.

    Notes
    -----
    The paper raises the momentum from 0.996 to 1 along a cosine, over hundreds of
    thousands of steps; here it is constant. Projections are batch-normalised, which the
    paper does not do, and the hidden layer of the predictor is four times as wide as a
    projection: short trainings on digits learned much less without. Both views pass the
    network together and share the statistics of a batch.

    `verbose=1` prints `found`, the share of predictions to which no target of another
    sample of the batch is nearer than their own. Where it does not rise, all samples
    are mapped to one place.

    References
    ----------
    .. [1] J.-B. Grill et al., "Bootstrap your own latent: A new approach to
       self-supervised learning", NeurIPS 2020, equations 1 and 2.

    Examples
    --------
    >>> from sklearn.cluster import KMeans
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_scan.pretext import BYOL
    >>> images = load_digits().images[:200]
    >>> pipeline = make_pipeline(BYOL(epochs=1, random_state=0), KMeans(10))
    >>> pipeline.fit_predict(images).shape
    (200,)
    """

    _parameter_constraints = {
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "n_projection": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        *,
        momentum: float = 0.9,
        n_projection: int = 128,
        encoder: EncoderLike = "auto",
        views: ViewsLike = "auto",
        epochs: AutoInt = "auto",
        batch_size: int = 256,
        optimizer: OptimizerLike = "adamw",
        lr: float = 3e-3,
        weight_decay: float = 1e-4,
        lr_schedule: LRSchedule = "one_cycle",
        image_shape: Shape = None,
        on_error: OnError = "raise",
        device: Device = "auto",
        precision: Precision = "auto",
        random_state: RandomState = None,
        verbose: int = 0,
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
            lr_schedule=lr_schedule,
            image_shape=image_shape,
            on_error=on_error,
            device=device,
            precision=precision,
            random_state=random_state,
            verbose=verbose,
        )

    def make_task(self, encoder, views, n_samples):
        projector = nn.Sequential(
            Projector(encoder.n_features, self.n_projection),
            nn.BatchNorm1d(self.n_projection, affine=False),
        )
        predictor = make_predictor(self.n_projection)
        network = BootstrapNetwork(encoder, projector, predictor, views, self.momentum)
        return network, RegressionLoss()


def make_predictor(n_projection):
    """Make the perceptron from projections to what the target makes of another view."""
    hidden = 4 * n_projection
    return nn.Sequential(
        nn.Linear(n_projection, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, n_projection),
    )


class BootstrapNetwork(nn.Module):
    """An online network with a predictor, and the slow copy that it predicts."""

    def __init__(self, encoder, projector, predictor, views, momentum):
        super().__init__()
        self.encoder = encoder
        self.projector = projector
        self.predictor = predictor
        self.views = views
        self.target = MovingAverage(encoder, projector, momentum=momentum)

    def forward(self, samples):
        """Return predictions and targets (b, d) of two views of each sample.

        In training, the target first follows what the last step has changed.
        """
        both = torch.cat([self.views(samples), self.views(samples)])
        if self.training:
            self.target.follow(self.encoder, self.projector)
        predictions = self.predictor(self.projector(self.encoder(both)))
        return (*predictions.chunk(2), *self.target(both).chunk(2))


class RegressionLoss(nn.Module):
    """The squared distance of each prediction from the target of the other view."""

    def forward(self, first, second, first_target, second_target):
        """Return the loss of predictions and targets (b, d), and the share of found.

        A prediction finds its target if no target of another sample is nearer.
        """
        first, second, first_target, second_target = map(
            unit_rows, (first, second, first_target, second_target)
        )
        one_way = 2 - 2 * (first * second_target).sum(dim=1)
        other_way = 2 - 2 * (second * first_target).sum(dim=1)
        loss = (one_way + other_way).mean()
        nearest = (first.detach() @ second_target.T).argmax(dim=1)
        found = nearest == torch.arange(len(first), device=first.device)
        return loss, {"loss": loss, "found": found.float().mean()}
