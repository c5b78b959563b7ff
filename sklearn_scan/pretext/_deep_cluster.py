# SPDX-License-Identifier: BSD-3-Clause
"""DeepCluster: cluster what was learned, and learn what was clustered."""

import copy
from numbers import Integral

import torch
import torch.nn.functional as F
from sklearn.base import ClusterMixin
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sklearn_scan._compat import Interval, StrOptions
from sklearn_scan._engine import Runtime, Samples, infer, resolve_seed
from sklearn_scan._engine._data import n_even_batches
from sklearn_scan._nets import LinearHeads
from sklearn_scan._typing import (
    AutoInt,
    Device,
    EncoderLike,
    Labels,
    LRSchedule,
    OnError,
    OptimizerLike,
    Precision,
    RandomState,
    SamplesLike,
    Shape,
    ViewsLike,
)
from sklearn_scan.metrics import hungarian_accuracy_score
from sklearn_scan.pretext._base import BasePretext
from sklearn_scan.pretext._kmeans import (
    BLOCK,
    find_centroids,
    nearest,
    principal_axes,
)

# Steps that a new classifier needs before its errors say something of the features.
_MIN_STEPS = 40
# Standard deviation of the weights of a new classifier, the paper's.
_INITIAL_WEIGHT = 0.01
# Runs of k-means for the clusters that are kept, of which the best counts.
_N_FINAL_RUNS = 10


class PseudoLabelled(Samples):
    """Batches of samples with the clusters that they are in.

    An epoch draws as many samples as there are, uniformly over the clusters.

    Parameters
    ----------
    source : ArraySource
        The samples.
    network : ClusteredNetwork
        Knows their clusters.
    """

    def __init__(self, source, network):
        super().__init__(source)
        self.network = network

    def order(self):
        """Return the indices of one epoch, in the order of their visit."""
        return draw_uniformly(self.network.labels.cpu())

    def read(self, indices):
        """Return the tuple (samples, labels), both on the device."""
        labels = self.network.labels
        indices_there = indices.to(labels.device, non_blocking=True)
        labels = labels[indices_there].to(self.source.device)
        return self.source.read(indices), labels


