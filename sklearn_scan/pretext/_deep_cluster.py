# SPDX-License-Identifier: BSD-3-Clause
"""DeepCluster: cluster what was learned, learn what was clustered."""

import sys
import warnings
from numbers import Integral

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import ClusterMixin
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import normalized_mutual_info_score
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sklearn_scan._compat import Interval
from sklearn_scan._engine import Runtime, Samples, infer, resolve_seed
from sklearn_scan._nets import ClusterHeads
from sklearn_scan._sources import ArraySource, check_samples
from sklearn_scan.metrics import hungarian_accuracy_score
from sklearn_scan.pretext._base import BasePretext

# Rows whose distances to all centroids are held at a time.
_BLOCK = 8192
# Variance, relative to the mean square of features, below which there is but rounding.
_ROUNDING = 1e-10
# How far the halves of a split cluster move apart, relative to its spread.
_PERTURBATION = 1e-3
_N_ITERATIONS = 20
_N_FINAL_STARTS = 10


class DeepCluster(ClusterMixin, BasePretext):
    """doc"""

    _parameter_constraints = BasePretext._parameter_constraints | {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "whiten": ["boolean"],
    }

    def __init__(
        self,
        n_clusters=10,
        *,
        n_components=64,
        whiten=True,
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
        self.n_clusters = n_clusters
        self.n_components = n_components
        self.whiten = whiten
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

    def predict(self, X):
        """Find the nearest centroid of each sample.

        Parameters
        ----------
        X : array-like
            Samples of the shape that `fit` saw.

        Returns
        -------
        labels : ndarray of shape (n_samples,), dtype int64
            Clusters, from 0 to ``n_clusters - 1``; `labels_` for the training samples.
        """
        check_is_fitted(self)
        X = check_samples(self, X, image_shape=self.image_shape, reset=False)
        runtime = Runtime.resolve(self.device, self.precision)
        source = ArraySource(X, self._format, runtime.device)
        return self.net_.module_.to(runtime.device).predict(source).numpy()

    @property
    def labels_(self):
        """Cluster of every training sample."""
        return self.net_.module_.labels.cpu().numpy()

    @property
    def cluster_centers_(self):
        """Centroids, in the space in which samples are clustered."""
        return self.net_.module_.centroids.cpu().numpy()

    def _make_task(self, encoder, views, n_samples):
        if n_samples < self.n_clusters:
            raise ValueError(
                f"n_samples={n_samples} should be >= n_clusters={self.n_clusters}: a "
                "cluster needs a sample."
            )
        network = ClusteredNetwork(
            encoder, views, n_samples, self.n_clusters, self.n_components, self.whiten
        )
        return network, PseudoLabelLoss()

    _dataset = None  # below

    def _fit_samples(self, X, trainer):
        super()._fit_samples(X, trainer)
        source = ArraySource(X, self._format, trainer.runtime.device)
        with trainer.runtime.isolated(resolve_seed(self.random_state)):
            self.net_.module_.assign(source, n_init=_N_FINAL_STARTS)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


class PseudoLabelled(Samples):
    """Batches of samples with the clusters that they were last assigned to.

    An epoch draws as many samples as there are, uniformly over the clusters.
    """

    def __init__(self, source):
        super().__init__(source)
        self.labels = torch.zeros(len(source), dtype=torch.int64)

    def order(self):
        """Return the indices of one epoch, in the order of their visit."""
        return draw_uniformly(self.labels)

    def read(self, indices):
        """Return the tuple (samples, pseudo-labels), both on the device."""
        return self.source.read(indices), self.labels[indices].to(self.source.device)


DeepCluster._dataset = PseudoLabelled


def draw_uniformly(labels):
    weights = 1 / torch.bincount(labels).double()[labels]
    order = torch.randperm(len(labels))
    order = order[labels[order].argsort(stable=True)]
    reach = weights[order].cumsum(0)
    ticks = (torch.arange(len(labels)) + torch.rand(())) / len(labels) * reach[-1]
    drawn = torch.searchsorted(reach, ticks.double()).clamp_max(len(labels) - 1)
    return order[drawn[torch.randperm(len(labels))]]


class ClusteredNetwork(nn.Module):
    reset_std = 0.01

    def __init__(self, encoder, views, n_samples, n_clusters, n_components, whiten):
        super().__init__()
        self.encoder = encoder
        self.views = views
        self.classifier = ClusterHeads(encoder.n_features, n_clusters)
        self.whiten = whiten
        n_components = min(n_components, encoder.n_features)
        self.register_buffer("mean", torch.zeros(encoder.n_features))
        self.register_buffer("axes", torch.zeros(encoder.n_features, n_components))
        self.register_buffer("centroids", torch.zeros(n_clusters, n_components))
        self.register_buffer("labels", torch.zeros(n_samples, dtype=torch.int64))

    def forward(self, samples, labels):
        return self.classifier(self.encoder(self.views(samples)))[0], labels

    def begin_epoch(self, data):
        before = self.labels.cpu().clone()
        self.assign(data.source)
        data.labels = self.labels.cpu().clone()
        nn.init.normal_(self.classifier.linear.weight, std=self.reset_std)
        nn.init.zeros_(self.classifier.linear.bias)
        return compare_assignments(before.numpy(), data.labels.numpy())

    def assign(self, source, n_init=1):
        self.eval()
        features = infer(self.encoder, source)
        mean, axes = principal_axes(features, self.axes.shape[1], self.whiten)
        self.mean.copy_(mean)
        self.axes.copy_(axes)
        rows = self._project(features)
        self.centroids.copy_(cluster(rows, len(self.centroids), n_init))
        self.labels.copy_(nearest(rows, self.centroids.cpu().double()))

    def predict(self, source):
        rows = self._project(infer(self.encoder, source))
        return nearest(rows, self.centroids.cpu().double())

    def _project(self, features):
        rows = (features.double() - self.mean.cpu()) @ self.axes.cpu().double()
        return F.normalize(rows, dim=1)


class PseudoLabelLoss(nn.Module):
    def forward(self, logits, labels):
        loss = F.cross_entropy(logits.float(), labels)
        told = (logits.detach().argmax(dim=1) == labels).float().mean()
        return loss, {"loss": loss, "accuracy": told}


def principal_axes(features, n_components, whiten):
    features = features.double()
    mean = features.mean(dim=0)
    centred = features - mean
    variances, axes = torch.linalg.eigh(centred.T @ centred / len(features))
    variances, axes = variances.flip(0)[:n_components], axes.flip(1)[:, :n_components]
    varies = variances > _ROUNDING * features.square().sum(dim=1).mean()
    scale = variances.clamp_min(torch.finfo(torch.float64).tiny).rsqrt() if whiten else 1
    return mean, torch.where(varies, axes * scale, 0.0)


def cluster(rows, n_clusters, n_init):
    seed = int(torch.randint(2**31 - 1, ()))
    centroids = k_means(rows.float().numpy(), n_clusters, n_init, seed)
    centroids = torch.from_numpy(centroids).double()
    return refill_empty_clusters(rows, centroids, nearest(rows, centroids))[0]


def k_means(rows, n_clusters, n_init, seed):
    if sys.platform == "darwin":
        model = KMeans(n_clusters, n_init=n_init, max_iter=20, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return model.fit(rows).cluster_centers_
    import faiss

    model = faiss.Kmeans(
        rows.shape[1],
        n_clusters,
        niter=_N_ITERATIONS,
        nredo=n_init,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=len(rows),
    )
    model.train(rows)
    return model.centroids


def nearest(rows, centroids):
    half = centroids.square().sum(dim=1) / 2
    return torch.cat(
        [(half - block @ centroids.T).argmin(dim=1) for block in rows.split(_BLOCK)]
    )


def refill_empty_clusters(rows, centroids, labels):
    centroids, labels = centroids.clone(), labels.clone()
    sizes = torch.bincount(labels, minlength=len(centroids))
    for empty in (sizes == 0).nonzero().ravel():
        donor = draw_donor(rows, labels, len(centroids))
        if donor is None:
            break
        members = (labels == donor).nonzero().ravel()
        centroids[[donor, empty]], goes = split(rows[members])
        labels[members[goes]] = empty
    return centroids, labels


def draw_donor(rows, labels, n_clusters):
    index = labels[:, None].expand_as(rows)
    blank = rows.new_zeros(n_clusters, rows.shape[1])
    largest = blank.scatter_reduce(0, index, rows, "amax", include_self=False)
    smallest = blank.scatter_reduce(0, index, rows, "amin", include_self=False)
    divisible = (largest > smallest).any(dim=1)
    weights = torch.bincount(labels, minlength=n_clusters) * divisible
    return torch.multinomial(weights.double(), 1) if weights.any() else None


def split(members):
    mean = members.mean(dim=0)
    offsets = members - mean
    direction = F.normalize(torch.randn(members.shape[1], dtype=members.dtype), dim=0)
    spread = offsets.square().sum(dim=1).mean().sqrt()
    step = _PERTURBATION * spread * direction
    return torch.stack([mean - step, mean + step]), offsets @ direction > 0


def compare_assignments(before, after):
    return {
        "nmi": normalized_mutual_info_score(before, after),
        "reassigned": 1 - hungarian_accuracy_score(before, after),
    }
