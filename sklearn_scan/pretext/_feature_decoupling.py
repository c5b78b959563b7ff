# SPDX-License-Identifier: BSD-3-Clause
"""Feature decoupling: what tells rotations apart, kept apart from what does not."""

from numbers import Real

import torch
import torch.nn.functional as F
from torch import nn

from sklearn_scan._compat import Interval
from sklearn_scan._engine import IndexedSamples
from sklearn_scan._nets import LinearHeads
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
from sklearn_scan.pretext._momentum import blend, random_unit_rows
from sklearn_scan.pretext._rotation import (
    N_ROTATIONS,
    make_rotations,
    rotation_labels,
)


class FeatureDecoupling(BasePretext):
    """Feature decoupling, which learns from rotations and keeps them apart.

    A random view of every image i of a batch is seen in four rotations y = 0, ..., 3,
    as in `RotNet`. The features of the encoder have two halves: r_iy, related to the
    rotation, and u_iy, which is not, with the mean u_i over the four rotations. The
    loss has three parts, each a mean over the batch:

    * rotation: ``1/4 sum_y w_iy * -log p(y | r_iy)`` for a linear classifier p, with
      ``w_i0 = 1`` and ``w_iy = (1 - p(0 | r_iy)) ** gamma`` for y > 0;
    * irrelevance: ``1/4 sum_y ||u_iy - u_i||^2``;
    * instance: ``-log(exp(<v_i, m_i> / T) / sum_j exp(<v_i, m_j> / T))`` over all
      samples j, where v_i is u_i at unit length, and a bank holds for every sample j
      the unit vector m_j that remembers v_j from earlier epochs.

    The weights w take rotation for learning from positive and unlabelled examples: an
    image as it came is upright, while one that was turned may look upright all the
    same, and counts the less the more it does. `transform` returns all features of the
    encoder, the related half first, at unit length; classifier and bank are left
    behind. A step sees four times `batch_size` images. What a rotation is for images
    that are not square, and for rows, is said in `RotNet`.

    Read more in Feng et al. [1]_.

    Parameters
    ----------
    rotation_weight : float, default=1.0
        What the rotation part is multiplied with in the sum.
    irrelevance_weight : float, default=0.03
        The same of the irrelevance part, which grows with the square of the features,
        and at 1 hides the instance part.
    instance_weight : float, default=1.0
        The same of the instance part.
    gamma : float, default=2.0
        Exponent of the weights above; 0 trusts all rotations alike.
    temperature : float, default=0.5
        T above.
    bank_momentum : float, default=0.0
        Share m of its own that a vector of the bank keeps, in [0, 1): m_i becomes
        ``m * m_i + (1 - m) * v_i``, at unit length.
    {shared_parameters}

    Attributes
    ----------
    {shared_attributes}

    See Also
    --------
    RotNet : Predicts the rotation alone.
    InstanceDiscrimination : Tells samples apart alone.

    Notes
    -----
    What differs from the paper: the weights w are taken from the network as it is,
    without a gradient, and not from one that was trained before. The instance part is
    the softmax over all samples that the paper's noise-contrastive estimation
    approximates; it takes ``batch_size * n_samples`` numbers, little up to a hundred
    thousand samples.

    All features are returned, because on digits their nearest neighbours were of the
    same class more often than those of either half, in every setting tried in which
    they were better than those of the pixels. KMeans mostly found the classes better
    in the unrelated half alone, ``embedding[:, n_features // 2 :]`` at unit length.

    "accuracy" in `history_` is the share of rotations told. Because of the weights,
    images that look alike in all rotations are all called upright in the end.

    References
    ----------
    .. [1] Z. Feng, C. Xu and D. Tao, "Self-supervised representation learning by
       rotation feature decoupling", CVPR 2019, section 3.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_scan.pretext import FeatureDecoupling
    >>> images = load_digits().images[:100]
    >>> FeatureDecoupling(epochs=1, random_state=0).fit_transform(images).shape
    (100, 128)
    """

    _parameter_constraints = {
        "rotation_weight": [Interval(Real, 0, None, closed="left")],
        "irrelevance_weight": [Interval(Real, 0, None, closed="left")],
        "instance_weight": [Interval(Real, 0, None, closed="left")],
        "gamma": [Interval(Real, 0, None, closed="left")],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "bank_momentum": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
        *,
        rotation_weight: float = 1.0,
        irrelevance_weight: float = 0.03,
        instance_weight: float = 1.0,
        gamma: float = 2.0,
        temperature: float = 0.5,
        bank_momentum: float = 0.0,
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
        if encoder.n_features < 2:
            raise ValueError(
                "FeatureDecoupling splits the features in two, and the encoder has "
                f"n_features={encoder.n_features}; at least 2 are required."
            )
        network = DecoupledNetwork(encoder, views, n_samples, self.bank_momentum)
        weights = self.rotation_weight, self.irrelevance_weight, self.instance_weight
        return network, DecouplingLoss(weights, self.gamma, self.temperature)


class DecoupledNetwork(nn.Module):
    """An encoder whose features have two halves, and a memory of the second.

    Parameters
    ----------
    encoder : Encoder
        From samples to features.
    views : nn.Module
        Drawn before the rotations, so that the four differ in nothing else.
    n_samples : int
        Size of the memory.
    bank_momentum : float, default=0.0
        Share of its own that a vector of the memory keeps.
    """

    def __init__(self, encoder, views, n_samples, bank_momentum=0.0):
        super().__init__()
        self.encoder = encoder
        self.views = views
        self.rotations = make_rotations(encoder)
        self.n_related = encoder.n_features // 2
        self.classifier = LinearHeads(self.n_related, N_ROTATIONS)
        self.bank_momentum = bank_momentum
        bank = random_unit_rows(n_samples, encoder.n_features - self.n_related)
        self.register_buffer("bank", bank)

    def forward(self, samples, indices):
        """Return what `DecouplingLoss` takes, with the bank as it is before the step.

        The loss is differentiated with that bank, and a copy of it would be one of all
        samples per step. So the bank remembers a batch when the gradient of its
        features is there, and nobody needs the old vectors any more.
        """
        features = self.encoder(self.rotations(self.views(samples))).float()
        related, unrelated = features.tensor_split((self.n_related,), dim=1)
        copies = unrelated.view(N_ROTATIONS, len(samples), -1)
        if copies.requires_grad:
            seen = copies.detach().mean(dim=0)
            copies.register_hook(lambda gradient: self.remember(seen, indices))
        return self.classifier(related)[0], copies, indices, self.bank

    @torch.no_grad()
    def remember(self, features, indices):
        """Mix features (b, d) into the bank."""
        mixed = blend(self.bank[indices], features, self.bank_momentum)
        self.bank[indices] = mixed


class DecouplingLoss(nn.Module):
    """The weighted sum of the losses of rotation, irrelevance and instance.

    Parameters
    ----------
    weights : tuple of float, default=(1.0, 1.0, 1.0)
        Of the three, in this order.
    gamma : float, default=2.0
        Exponent of the weights of turned images.
    temperature : float, default=0.5
        Of the instance part.
    """

    def __init__(self, weights=(1.0, 1.0, 1.0), gamma: float = 2.0, temperature=0.5):
        super().__init__()
        self.weights = weights
        self.gamma = gamma
        self.temperature = temperature

    def forward(self, logits, copies, indices, bank):
        """Return the loss, and its parts.

        Parameters
        ----------
        logits : Tensor of shape (4b, 4)
            Of the rotations, from the related features.
        copies : Tensor of shape (4, b, d)
            Unrelated features of each rotation.
        indices : Tensor of shape (b,)
            Where in the bank the samples are.
        bank : Tensor of shape (n, d)
            Unit vectors.
        """
        mean = copies.mean(dim=0)
        similarity = F.normalize(mean, dim=1) @ bank.T / self.temperature  # (b, n)
        rotation, accuracy = rotation_loss(logits, self.gamma)
        irrelevance = (copies - mean).square().sum(dim=-1).mean()
        instance = F.cross_entropy(similarity, indices)
        parts = rotation, irrelevance, instance
        loss = sum(w * part for w, part in zip(self.weights, parts, strict=True))
        return loss, {
            "loss": loss,
            "rotation": rotation,
            "irrelevance": irrelevance,
            "instance": instance,
            "accuracy": accuracy,
        }


def rotation_loss(logits, gamma):
    """Return the weighted cross-entropy of rotations, and the share that was told.

    Parameters
    ----------
    logits : Tensor of shape (4b, 4)
        First all unrotated samples.
    gamma : float
        Exponent: a rotated sample weighs ``(1 - p) ** gamma``, where p is the
        probability given to it that it is not rotated.
    """
    labels = rotation_labels(logits)
    upright = logits.detach().softmax(dim=1)[:, 0]
    weights = torch.where(labels == 0, 1.0, (1 - upright) ** gamma)
    cost = F.cross_entropy(logits, labels, reduction="none")
    told = (logits.detach().argmax(dim=1) == labels).float().mean()
    return (weights * cost).mean(), told