class DeepCluster(ClusterMixin, BasePretext):
    """DeepCluster, a representation learned by predicting its own clusters.

    Before an epoch all samples are embedded, and k-means finds centroids C and
    assignments: ``min_C 1/n sum_i min_k ||x_i - C_k||^2`` over rows x_i, which are the
    features of the encoder, reduced to their principal components, whitened and at unit
    length. Then the encoder, with a new linear classifier on top, learns to predict the
    assignments k_i from random views g_i, by the cross-entropy ``-log p(k_i | g_i)`` as
    the mean over samples. `transform` returns the features of the encoder, at unit
    length; `predict` returns the nearest centroid of a last clustering of the training
    samples, the best of ten runs, in the space of the rows x_i without whitening:
    small directions are worth learning from, and say little of what belongs together.

    Two ways to do nothing are barred: a cluster that lost its last sample takes half of
    another one, drawn with probability proportional to size and cut by a random plane
    through its mean; and samples are drawn uniformly over clusters, so that a large
    cluster weighs no more than a small one.

    Read more in Caron et al. [1]_.

    Parameters
    ----------
    n_clusters : int, default=10
        Number of clusters. Where `transform` alone is of interest, many more clusters
        than there are classes are usual (ten times as many in the paper), and better.
    n_components : int or "auto", default="auto"
        Number of principal components that are clustered, at most as many as the
        encoder has features. "auto" is an eighth of them.
    reassign_every : int or "auto", default="auto"
        Epochs from one clustering to the next. "auto" is 1, as in the paper, or as many
        as make 40 steps where the data are few: the classifier starts anew after every
        clustering, and teaches nothing before it has learned the clusters.
    {shared_parameters}

    Attributes
    ----------
    labels_ : ndarray of shape (n_samples,), dtype int64
        Cluster of every training sample.
    cluster_centers_ : ndarray of shape (n_clusters, n_components)
        Centroids of the last clustering, whose rows are not whitened.
    {shared_attributes}

    See Also
    --------
    sklearn_scan.SCANClustering : Clusters what a pretext task has learned.
    SimCLR : Recognises views of the same sample.

    Notes
    -----
    Every record of `history_` has the normalised mutual information ("nmi") of the
    clusters of this and of the last epoch, and the share of samples that changed the
    cluster ("reassigned") after the clusters were named as they agree best. Before the
    first epoch all samples are in one cluster; in an epoch without a new clustering the
    two are 1 and 0. Clusters that settle have an nmi that rises; the paper never saw it
    reach 1.

    What differs from the paper: there is no Sobel filter before the encoder, because
    images need not have colours to be rid of; clusters are found by the samples, and
    learned on views; and the moments that the optimizer keeps of the classifier outlive
    its weights.

    References
    ----------
    .. [1] M. Caron, P. Bojanowski, A. Joulin and M. Douze, "Deep clustering for
       unsupervised learning of visual features", ECCV 2018, equations 1 and 2 and
       section 3.3.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_scan.pretext import DeepCluster
    >>> images = load_digits().images[:200]
    >>> clusterer = DeepCluster(n_clusters=10, epochs=1, random_state=0).fit(images)
    >>> clusterer.transform(images).shape
    (200, 128)
    >>> bool((clusterer.predict(images) == clusterer.labels_).all())
    True
    """

    _parameter_constraints = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "n_components": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
        ],
        "reassign_every": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
        ],
    }

    answers_with_task = True

    def __init__(
        self,
        n_clusters: int = 10,
        *,
        n_components: AutoInt = "auto",
        reassign_every: AutoInt = "auto",
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
        self.n_clusters = n_clusters
        self.n_components = n_components
        self.reassign_every = reassign_every
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

    def predict(self, X: SamplesLike) -> Labels:
        """Find the cluster of each sample.

        Parameters
        ----------
        X : array-like
            Samples of the shape that `fit` saw.

        Returns
        -------
        labels : ndarray of shape (n_samples,), dtype int64
            Number of the nearest centroid; `labels_` for the training samples. -1 for
            files that were skipped.
        """
        check_is_fitted(self, "net_")
        runtime = Runtime.resolve_fitted(self.device, self.precision)
        X, places = self._check_given(X)
        network = copy.deepcopy(self.net_.module_).to(runtime.device)
        return places.spread(network.predict(self._open(X, runtime)).numpy(), -1)

    @property
    def labels_(self):
        """Cluster of every training sample."""
        labels = self.net_.module_.labels.cpu().numpy()
        return self.input_spec_.places.spread(labels, -1)

    @property
    def cluster_centers_(self):
        """Centroids, in the space that is clustered."""
        return self.net_.module_.centroids.cpu().numpy()

    def make_task(self, encoder, views, n_samples):
        if n_samples < self.n_clusters:
            raise ValueError(
                f"n_samples={n_samples} should be >= n_clusters={self.n_clusters}: "
                "every cluster needs a sample of its own."
            )
        network = ClusteredNetwork(
            encoder,
            views,
            n_samples,
            int(self.n_clusters),
            self._count_components(encoder.n_features),
            self._epochs_between_clusterings(n_samples),
        )
        return network, PseudoLabelLoss()

    def _count_components(self, n_features):
        if self.n_components != "auto":
            return min(int(self.n_components), n_features)
        return max(1, n_features // 8)

    def _epochs_between_clusterings(self, n_samples):
        if self.reassign_every != "auto":
            return int(self.reassign_every)
        return -(-_MIN_STEPS // n_even_batches(n_samples, int(self.batch_size)))

    def make_data(self, source, module):
        """Return samples with the clusters in which the module has put them."""
        return PseudoLabelled(source, module)

    def fit_samples(self, X, input_spec, trainer):
        """Train on checked samples, and cluster them a last time."""
        super().fit_samples(X, input_spec, trainer)
        source = self._open(X, trainer.runtime)
        with trainer.runtime.isolated(resolve_seed(self.random_state)):
            self.net_.module_.assign(source, whiten=False, n_runs=_N_FINAL_RUNS)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        # ClusterMixin takes it away.
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


class ClusteredNetwork(nn.Module):
    """An encoder and a classifier of the clusters that it is in itself.

    Parameters
    ----------
    encoder : Encoder
        From samples to features.
    views : nn.Module
        Drawn of the samples to learn from, not of those to cluster.
    n_samples, n_clusters, n_components : int
        Of the training samples, and of what is clustered.
    reassign_every : int
        Epochs from one clustering to the next.
    """

    def __init__(
        self, encoder, views, n_samples, n_clusters, n_components, reassign_every
    ):
        super().__init__()
        n_features = encoder.n_features
        self.encoder = encoder
        self.views = views
        self.classifier = LinearHeads(n_features, n_clusters)
        self.reassign_every = reassign_every
        # Buffers: a training that is taken up again, and `predict`, need them all.
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("axes", torch.zeros(n_features, n_components))
        self.register_buffer("centroids", torch.zeros(n_clusters, n_components))
        self.register_buffer("labels", torch.zeros(n_samples, dtype=torch.int64))

    def forward(self, samples, labels):
        """Return the logits (b, n_clusters) of views of the samples, and the labels."""
        return self.classifier(self.encoder(self.views(samples)))[0], labels

    def begin_epoch(self, data):
        """Cluster the samples, if it is time to."""
        before = self.labels.cpu().clone()
        if self.epoch % self.reassign_every == 0:
            self.assign(data.source)
            self.restart_classifier()
        self.epoch += 1
        return compare_assignments(before.numpy(), self.labels.cpu().numpy())

    def assign(self, source, *, whiten=True, n_runs=1):
        """Cluster samples, and remember where and how."""
        self.eval()
        features = infer(self.encoder, source)
        if not features.isfinite().all():
            raise ValueError(
                "The training of DeepCluster diverged: its features are not finite. "
                "Lower its learning rate (lr)."
            )
        for kept, found in zip(
            (self.mean, self.axes),
            principal_axes(features, self.axes.shape[1], whiten=whiten),
            strict=True,
        ):
            kept.copy_(found)
        rows = self._project_to_float32(features)
        self.centroids.copy_(find_centroids(rows, len(self.centroids), n_runs))
        self.labels.copy_(self._nearest(features))

    def restart_classifier(self):
        """Forget the classifier: cluster numbers have changed their meaning."""
        nn.init.normal_(self.classifier.linear.weight, std=_INITIAL_WEIGHT)
        nn.init.zeros_(self.classifier.linear.bias)

    def predict(self, source):
        """Return the number (n_samples,) of the nearest centroid of samples."""
        return self._nearest(infer(self.encoder, source))

    def _project(self, features):
        """Return the rows that are clustered, of some features, in double precision.

        In float32 a sample between two centroids could get another label in another
        batch.
        """
        centred = features.double() - self.mean.cpu().double()
        return F.normalize(centred @ self.axes.cpu().double(), dim=1)

    def _project_to_float32(self, features):
        """Return the rows of all features, for k-means."""
        rows = torch.empty(len(features), self.axes.shape[1])
        for part, projected in zip(
            features.split(BLOCK), rows.split(BLOCK), strict=True
        ):
            projected.copy_(self._project(part))
        return rows

    def _nearest(self, features):
        centroids = self.centroids.cpu().double()
        parts = features.split(BLOCK)
        return torch.cat([nearest(self._project(part), centroids) for part in parts])


class PseudoLabelLoss(nn.Module):
    """The cross-entropy of the clusters."""

    def forward(self, logits, labels):
        """Return the loss of logits (b, k), and the share of clusters told."""
        loss = F.cross_entropy(logits, labels)
        told = (logits.detach().argmax(dim=1) == labels).float().mean()
        return loss, {"loss": loss, "accuracy": told}


def draw_uniformly(labels):
    """Draw as many indices as there are labels, uniformly over the labels.

    Every label that occurs is drawn equally often, up to one, and of the samples of a
    label each is drawn equally often, up to one: systematic sampling, which skips fewer
    samples than independent draws.

    Parameters
    ----------
    labels : Tensor of shape (n,), dtype int64
        Not negative.

    Returns
    -------
    indices : Tensor of shape (n,)
        In random order.
    """
    n = len(labels)
    shuffled = torch.randperm(n)
    by_label = shuffled[labels[shuffled].argsort(stable=True)]
    weights = 1 / torch.bincount(labels).double()[labels]
    reach = weights[by_label].cumsum(0)
    marks = (torch.arange(n) + torch.rand((), dtype=torch.float64)) / n * reach[-1]
    places = torch.searchsorted(reach, marks).clamp_max(n - 1)
    return by_label[places[torch.randperm(n)]]


def compare_assignments(before, after):
    """Return how much two assignments agree, whatever the numbers of the clusters.

    Parameters
    ----------
    before, after : ndarray of shape (n,)
        Clusters of the same samples.

    Returns
    -------
    record : dict of float
        "nmi", the normalised mutual information, and "reassigned", the share of samples
        outside the best matching of clusters.
    """
    from sklearn.metrics import normalized_mutual_info_score

    return {
        "nmi": float(normalized_mutual_info_score(before, after)),
        "reassigned": 1 - hungarian_accuracy_score(before, after),
    }
