# SPDX-License-Identifier: BSD-3-Clause
"""Feature decoupling: what rotation says, kept apart from what it does not."""

from numbers import Real

import torch
import torch.nn.functional as F
from torch import nn

from sklearn_scan._compat import Interval
from sklearn_scan._engine import IndexedSamples
from sklearn_scan._nets import ClusterHeads
from sklearn_scan.pretext._base import BasePretext
from sklearn_scan.pretext._rotation import (
    N_ROTATIONS,
    make_rotations,
    rotation_labels,
)


class FeatureDecoupling(BasePretext):
    """doc"""

    _parameter_constraints = BasePretext._parameter_constraints | {
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "gamma": [Interval(Real, 0, None, closed="left")],
        "rotation_weight": [Interval(Real, 0, None, closed="left")],
        "irrelevance_weight": [Interval(Real, 0, None, closed="left")],
        "instance_weight": [Interval(Real, 0, None, closed="left")],
        "bank_momentum": [Interval(Real, 0, 1, closed="left")],
    }
    _dataset = IndexedSamples

    def __init__(
        self,
        *,
        rotation_weight=1.0,
        irrelevance_weight=1.0,
        instance_weight=1.0,
        gamma=2.0,
        temperature=0.07,
        bank_momentum=0.5,
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
        self.rotation_weight = rotation_weight
        self.irrelevance_weight = irrelevance_weight
        self.instance_weight = instance_weight
        self.gamma = gamma
        self.temperature = temperature
        self.bank_momentum = bank_momentum
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
        module = DecoupledNetwork(encoder, views, n_samples, self.bank_momentum)
        return module, DecouplingLoss(
            self.rotation_weight,
            self.irrelevance_weight,
            self.instance_weight,
            self.gamma,
            self.temperature,
        )


class DecoupledNetwork(nn.Module):
    def __init__(self, encoder, views, n_samples, bank_momentum=0.5):
        super().__init__()
        self.encoder = encoder
        self.views = views
        self.rotations = make_rotations(encoder)
        self.n_related = encoder.n_features // 2
        self.classifier = ClusterHeads(self.n_related, N_ROTATIONS)
        self.bank_momentum = bank_momentum
        bank = torch.randn(n_samples, encoder.n_features - self.n_related)
        self.register_buffer("bank", F.normalize(bank, dim=1))

    def forward(self, samples, indices):
        rotated = self.rotations(self.views(samples))
        features = self.encoder(rotated).float()
        related, unrelated = features.tensor_split((self.n_related,), dim=1)
        copies = unrelated.view(N_ROTATIONS, len(samples), -1)
        before = self.bank
        self._remember(indices, copies.detach().mean(dim=0))
        return self.classifier(related)[0], copies, indices, before

    def _remember(self, indices, features):
        old = self.bank[indices]
        new = F.normalize(features, dim=1)
        mixed = self.bank_momentum * old + (1 - self.bank_momentum) * new
        self.bank = self.bank.index_copy(0, indices, F.normalize(mixed, dim=1))


class DecouplingLoss(nn.Module):
    def __init__(
        self,
        rotation_weight=1.0,
        irrelevance_weight=1.0,
        instance_weight=1.0,
        gamma=2.0,
        temperature=0.07,
    ):
        super().__init__()
        self.rotation_weight = rotation_weight
        self.irrelevance_weight = irrelevance_weight
        self.instance_weight = instance_weight
        self.gamma = gamma
        self.temperature = temperature

    def forward(self, logits, copies, indices, bank):
        labels = rotation_labels(logits)
        cost = F.cross_entropy(logits, labels, reduction="none")
        p0 = logits.detach().softmax(dim=1)[:, 0]
        w = torch.where(labels == 0, 1.0, (1 - p0) ** self.gamma)
        rotation = (w * cost).mean()
        mean = copies.mean(dim=0)
        irrelevance = (copies - mean).square().sum(dim=-1).mean()
        sim = F.normalize(mean, dim=1) @ bank.T / self.temperature
        instance = F.cross_entropy(sim, indices)
        loss = (
            self.rotation_weight * rotation
            + self.irrelevance_weight * irrelevance
            + self.instance_weight * instance
        )
        return loss, {
            "loss": loss,
            "rotation": rotation,
            "irrelevance": irrelevance,
            "instance": instance,
            "accuracy": (logits.detach().argmax(dim=1) == labels).float().mean(),
            "found": (sim.detach().argmax(dim=1) == indices).float().mean(),
        }
