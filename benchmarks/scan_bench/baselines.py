# SPDX-License-Identifier: BSD-3-Clause
"""What SCAN is compared with, where scikit-learn does not have it."""

import math

import torch.nn.functional as F
from sklearn.base import BaseEstimator, ClusterMixin, MetaEstimatorMixin, clone
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from sklearn_scan.pretext._base import BasePretext


def flatten(X):
    return X.reshape(len(X), -1)


def as_rows():
    """Return the first step of a pipeline that is given images and needs rows."""
    return FunctionTransformer(flatten)


class InductiveClusterer(MetaEstimatorMixin, ClusterMixin, BaseEstimator):
    """Gives `predict` to a clusterer without: the cluster of the nearest sample.

    Parameters
    ----------
    clusterer : estimator
        Has `fit_predict`.
    """

    def __init__(self, clusterer):
        self.clusterer = clusterer

    def fit(self, X, y=None):
        """Cluster the rows `X`, and remember them."""
        X = validate_data(self, X)
        self.labels_ = clone(self.clusterer).fit_predict(X)
        self.nearest_ = KNeighborsClassifier(1).fit(X, self.labels_)
        return self

    def predict(self, X):
        """Return the cluster of the nearest training sample."""
        check_is_fitted(self)
        return self.nearest_.predict(validate_data(self, X, reset=False))


class AutoEncoder(BasePretext):
    """An autoencoder, a representation learned by drawing a sample from its features.

    A decoder with one hidden layer reconstructs every sample from the features of a
    random view of it. The loss is the mean squared error of standardised pixels.

    Parameters
    ----------
    n_hidden : int, default=512
        Width of the decoder.
    {shared_parameters}

    Attributes
    ----------
    {shared_attributes}

    Notes
    -----
    ``views="none"``, the default here, makes it a plain autoencoder. With views that
    hide something, such as ``("cutout",)``, it is a denoising one (Vincent et al.,
    2010).
    """

    def __init__(
        self,
        *,
        n_hidden=512,
        encoder="auto",
        views="none",
        epochs="auto",
        batch_size=256,
        optimizer="adamw",
        lr=3e-3,
        weight_decay=1e-4,
        lr_schedule="one_cycle",
        image_shape=None,
        device="auto",
        precision="auto",
        random_state=None,
        verbose=0,
    ):
        self.n_hidden = n_hidden
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
            device=device,
            precision=precision,
            random_state=random_state,
            verbose=verbose,
        )

    _parameter_constraints = {"n_hidden": [int]}

    def make_task(self, encoder, views, n_samples):
        decoder = nn.Sequential(
            nn.Linear(encoder.n_features, self.n_hidden),
            nn.ReLU(inplace=True),
            nn.Linear(self.n_hidden, math.prod(encoder.sample_shape)),
        )
        return AutoEncodingNetwork(encoder, decoder, views), ReconstructionLoss()


class AutoEncodingNetwork(nn.Module):
    """An encoder and a decoder that sees nothing but features."""

    def __init__(self, encoder, decoder, views):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.views = views

    def forward(self, samples):
        """Return the reconstruction (b, d), and the standardised samples alike."""
        target = (samples - self.encoder.mean) * self.encoder.scale
        return self.decoder(self.encoder(self.views(samples))), target.flatten(1)


class ReconstructionLoss(nn.Module):
    """The mean squared error."""

    def forward(self, reconstruction, target):
        """Return the loss, and its record."""
        loss = F.mse_loss(reconstruction.float(), target.float())
        return loss, {"loss": loss}
