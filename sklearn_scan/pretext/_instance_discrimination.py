# SPDX-License-Identifier: BSD-3-Clause
"""Instance discrimination: every sample is a class of its own."""

import math
from numbers import Integral, Real

import torch
import torch.nn.functional as F
from torch import nn

from sklearn_scan._compat import Interval
from sklearn_scan._engine import IndexedSamples
from sklearn_scan._nets import Projector
from sklearn_scan.pretext._base import BasePretext
from sklearn_scan.pretext._momentum import random_unit_rows, unit_rows


class InstanceDiscrimination(BasePretext):
    """Instance discrimination

    Parameters
    ----------
    {shared_parameters}
    """

    _parameter_constraints = BasePretext._parameter_constraints | {
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "n_negatives": [Interval(Integral, 1, None, closed="left")],
        "bank_momentum": [Interval(Real, 0, 1, closed="left")],
        "n_projection": [Interval(Integral, 1, None, closed="left")],
        "invariance_weight": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        *,
        temperature=0.07,
        n_negatives=4096,
        bank_momentum=0.5,
        n_projection=128,
        invariance_weight=1.0,
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
            annealing=annealing,
            image_shape=image_shape,
            device=device,
            precision=precision,
            random_state=random_state,
            verbose=verbose,
        )

    _dataset = IndexedSamples

    def _make_task(self, encoder, views, n_samples):
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

    def forward(self, samples, indices):
        """Return what the loss compares.

        Projections (b, d) of a view and of the sample as it is, the memory (b, d) of
        the sample and that (m, d) of the noise, and log Z. In training, the memory
        takes in the view.
        """
        views, originals = self._project(samples)
        own, noise = self.bank.vectors[indices], self.bank.draw(self.n_negatives)
        log_partition = self.bank.partition(views, noise)
        if self.training:
            self.bank.update(indices, views)
        return views, originals, own, noise, log_partition

    def _project(self, samples):
        views = self.views(samples)
        if not self.sees_originals:
            projections = self.projector(self.encoder(views))
            return projections, projections
        both = torch.cat([views, samples])
        return self.projector(self.encoder(both)).chunk(2)


class MemoryBank(nn.Module):
    """A unit vector per sample that remembers its projections."""

    def __init__(self, n_samples, n_projection, momentum, temperature):
        super().__init__()
        self.momentum = momentum
        self.temperature = temperature
        self.register_buffer("vectors", random_unit_rows(n_samples, n_projection))
        self.register_buffer("log_partition", torch.tensor(torch.nan))
        self._may_be_unknown = True

    def draw(self, n_vectors):
        """Return vectors (m, d), drawn uniformly and with replacement."""
        device = self.vectors.device
        drawn = torch.randint(len(self.vectors), (n_vectors,), device=device)
        return self.vectors[drawn]

    @torch.no_grad()
    def partition(self, projections, noise):
        """Return log Z, which is estimated the first time and kept."""
        if self._may_be_unknown:
            estimate = self.estimate_partition(projections, noise)
            known = self.log_partition.isfinite()
            self.log_partition.copy_(torch.where(known, self.log_partition, estimate))
            self._may_be_unknown = False
        return self.log_partition

    def estimate_partition(self, projections, noise):
        """Return the logarithm of ``n * mean exp(<v, f> / T)``."""
        with torch.autocast(noise.device.type, enabled=False):
            similarity = unit_rows(projections) @ noise.T / self.temperature
        mean = similarity.flatten().logsumexp(dim=0) - math.log(similarity.numel())
        return mean + math.log(len(self.vectors))

    @torch.no_grad()
    def update(self, indices, projections):
        """Mix projections (b, d) into the memory of their samples."""
        mixed = torch.lerp(
            unit_rows(projections), self.vectors[indices], self.momentum
        )
        self.vectors[indices] = unit_rows(mixed)


class NoiseContrastiveLoss(nn.Module):
    """The loss of telling the memory of a sample from noise, and of invariance."""

    def __init__(self, n_samples, temperature=0.07, invariance_weight=1.0):
        super().__init__()
        self.n_samples = n_samples
        self.temperature = temperature
        self.invariance_weight = invariance_weight

    def forward(self, views, originals, own, noise, log_partition):
        """Return the loss, its parts, and how often the own memory is nearest."""
        views, originals = unit_rows(views), unit_rows(originals)
        # h = P / (P + m / n) is the logistic function of log P - log(m / n).
        offset = log_partition + math.log(len(noise) / self.n_samples)
        own = (views * own).sum(dim=1) / self.temperature - offset  # (b,)
        noise = views @ noise.T / self.temperature - offset  # (b, m)
        nce = -(F.logsigmoid(own) + F.logsigmoid(-noise).sum(dim=1)).mean()
        distance = (views - originals).square().sum(dim=1).mean()
        loss = nce + self.invariance_weight * distance
        found = (own >= noise.amax(dim=1)).float().mean()
        record = {"loss": loss, "nce": nce, "distance": distance, "found": found}
        return loss, record
