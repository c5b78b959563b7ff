# SPDX-License-Identifier: BSD-3-Clause
"""RotNet: tell by how much a sample was rotated."""

import torch.nn.functional as F
from torch import nn

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
from sklearn_scan.pretext._rotation import (
    N_ROTATIONS,
    make_rotations,
    rotation_labels,
)


class RotNet(BasePretext):
    """RotNet, a representation learned by telling by how much an image was turned.

    A random view g_0 of every image of a batch is turned by 90, 180 and 270 degrees to
    g_1, g_2 and g_3, and a linear classifier on the features of the encoder tells the
    four apart. The loss is the cross-entropy
    ``-1/4 sum_y log p(y | g_y)`` over y from 0 to 3, as the mean over the batch. A step
    sees four times `batch_size` images. `transform` returns the features of the
    encoder, at unit length; the classifier is left behind.

    Of images that are not square the central square is turned, and all four copies are
    resized to the shape of the image, so that the aspect ratio does not give the answer
    away.

    For rows, where nothing can be turned, four fixed orthogonal maps of the
    standardised feature space take the place of the rotations: the identity and three
    random ones, as Bergman and Hoshen [2]_ do for tabular data. They are matrices of
    ``n_features ** 2`` entries each.

    Read more in Gidaris et al. [1]_.

    Parameters
    ----------
    {shared_parameters}

    Attributes
    ----------
    {shared_attributes}

    See Also
    --------
    FeatureDecoupling : Keeps what rotation says apart from what it does not.
    SimCLR : Recognises views of the same sample.

    Notes
    -----
    The task has an answer only where things have an upright position. A digit 0 or 8
    looks the same upside down, a turned 6 is a 9, and pictures taken from above, such
    as those of a microscope or a satellite, have no upside at all. What the classifier
    cannot tell teaches nothing, and where it can, features need to say no more than
    where up is: classes that are turned alike may stay together. `history_` has the
    share of rotations that were told as "accuracy"; guessing gives 0.25.

    References
    ----------
    .. [1] S. Gidaris, P. Singh and N. Komodakis, "Unsupervised representation learning
       by predicting image rotations", ICLR 2018, equations 1 to 3.
    .. [2] L. Bergman and Y. Hoshen, "Classification-based anomaly detection for general
       data", ICLR 2020, section 4.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_scan.pretext import RotNet
    >>> images = load_digits().images[:100]
    >>> RotNet(epochs=1, random_state=0).fit_transform(images).shape
    (100, 128)
    """

    def __init__(
        self,
        *,
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
        return RotationNetwork(encoder, views), RotationLoss()


class RotationNetwork(nn.Module):
    """An encoder and a linear classifier of rotations."""

    def __init__(self, encoder, views):
        super().__init__()
        self.encoder = encoder
        self.views = views
        self.rotations = make_rotations(encoder)
        self.classifier = LinearHeads(encoder.n_features, N_ROTATIONS)

    def forward(self, samples):
        """Return the logits (4b, 4) of the rotated samples, as a tuple of one.

        One pass over all rotations: statistics of a batch that holds only one would
        tell which.
        """
        rotated = self.rotations(self.views(samples))
        return (self.classifier(self.encoder(rotated))[0],)


class RotationLoss(nn.Module):
    """The cross-entropy of the rotations."""

    def forward(self, logits):
        """Return the loss of logits (4b, 4), and the share of rotations told."""
        labels = rotation_labels(logits)
        loss = F.cross_entropy(logits, labels)
        told = (logits.detach().argmax(dim=1) == labels).float().mean()
        return loss, {"loss": loss, "accuracy": told}
