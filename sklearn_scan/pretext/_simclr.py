# SPDX-License-Identifier: BSD-3-Clause
"""SimCLR: tell the two views of one sample from all views of all others."""

from numbers import Integral, Real

import torch
import torch.nn.functional as F
from torch import nn

from sklearn_scan._compat import Interval
from sklearn_scan._nets import Projector, unit_rows
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


class SimCLR(BasePretext):
    """SimCLR, a representation learned by recognising views of the same sample.

    Every sample of a batch is seen in two random views. An encoder and a projector map
    the views to the unit sphere, and the loss (NT-Xent) is the cross-entropy of finding
    the other view of a sample among all views of the batch:
    ``-log(exp(<z_i, z_j> / T) / sum_k exp(<z_i, z_k> / T))`` over k other than i, as
    the mean over all views. `transform` returns the features of the encoder, at unit
    length; the projector is left behind.

    Read more in Chen et al. [1]_; it is the pretext task of SCAN [2]_ on small images.

    Parameters
    ----------
    temperature : float, default=0.5
        T above. Low temperatures push apart the nearest of other samples, high ones
        push all alike, which leaves more of the clusters in place.
    n_projection : int, default=128
        Length of a projection.
    {shared_parameters}

    Attributes
    ----------
    {shared_attributes}

    See Also
    --------
    sklearn_scan.SCANClustering : Clusters what a pretext task has learned.

    Notes
    -----
    Both views serve as anchors. (The reference implementation of SCAN uses the first
    alone, which is an unbiased estimate of the same loss from half of the terms.)

    References
    ----------
    .. [1] T. Chen, S. Kornblith, M. Norouzi and G. Hinton, "A simple framework for
       contrastive learning of visual representations", ICML 2020, equation 1.
    .. [2] W. Van Gansbeke, S. Vandenhende, S. Georgoulis, M. Proesmans and L. Van Gool,
       "SCAN: Learning to classify images without labels", ECCV 2020.

    Examples
    --------
    >>> from sklearn.cluster import KMeans
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_scan.pretext import SimCLR
    >>> images = load_digits().images[:200]
    >>> pipeline = make_pipeline(SimCLR(epochs=1, random_state=0), KMeans(10))
    >>> pipeline.fit_predict(images).shape
    (200,)
    """

    ends_early = True

    _parameter_constraints = {
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "n_projection": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        *,
        temperature: float = 0.5,
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
        self.temperature = temperature
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
        return ContrastiveNetwork(encoder, projector, views), NTXentLoss(
            self.temperature
        )


class ContrastiveNetwork(nn.Module):
    """An encoder and a projector that see every sample in two views."""

    def __init__(self, encoder, projector, views):
        super().__init__()
        self.encoder = encoder
        self.projector = projector
        self.views = views

    def forward(self, samples):
        """Return the projections (b, d) of the first and of the second views.

        One pass over both, so that they share the statistics of a batch.
        """
        both = torch.cat([self.views(samples), self.views(samples)])
        return self.projector(self.encoder(both)).chunk(2)


class NTXentLoss(nn.Module):
    """The normalised temperature-scaled cross-entropy, with both views as anchors."""

    def __init__(self, temperature=0.5):
        super().__init__()
        self.temperature = temperature

    def forward(self, first, second):
        """Return the loss of projections (b, d), and how often the partner is found."""
        z = unit_rows(torch.cat([first, second]))
        similarity = z @ z.T / self.temperature  # (2b, 2b)
        similarity.fill_diagonal_(-torch.inf)
        partner = torch.arange(len(z), device=z.device).roll(len(first))
        loss = F.cross_entropy(similarity, partner)
        found = (similarity.detach().argmax(dim=1) == partner).float().mean()
        return loss, {"loss": loss, "found": found}
