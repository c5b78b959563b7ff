# SPDX-License-Identifier: BSD-3-Clause
"""MoCo: tell the key of one's own sample from the keys of many earlier ones."""

from numbers import Integral, Real

import torch
import torch.nn.functional as F
from torch import nn

from sklearn_scan._compat import Interval, StrOptions
from sklearn_scan._engine import IndexedSamples
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
from sklearn_scan.pretext._momentum import MovingAverage, random_unit_rows, unit_rows

_LONGEST_QUEUE = 65536


class MoCo(BasePretext):
    """MoCo, a representation learned by recognising samples among many earlier ones.

    Every sample of a batch is seen in two random views. An encoder and a projector make
    the query q of the first; a copy of both, whose weights are the moving average of
    theirs, makes the key k of the second, and all have unit length. Earlier keys wait
    in a queue. The loss (InfoNCE) is the cross-entropy of finding the own key:
    ``-log(exp(<q, k> / T) / (exp(<q, k> / T) + sum_i exp(<q, k_i> / T)))``, as the mean
    over the batch, where k_i are the keys of *other* samples in the queue. No gradient
    reaches the copy, which goes from w to ``momentum * w + (1 - momentum) * v`` before
    every step, v being the weights it follows. `transform` returns the features of the
    encoder that made the queries, at unit length; all else is left behind.

    The number of samples that one is compared with does not depend on the batch, which
    may be small. Read more in He et al. [1]_; the projector is that of MoCo v2 [2]_.

    Parameters
    ----------
    temperature : float, default=0.5
        T above. Low temperatures push apart the nearest of other samples, high ones
        push all alike, which leaves more of the clusters in place.
    momentum : float, default=0.95
        Momentum of the copy, in [0, 1). Higher values suit longer trainings: the copy
        should follow within a small part of the steps, and 0.95 follows within twenty.
    queue_size : int or "auto", default="auto"
        Keys in the queue. "auto" is the number of samples, so that the queue holds the
        keys of one epoch, up to 65,536.
    n_projection : int, default=128
        Length of a query and of a key.
    {shared_parameters}

    Attributes
    ----------
    {shared_attributes}

    See Also
    --------
    BYOL : Has a slow copy as well, and no other samples to compare with.
    SimCLR : Compares with the rest of the batch.
    sklearn_scan.SCANClustering : Clusters what a pretext task has learned.

    Notes
    -----
    The queue begins with random unit vectors. It remembers whose its keys are, and the
    loss leaves out those of the sample itself; where the queue is as long as an epoch,
    half of the samples would otherwise be pushed away from their own last view.

    The papers shuffle the keys between GPUs, so that the statistics of a batch do not
    tell which key belongs to a query. Here there is one device and no shuffling: keys
    made in four shuffled parts of a batch were found less often on digits, and the
    embedding was as good as without.

    References
    ----------
    .. [1] K. He, H. Fan, Y. Wu, S. Xie and R. Girshick, "Momentum contrast for
       unsupervised visual representation learning", CVPR 2020, equations 1 and 2.
    .. [2] X. Chen, H. Fan, R. Girshick and K. He, "Improved baselines with momentum
       contrastive learning", arXiv:2003.04297, 2020.

    Examples
    --------
    >>> from sklearn.cluster import KMeans
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_scan.pretext import MoCo
    >>> images = load_digits().images[:200]
    >>> pipeline = make_pipeline(MoCo(epochs=1, random_state=0), KMeans(10))
    >>> pipeline.fit_predict(images).shape
    (200,)
    """

    _parameter_constraints = {
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "queue_size": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
        ],
        "n_projection": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        *,
        temperature: float = 0.5,
        momentum: float = 0.95,
        queue_size: AutoInt = "auto",
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
        self.momentum = momentum
        self.queue_size = queue_size
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

    def make_data(self, source, module):
        """Return samples with their numbers."""
        return IndexedSamples(source)

    def make_task(self, encoder, views, n_samples):
        size = self.queue_size
        if size == "auto":
            size = min(n_samples, _LONGEST_QUEUE)
        projector = Projector(encoder.n_features, self.n_projection)
        queue = Queue(int(size), self.n_projection)
        network = QueueNetwork(encoder, projector, views, queue, self.momentum)
        return network, QueueLoss(self.temperature)


class QueueNetwork(nn.Module):
    """A network that makes queries, its slow copy that makes keys, and their queue."""

    def __init__(self, encoder, projector, views, queue, momentum):
        super().__init__()
        self.encoder = encoder
        self.projector = projector
        self.views = views
        self.queue = queue
        self.target = MovingAverage(encoder, projector, momentum=momentum)

    def forward(self, samples, indices):
        """Return queries and keys (b, d), earlier keys (q, d), and what to leave out.

        The last, of shape (b, q), says which of the earlier keys are of the sample
        itself. In training, the slow copy first follows what the last step has
        changed, and the keys join the queue.
        """
        if self.training:
            self.target.follow(self.encoder, self.projector)
        queries = self.projector(self.encoder(self.views(samples)))
        keys = self.target(self.views(samples))
        # A copy: the loss is differentiated after the queue has moved on.
        earlier = self.queue.keys.clone()
        is_own = indices[:, None] == self.queue.owners
        if self.training:
            self.queue.push(unit_rows(keys), indices)
        return queries, keys, earlier, is_own


class Queue(nn.Module):
    """The latest keys, and the samples they are of, in a ring.

    It begins with random unit vectors, which are of no sample.

    Parameters
    ----------
    size : int
        Keys that are kept.
    n_projection : int
        Length of a key.
    """

    def __init__(self, size, n_projection):
        super().__init__()
        self.register_buffer("keys", random_unit_rows(size, n_projection))
        self.register_buffer("owners", torch.full((size,), -1))
        self.register_buffer("oldest", torch.zeros((), dtype=torch.int64))

    def push(self, keys, owners):
        """Put keys (b, d) of samples (b,) in the place of the oldest."""
        size = len(self.keys)
        keys, owners = keys[-size:], owners[-size:]
        step = torch.arange(len(keys), device=keys.device)
        places = (self.oldest + step) % size
        self.keys[places] = keys
        self.owners[places] = owners
        self.oldest.copy_((self.oldest + len(keys)) % size)


class QueueLoss(nn.Module):
    """InfoNCE: the cross-entropy of finding the own key among those of a queue."""

    def __init__(self, temperature=0.5):
        super().__init__()
        self.temperature = temperature

    def forward(self, queries, keys, earlier, is_own):
        """Return the loss, and how often the own key is found."""
        queries, keys = unit_rows(queries), unit_rows(keys)
        own = (queries * keys).sum(dim=1, keepdim=True)
        others = (queries @ earlier.T).masked_fill(is_own, -torch.inf)
        logits = torch.cat([own, others], dim=1) / self.temperature  # (b, 1 + q)
        loss = F.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.int64))
        found = (logits.detach().argmax(dim=1) == 0).float().mean()
        return loss, {"loss": loss, "found": found}
