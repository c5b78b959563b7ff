# SPDX-License-Identifier: BSD-3-Clause
"""VICReg: views agree, and what the batch says is spread over all dimensions."""

from numbers import Integral, Real

import torch.nn.functional as F
from torch import nn

from sklearn_scan._compat import Interval
from sklearn_scan._nets import Projector, at_least_float32
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
from sklearn_scan.pretext._simclr import ContrastiveNetwork

# Keeps the gradient of a standard deviation finite at zero; the paper's.
_EPSILON = 1e-4


class VICReg(BasePretext):
    """VICReg, a representation whose views agree and whose dimensions do not.

    Every sample is seen in two random views, which an encoder and a projector map to
    z and z'. The loss has three parts: the *invariance* ``mean |z - z'|^2 / d``; the
    *variance* ``mean_j max(0, 1 - std(z_j))``, which keeps each of the d dimensions
    from collapsing; and the *covariance* ``sum_{i != j} C_ij^2 / d``, which keeps two
    of them from saying the same, with C the covariance matrix of the batch. The last
    two are taken of z and of z'. `transform` returns the features of the encoder, at
    unit length; the projector is left behind.

    Nothing is told apart, so there are no negatives that could be of the same cluster.
    Read more in Bardes et al. [1]_.

    Parameters
    ----------
    invariance_weight : float, default=25.0
        Weight of the invariance.
    variance_weight : float, default=25.0
        Weight of the variance.
    covariance_weight : float, default=1.0
        Weight of the covariance.
    n_projection : int, default=256
        Length d of a projection.
    {shared_parameters}

    Attributes
    ----------
    {shared_attributes}

    See Also
    --------
    BYOL : Has no negatives either, and a slow copy.
    SimCLR : Compares with the rest of the batch.

    Notes
    -----
    The projector has one hidden layer, as wide as the features; the paper's has two of
    8,192 units.

    References
    ----------
    .. [1] A. Bardes, J. Ponce and Y. LeCun, "VICReg: Variance-invariance-covariance
       regularization for self-supervised learning", ICLR 2022, equations 1 to 6.

    Examples
    --------
    >>> from sklearn.cluster import KMeans
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_scan.pretext import VICReg
    >>> images = load_digits().images[:200]
    >>> pipeline = make_pipeline(VICReg(epochs=1, random_state=0), KMeans(10))
    >>> pipeline.fit_predict(images).shape
    (200,)
    """

    _parameter_constraints = {
        "invariance_weight": [Interval(Real, 0, None, closed="left")],
        "variance_weight": [Interval(Real, 0, None, closed="left")],
        "covariance_weight": [Interval(Real, 0, None, closed="left")],
        "n_projection": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        *,
        invariance_weight: float = 25.0,
        variance_weight: float = 25.0,
        covariance_weight: float = 1.0,
        n_projection: int = 256,
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
        self.invariance_weight = invariance_weight
        self.variance_weight = variance_weight
        self.covariance_weight = covariance_weight
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
        projector = Projector(encoder.n_features, self.n_projection)
        return ContrastiveNetwork(encoder, projector, views), VICRegLoss(
            self.invariance_weight, self.variance_weight, self.covariance_weight
        )


class VICRegLoss(nn.Module):
    """The weighted sum of invariance, variance and covariance."""

    def __init__(self, invariance=25.0, variance=25.0, covariance=1.0):
        super().__init__()
        self.weights = (invariance, variance, covariance)

    def forward(self, first, second):
        """Return the loss of projections (b, d), and its parts."""
        first, second = at_least_float32(first), at_least_float32(second)
        parts = (
            F.mse_loss(first, second),
            variance_loss(first) + variance_loss(second),
            covariance_loss(first) + covariance_loss(second),
        )
        loss = sum(w * part for w, part in zip(self.weights, parts, strict=True))
        names = ("invariance", "variance", "covariance")
        return loss, {"loss": loss, **dict(zip(names, parts, strict=True))}


def variance_loss(z):
    """Return how far standard deviations of z (b, d) fall short of one, on average."""
    std = (z.var(dim=0) + _EPSILON).sqrt()
    return F.relu(1 - std).mean()


def covariance_loss(z):
    """Return the sum of squares of the covariances between dimensions of z, over d."""
    centred = z - z.mean(dim=0)
    covariance = centred.T @ centred / (len(z) - 1)
    off_diagonal = covariance - covariance.diagonal().diag()
    return off_diagonal.square().sum() / z.shape[1]
