# SPDX-License-Identifier: BSD-3-Clause
"""Instance discrimination: every sample is a class of its own."""

import math
from numbers import Integral, Real

import torch
import torch.nn.functional as F
from torch import nn

from sklearn_scan._compat import Interval
from sklearn_scan._engine import Batches, IndexedSamples, inference_batch
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
from sklearn_scan.pretext._momentum import blend, random_unit_rows, unit_rows

_FILLING_BATCH = 256


class InstanceDiscrimination(BasePretext):
    """Instance discrimination, a representation in which every sample is a class.

    An encoder and a projector map a random view of a sample to f on the unit sphere,
    and a bank remembers a unit vector v_i of every sample i. The probability of i given
    f is ``P(i|f) = exp(<v_i, f> / T) / Z``. Instead of summing over all n samples, the
    loss (noise-contrastive estimation) is that of telling the own vector from m others
    that are drawn from the bank uniformly, with probability ``1 / n`` each: with
    ``h(i, f) = P(i|f) / (P(i|f) + m / n)`` it is
    ``-log h(i, f) - sum_j log(1 - h(j, f))``, j going through the m drawn. Z is
    estimated once, on a first batch, as n times the mean of ``exp(<v_j, f> / T)``.
    After each step the bank takes in what was seen: v_i becomes
    ``bank_momentum * v_i + (1 - bank_momentum) * f``, at unit length.

    SCAN adds that a sample be mapped to where its view is mapped: with g the projection
    of the sample as it is, ``invariance_weight * ||f - g||^2`` is added, the squared
    Euclidean distance of unit vectors, which is ``2 - 2 * cos(f, g)``. Losses are means
    over the batch. `transform` returns the features of the encoder, at unit length; the
    projector and the bank are left behind.

    Read more in Wu et al. [1]_; with the invariance, it is a pretext task of SCAN [2]_.

    Parameters
    ----------
    temperature : float, default=0.5
        T above. Low temperatures push apart the nearest of other samples, high ones
        push all alike, which leaves more of the clusters in place. The paper has 0.07.
    n_negatives : int, default=4096
        m above. The same vectors serve all samples of a batch.
    bank_momentum : float, default=0.5
        Share of its own that a vector of the bank keeps, in [0, 1).
    n_projection : int, default=128
        Length of a projection.
    invariance_weight : float, default=0.1
        Weight of the invariance. With 0 the task is that of Wu et al., and takes
        two thirds of the time, as only the views pass the encoder.
    {shared_parameters}

    Attributes
    ----------
    {shared_attributes}

    See Also
    --------
    MoCo : Compares with what a slow copy of the network makes of samples.
    SimCLR : Compares with the rest of the batch.
    sklearn_scan.SCANClustering : Clusters what a pretext task has learned.

    Notes
    -----
    The bank begins with projections by the untrained network, and the first batch of
    which Z is estimated is compared with these. (The paper begins with random vectors.
    Projections are much more alike, so that Z came out too small, and the loss grew at
    low temperatures.) The drawn vectors may include that of the sample itself, as the
    formula demands: noise has the probability 1 / n everywhere. The proximal
    regularisation of the paper is left out; the invariance serves its purpose, to hold
    projections still.

    References
    ----------
    .. [1] Z. Wu, Y. Xiong, S. X. Yu and D. Lin, "Unsupervised feature learning via
       non-parametric instance discrimination", CVPR 2018, equations 4 to 7.
    .. [2] W. Van Gansbeke, S. Vandenhende, S. Georgoulis, M. Proesmans and L. Van Gool,
       "SCAN: Learning to classify images without labels", ECCV 2020, equation 1.

    Examples
    --------
    >>> from sklearn.cluster import KMeans
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_scan.pretext import InstanceDiscrimination
    >>> images = load_digits().images[:200]
    >>> task = InstanceDiscrimination(epochs=1, random_state=0)
    >>> make_pipeline(task, KMeans(10)).fit_predict(images).shape
    (200,)
    """

    _parameter_constraints = {
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "n_negatives": [Interval(Integral, 1, None, closed="left")],
        "bank_momentum": [Interval(Real, 0, 1, closed="left")],
        "n_projection": [Interval(Integral, 1, None, closed="left")],
        "invariance_weight": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        *,
        temperature: float = 0.5,
        n_negatives: int = 4096,
        bank_momentum: float = 0.5,
        n_projection: int = 128,
        invariance_weight: float = 0.1,
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
        self.n_negatives = n_negatives
        self.bank_momentum = bank_momentum
        self.n_projection = n_projection
        self.invariance_weight = invariance_weight
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

    def make_data(self, source, module):
        """Return samples with their numbers."""
        return IndexedSamples(source)

    def make_task(self, encoder, views, n_samples):
        projector = Projector(encoder.n_features, self.n_projection)
        bank = MemoryBank(
            n_samples, self.n_projection, self.bank_momentum, self.temperature
        )
        network = InstanceNetwork(
            encoder,
            projector,
            views,
            bank,
            int(self.n_negatives),
            sees_originals=self.invariance_weight > 0,
        )
        criterion = NoiseContrastiveLoss(
            n_samples, self.temperature, self.invariance_weight
        )
        return network, criterion


class InstanceNetwork(nn.Module):
    """An encoder and a projector, and the memory of what they made of each sample."""

    def __init__(self, encoder, projector, views, bank, n_negatives, *, sees_originals):
        super().__init__()
        self.encoder = encoder
        self.projector = projector
        self.views = views
        self.bank = bank
        self.n_negatives = n_negatives
        self.sees_originals = sees_originals

    @torch.no_grad()
    def begin_epoch(self, data):
        """Fill the bank before the first epoch; a bank that is filled is left alone."""
        if not self.bank.is_filled:
            batch_size = min(_FILLING_BATCH, inference_batch(data.source))
            for samples, indices in Batches(data, batch_size):
                projections, _ = self._project(samples)
                self.bank.update(indices, projections, momentum=0)
            self.bank.estimate_partition(projections, self.bank.draw(self.n_negatives))
        return {}

    def forward(self, samples, indices):
        """Return what the loss compares; in training, remember the projections.

        Returns
        -------
        projections : Tensor of shape (b, d)
            Of a view of each sample.
        originals : Tensor of shape (b, d) or None
            Of the samples as they are.
        own : Tensor of shape (b, d)
            What the bank remembers of each sample.
        noise : Tensor of shape (m, d)
            What it remembers of samples drawn at random.
        log_partition : Tensor of shape ()
            log Z.
        """
        projections, originals = self._project(samples)
        own, noise = self.bank.recall(indices), self.bank.draw(self.n_negatives)
        if self.training:
            self.bank.update(indices, projections, self.bank.momentum)
        return projections, originals, own, noise, self.bank.log_partition

    def _project(self, samples):
        """Project views and, in the same pass, the samples as they are."""
        views = self.views(samples)
        if not self.sees_originals:
            return self.projector(self.encoder(views)), None
        both = torch.cat([views, samples])
        return self.projector(self.encoder(both)).chunk(2)


class MemoryBank(nn.Module):
    """A unit vector for each sample, which remembers its projections.

    Parameters
    ----------
    n_samples : int
        How many there are.
    n_projection : int
        Length of a projection.
    momentum : float
        Share of its own that a vector keeps.
    temperature : float
        What Z depends on.
    """

    def __init__(self, n_samples, n_projection, momentum, temperature):
        super().__init__()
        self.momentum = momentum
        self.temperature = temperature
        self.register_buffer("vectors", random_unit_rows(n_samples, n_projection))
        self.register_buffer("log_partition", torch.tensor(torch.nan))

    @property
    def is_filled(self):
        """Whether Z is known, and with it the vectors."""
        return not self.log_partition.isnan()

    def recall(self, indices):
        """Return the vectors (b, d) of samples."""
        return self.vectors[indices]

    def draw(self, n_vectors):
        """Return vectors (m, d) drawn uniformly, with replacement."""
        n_samples, device = len(self.vectors), self.vectors.device
        return self.recall(torch.randint(n_samples, (n_vectors,), device=device))

    @torch.no_grad()
    def estimate_partition(self, projections, noise):
        """Set log Z to the logarithm of ``n * mean exp(<v, f> / T)``."""
        exponents = unit_rows(projections) @ noise.T / self.temperature
        mean = exponents.flatten().logsumexp(dim=0) - math.log(exponents.numel())
        self.log_partition.copy_(mean + math.log(len(self.vectors)))

    @torch.no_grad()
    def update(self, indices, projections, momentum):
        """Mix projections (b, d) into the vectors of their samples."""
        self.vectors[indices] = blend(self.recall(indices), projections, momentum)


class NoiseContrastiveLoss(nn.Module):
    """The loss of telling the own memory from noise, with that of invariance."""

    def __init__(self, n_samples, temperature=0.5, invariance_weight=0.1):
        super().__init__()
        self.n_samples = n_samples
        self.temperature = temperature
        self.invariance_weight = invariance_weight

    def forward(self, projections, originals, own, noise, log_partition):
        """Return the loss, its parts, and how often the own memory is nearest."""
        f = unit_rows(projections)
        # h is the logistic function of log P - log(m / n).
        offset = log_partition + math.log(len(noise) / self.n_samples)
        own = (f * own).sum(dim=1) / self.temperature - offset  # (b,)
        noise = f @ noise.T / self.temperature - offset  # (b, m)
        loss = -(F.logsigmoid(own) + F.logsigmoid(-noise).sum(dim=1)).mean()
        record = {"nce": loss, "found": (own >= noise.amax(dim=1)).float().mean()}
        if originals is not None:
            distance = (f - unit_rows(originals)).square().sum(dim=1).mean()
            loss = loss + self.invariance_weight * distance
            record["distance"] = distance
        return loss, {"loss": loss, **record}
