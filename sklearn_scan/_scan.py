# SPDX-License-Identifier: BSD-3-Clause
"""SCANClustering: the estimator whose `fit` is the algorithm of the paper."""

import os
import warnings
from dataclasses import replace
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    TransformerMixin,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted, check_memory
from torch import nn

from sklearn_scan._clustering import (
    ClusterNetwork,
    Judge,
    SCANLoss,
    cluster,
)
from sklearn_scan._compat import (
    CallbackSupportMixin,
    HasMethods,
    Interval,
    StrOptions,
    with_callbacks,
)
from sklearn_scan._config import TrainingConfig
from sklearn_scan._embedding import (
    as_rows,
    embed_frozen,
    find_neighbors,
    is_trained,
    learn_embedding,
    plan_batches,
    remember_input,
    resolve_pretext,
    thaw,
    transform_rows,
)
from sklearn_scan._engine import (
    FitProgress,
    Runtime,
    Trainer,
    infer,
    resolve_seed,
    spawn_seeds,
    wrap_trained,
)
from sklearn_scan._head_search import polish_head, search_heads
from sklearn_scan._nets import ENCODERS, ClusterHeads
from sklearn_scan._params import check_nested
from sklearn_scan._run import STEPS, Run, find_prototypes
from sklearn_scan._self_labeling import ConfidenceLoss, self_label
from sklearn_scan._sources import ArraySource, check_samples, learn_format
from sklearn_scan._views import POLICIES, build_views, check_views
from sklearn_scan.neighbors import (
    check_neighbors,
    choose_metric,
    mine_neighbors,
)
from sklearn_scan.pretext._base import BasePretext, forget


class SCANClustering(
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    ClusterMixin,
    BaseEstimator,
):
    """Clustering of images without labels, by semantic neighbours (SCAN).

    SCAN [1]_ learns clusters in three steps, and `fit` takes them in order:

    1. A *pretext task* trains an encoder without labels, so that samples that show the
       same thing have similar features. The `K` nearest neighbours of every sample are
       mined in this embedding.
    2. *Clustering*: with p the cluster probabilities of a sample and q those of a
       neighbour of it, minimise ``-mean log <p, q> - entropy_weight * H(mean p)``: a
       sample agrees with its neighbours, and all clusters are used. `n_heads`
       classifiers are trained on the frozen embedding. They begin at partitions of it,
       by spectral clustering of the graph of neighbours and by k-means in turn, and the
       best one is kept (see Notes). Then the encoder learns with it, on random views of
       samples and neighbours.
    3. *Self-labelling*: samples whose largest probability exceeds `threshold` become
       training data for strongly changed views of themselves.

    Rows (2-D `X` without `image_shape`) are taken for an embedding, as they come from a
    foundation model or a scaler: nothing is learned but classifiers on them, which
    takes seconds. There is no encoder to train then, so `views`, `threshold` and the
    epochs of clustering and self-labelling change nothing. Scale features as for
    `KMeans`: they keep their scales.

    Parameters
    ----------
    n_clusters : int, default=10
        The number of clusters.
    K : int, default=20
        Neighbours mined per sample; the paper's K. With 0 a sample is compared with
        another view of itself alone. Where the average cluster has fewer
        than ``2 * K`` members, half of the average cluster is mined instead, as farther
        neighbours cannot be of one cluster.
    threshold : float, default=0.99
        Confidence from which self-labelling believes an answer, in (0, 1].
    entropy_weight : float, default=5.0
        Weight of the entropy of the mean prediction; the paper's lambda. Where `X` is
        rows, or the pretext is a transformer of others, it falls to a fifth after a
        quarter of the training.
    n_heads : int, default=20
        Starts of the clustering; like `n_init` of `KMeans`.
    pretext : "auto" or transformer, default="auto"
        Step 1. "auto" is :class:`~sklearn_scan.pretext.SimCLR` for images (and for
        rows, if `encoder` is given); other rows are used as they are. Or any unfitted
        estimator with `fit` and `transform`: a task of :mod:`sklearn_scan.pretext`,
        whose encoder is then trained on in steps 2 and 3, or another one, such as
        ``PCA(50)``, that is given rows and whose output is clustered as it is. A fitted
        one is used as it is where it comes as scikit-learn's
        ``FrozenEstimator(fitted)``; weights of other programs come as
        :class:`~sklearn_scan.pretext.Pretrained`. Where its `random_state` is None, it
        is set from `random_state`; `device`, `precision`, `verbose` and callbacks are
        those of the clusterer.
    encoder : str, class or callable, default="auto"
        The network of the "auto" pretext; see :class:`~sklearn_scan.pretext.SimCLR`.
        Any other pretext has an encoder of its own.
    views : str, tuple or callable, default="auto"
        The random views of steps 2 and 3; see :class:`~sklearn_scan.pretext.SimCLR`.
        In step 3, "auto" is the strong set of the paper for pictures that fill their
        frame.
    clustering : "auto", None or TrainingConfig, default="auto"
        How the whole network is trained on views in step 2; see
        :class:`~sklearn_scan.TrainingConfig`. None leaves the encoder as the pretext
        trained it.
    self_labeling : "auto", None or TrainingConfig, default="auto"
        How step 3 is trained; None leaves it out.
    class_weight : "balanced" or None, default="balanced"
        In step 3, whether every cluster pulls with the same force, or every confident
        sample.
    keep : {"best", "last"}, default="best"
        Whether to keep the results of the clustering on views and of self-labelling
        only where they are no worse ("best"; see Notes), or always ("last"), as the
        reference does.
    batch_size : int, default=512
        Largest number of samples in a step. A batch should hold several samples of
        every cluster. Where memory is short, batches are smaller, with a warning.
    image_shape : tuple of int or None, default=None
        Shape (h, w), (h, w, c) or (c, h, w) of one image, where `X` holds images as
        rows, or of the images that files and pictures are brought to.
    memory : str, joblib.Memory or None, default=None
        Where to cache the pretext, the mining and every later step. Each depends on
        `X`, on its own parameters, on the steps before and on the seed, so a search
        trains the pretext once per fold, and one over `threshold` the clustering, too.
        Neighbours are cached for any `K` up to 50, where there are at most 100,000
        samples. Needs an int as `random_state`: with None every fit draws a new seed
        and nothing is found again.
    checkpoint : str, PathLike or None, default=None
        Folder in which every stage writes its state after each epoch. A fit that was
        interrupted, or killed, goes on from there when it is repeated with the same
        data and parameters, and ends as it would have without. Needs an int as
        `random_state`. The files of a finished fit are left for you to delete.
    device : str or torch.device, default="auto"
        Where to compute. "auto" takes a CUDA GPU where there is one.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        Type in which networks are trained. "auto" is bfloat16 on devices with bfloat16
        instructions, GPUs and CPUs alike, and float32 elsewhere. Losses, heads and
        inference are float32.
    random_state : int, RandomState instance or None, default=None
        Determines all random choices. The same int on the same machine gives the same
        labels, to the bit on a CPU. Torch's and numpy's global generators are neither
        used nor changed.
    verbose : int, default=0
        1 prints a line per epoch, with the time left in the stage.

    Attributes
    ----------
    labels_ : ndarray of shape (n_samples,), dtype int64
        The cluster of each training sample.
    confidence_ : ndarray of shape (n_samples,), dtype float32
        The largest probability of each training sample.
    embedding_ : ndarray of shape (n_samples, n_features_out), dtype float32
        What the pretext makes of the training samples; `transform` gives the same.
    neighbors_ : ndarray of shape (n_samples, K), dtype int64
        Indices of the mined neighbours, nearest first, without the sample itself; or
        those that `fit` was given.
    prototypes_ : ndarray of shape (n_clusters,), dtype int64
        For each cluster the training sample that shows it best: of the ten most
        confident members, the one nearest to their mean in the embedding. -1 where a
        cluster has no member.
    history_ : dict of list of dict
        Under "pretext", "head_search", "clustering" and "self_labeling", one record per
        epoch of the stages that were run. Under "selection", what was judged of the
        result of each stage: the label-free "loss", the "confident" share of samples
        above `threshold`, the "agreement" with the stage before where both are
        confident, the "invariance", which is the share of samples of which a view is in
        the same cluster, and whether the result was "kept".
    pretext_ : estimator
        The fitted pretext.
    net_ : skorch.NeuralNet
        The trained net, in evaluation mode.
    paths_ : list of str
        The files, where `X` was a folder or paths.
    image_shape_ : tuple of int or None
        Shape of one image as given; None for rows.
    n_features_in_ : int
        Length of the second axis of `X`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, where `X` had any.

    See Also
    --------
    sklearn.cluster.KMeans : Clusters vectors by distance to a centre.
    sklearn_scan.pretext.SimCLR : Step 1 on its own.

    Notes
    -----
    *Choosing without labels.* The reference implementation chooses among heads and
    epochs by the SCAN loss on its test images. Here there is only `X`, and heads are
    compared by the loss on training samples (at most 4,000, and 40,000 pairs of them
    with their nearest neighbours), as they are, or on views where the heads were
    trained on views (``head_search=None``). Of heads on rows, the one is chosen whose
    clusters have the lowest normalised cut in the graph of neighbours: the share of a
    cluster's neighbours that are of another cluster, on an average over clusters, plus
    a tenth of what the entropy of the cluster sizes lacks to its maximum. Where there
    are no neighbours (``K=0``), the loss decides there, too.

    The result of the clustering on views is kept if it does not raise that loss.
    Self-labelling cannot be judged by it: the loss punishes a network for being right
    where a mined neighbour is of another kind. Its result is kept if the confident
    share of samples falls by at most 0.1, if 95 % of the samples that are confident
    before and after stay in their cluster, and if the share of samples of which a view
    is in the same cluster falls by at most 0.005. A clustering that raises the loss is
    kept on the same terms. Within a stage the last epoch counts; its learning rate ends
    at zero.

    *Self-labelling that goes wrong.* A cluster with members of which none is confident
    is left out of self-labelling, since class balancing would make it vanish. Where
    fewer than two clusters are left, there is none, with a warning. It is undone, with
    a warning, when fewer clusters have members than before.

    *Clusters of very different size.* The loss prefers clusters of equal size: where
    the largest is ten times the smallest, it would split the one and merge others. A
    partition of the embedding that cuts off clearly less than the best head (a
    twentieth on rows, a fifth on an embedding that was trained on `X`) shows it. Heads
    are then trained from that partition, with samples drawn so that its clusters are
    seen equally often, and so is the network on views. `score` does not take this into
    account, and prefers equal sizes. On noisy embeddings, where every partition cuts
    off much, small clusters may still be merged. Where the neighbours of `X` form as
    many separate pieces as there are clusters, these are the clusters, whatever their
    sizes.

    *Other differences from the reference.* Neighbours are mined in the features of the
    encoder, not in those of its projector, and never include the sample itself; they
    are mined once. Pseudo-labels come from the network in evaluation mode, and the
    statistics of batch normalisation are taken from the samples as they are when a
    stage ends. There is no moving average of the weights. AdamW decays all weights,
    those of batch normalisation among them. Batches split the data evenly, so that
    none is left out for being short.

    *Threads.* Torch has one random generator and one default type per process, and
    `fit` borrows both. So the fits in the threads of one process take turns where they
    train: each gives what it gives alone, and no time is saved. Processes train at the
    same time. Do not draw random numbers from torch in one thread while another is in
    `fit`.

    References
    ----------
    .. [1] W. Van Gansbeke, S. Vandenhende, S. Georgoulis, M. Proesmans and L. Van Gool,
       "SCAN: Learning to classify images without labels", ECCV 2020.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn_scan import SCANClustering
    >>> X, _ = make_blobs(n_samples=90, centers=3, random_state=0, cluster_std=0.5)
    >>> clusterer = SCANClustering(n_clusters=3, random_state=0).fit(X)
    >>> clusterer.labels_.shape
    (90,)
    >>> clusterer.predict_proba(X[:1]).shape
    (1, 3)
    """

    _parameter_constraints = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "K": [Interval(Integral, 0, None, closed="left")],
        "threshold": [Interval(Real, 0, 1, closed="right")],
        "entropy_weight": [Interval(Real, 0, None, closed="left")],
        "n_heads": [Interval(Integral, 1, None, closed="left")],
        "pretext": [StrOptions({"auto"}), HasMethods(["fit", "transform"])],
        "encoder": [StrOptions({"auto", *ENCODERS}), callable],
        "views": [StrOptions(set(POLICIES)), tuple, callable],
        "head_search": [StrOptions({"auto"}), TrainingConfig, None],
        "clustering": [StrOptions({"auto"}), TrainingConfig, None],
        "self_labeling": [StrOptions({"auto"}), TrainingConfig, None],
        "class_weight": [StrOptions({"balanced"}), None],
        "keep": [StrOptions({"best", "last"})],
        "batch_size": [Interval(Integral, 2, None, closed="left")],
        "image_shape": [tuple, list, None],
        "memory": [str, os.PathLike, HasMethods(["cache"]), None],
        "checkpoint": [str, os.PathLike, None],
        "device": [str, torch.device],
        "precision": [StrOptions({"auto", "float32", "bfloat16"})],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_clusters=10,
        *,
        K=20,
        threshold=0.99,
        entropy_weight=5.0,
        n_heads=20,
        pretext="auto",
        encoder="auto",
        views="auto",
        head_search="auto",
        clustering="auto",
        self_labeling="auto",
        class_weight="balanced",
        keep="best",
        batch_size=512,
        image_shape=None,
        memory=None,
        checkpoint=None,
        device="auto",
        precision="auto",
        random_state=None,
        verbose=0,
    ):
        self.n_clusters = n_clusters
        self.K = K
        self.threshold = threshold
        self.entropy_weight = entropy_weight
        self.n_heads = n_heads
        self.pretext = pretext
        self.encoder = encoder
        self.views = views
        self.head_search = head_search
        self.clustering = clustering
        self.self_labeling = self_labeling
        self.class_weight = class_weight
        self.keep = keep
        self.batch_size = batch_size
        self.image_shape = image_shape
        self.memory = memory
        self.checkpoint = checkpoint
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose

    def set_params(self, **params):
        """Set parameters, also those of the pretext and of the steps.

        Parameters
        ----------
        **params : dict
            Values by name. Where `pretext` is an estimator, or a stage is a
            :class:`~sklearn_scan.TrainingConfig`, its own parameters are set by names
            such as ``pretext__temperature`` and ``clustering__lr``.

        Returns
        -------
        self : object
            The clusterer.
        """
        steps = ("head_search", "clustering", "self_labeling")
        check_nested(
            self,
            params,
            {"pretext": "SimCLR()"} | dict.fromkeys(steps, "TrainingConfig()"),
        )
        return super().set_params(**params)

    @with_callbacks
    def fit(self, X, y=None, *, neighbors=None):
        """Learn the clusters of `X`.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c), (n, c, h, w) or (n, d)
            Images, of type uint8 or float, or rows. A numpy array, a memmap, a torch
            tensor, or for rows whatever scikit-learn accepts. Or a folder, or a
            sequence of paths, of image files; they are brought to `image_shape`, or to
            64 x 64 pixels in colour. Or a list of Pillow's pictures, of one size unless
            `image_shape` is given.
        y : None
            Ignored.
        neighbors : array-like of shape (n, k), dtype int, default=None
            Neighbours of each sample, which are then not mined, by their row numbers
            in this `X` (in cross-validation: in the part that is fitted). -1 stands for
            none, and so does a sample among its own neighbours.

        Returns
        -------
        self : object
            The fitted clusterer.
        """
        self._check_parameters()
        forget(self)
        given = X
        X = check_samples(self, X, image_shape=self._asked_image_shape(), reset=True)
        self._check_sizes(len(X))
        if neighbors is not None:
            neighbors = check_neighbors(neighbors, len(X))
        run = self._begin(X, y, given=given)
        self._plan_batches(X, run)

        # Step 1: train the pretext task, and mine neighbours in its embedding.
        self.pretext_, self.embedding_ = self._learn_embedding(X, run)
        self.neighbors_ = self._find_neighbors(neighbors, run)
        # Step 2: minimise the SCAN loss, by classifiers alone and then as a whole.
        network = self._cluster(X, run)
        # Step 3: learn from confident answers.
        network = self._self_label(network, run)

        self._describe(network, run)
        run.context.call_on_fit_task_end(
            estimator=self, X=given, y=y, reconstruction_attributes={}
        )
        return self

    def predict(self, X):
        """Find the cluster of each sample.

        Parameters
        ----------
        X : array-like
            Samples of the shape and range that `fit` saw.

        Returns
        -------
        labels : ndarray of shape (n_samples,), dtype int64
            Cluster numbers.
        """
        return self.predict_proba(X).argmax(axis=1)

    def predict_proba(self, X):
        """Compute the probability of each cluster for each sample.

        Parameters
        ----------
        X : array-like
            Samples of the shape and range that `fit` saw.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_clusters), dtype float32
            Rows sum to one.
        """
        check_is_fitted(self, "net_")
        X = self._check_again(X)
        runtime = self._runtime()
        embedding = None if self._is_end_to_end() else self._embed(X, runtime)
        source = self._open(X, embedding, runtime)
        return infer(self._network(runtime).probabilities, source).numpy()

    def transform(self, X):
        """Embed samples, as the pretext does.

        Parameters
        ----------
        X : array-like
            Samples of the shape and range that `fit` saw.

        Returns
        -------
        embedding : ndarray of shape (n_samples, n_features_out), dtype float32
            What neighbours are mined in.
        """
        check_is_fitted(self, "net_")
        return self._embed(self._check_again(X), self._runtime())

    def score(self, X, y=None):
        """Say, without labels, how well neighbours in `X` agree; higher is better.

        The SCAN loss with its sign changed and entropy weight 1 (as the reference
        validates), on neighbours mined in `X` (of 4,000 samples, where there are more):
        at most ``log(n_clusters)``, reached when all neighbours are of one cluster and
        clusters are of one size. It grows with `n_clusters`, and depends on the
        embedding, so compare it between models of the same `n_clusters` and the same
        pretext.

        Parameters
        ----------
        X : array-like
            At least two samples of the shape and range that `fit` saw.
        y : None
            Ignored.

        Returns
        -------
        score : float
            In nats.
        """
        check_is_fitted(self, "net_")
        X = self._check_again(X)
        if len(X) < 2:
            raise ValueError(
                "score compares samples with their neighbours and needs at least 2 "
                f"samples. Got n_samples = {len(X)}."
            )
        runtime = self._runtime()
        embedding = self._embed(X, runtime)
        K = min(max(1, self.neighbors_.shape[1]), len(X) - 1)
        rows, metric = self._comparable(embedding)
        neighbors = mine_neighbors(rows, K, metric=metric, device=runtime.device)
        with runtime.isolated(0):
            source = self._open(X, embedding, runtime)
            judge = Judge(source, neighbors, entropy_weight=1)
            return -judge.loss(self._network(runtime))

    # The steps of the algorithm.

    def _begin(self, X, y, given):
        """Gather what the steps share."""
        runtime = self._runtime()
        seed = resolve_seed(self.random_state)
        seeds = spawn_seeds(seed, STEPS)
        pretext = resolve_pretext(
            self.pretext,
            encoder=self.encoder,
            is_image=X.ndim > 2,
            seed=seeds["pretext"],
        )
        self._check_steps(pretext)
        steps = [self.head_search]
        if isinstance(pretext, BasePretext):
            steps += [pretext, self.clustering, self.self_labeling]
        n_stages = sum(step is not None for step in steps)
        context = self._init_callback_context(max_subtasks=n_stages)
        context.call_on_fit_task_begin(estimator=self, X=given, y=y)
        progress = FitProgress(self, context, self.verbose, given, y)
        self.history_ = progress.history
        memory = _open_memory(self.memory)
        return Run(
            pretext=pretext,
            trainer=Trainer(runtime, progress, self._checked_checkpoint(), memory),
            seeds=seeds,
            memory=memory,
            context=context,
            threshold=self.threshold,
            keep=self.keep,
            reconstruct=self._reconstruct,
        )

    def _plan_batches(self, X, run):
        """Learn now what memory has no room for, and not after the first step."""
        if not isinstance(run.pretext, BasePretext):
            return
        sizes = {}
        for step in ("clustering", "self_labeling"):
            training = self._training(step)
            if training is not None and not training.freeze_encoder:
                sizes[step] = training.make_schedule(step, self.batch_size).batch_size
        format = getattr(run.pretext, "_format", self._format)
        plan_batches(X, run.pretext, format, sizes, run.trainer)

    def _schedule(self, step, training, run):
        """Return the schedule of a step, with the batches that memory has room for."""
        schedule = training.make_schedule(step, self.batch_size)
        size = run.trainer.batch_sizes.get(step, schedule.batch_size)
        return replace(schedule, batch_size=size)

    def _learn_embedding(self, X, run):
        if is_trained(run.pretext):
            # The network reads what it was trained to read.
            self._format = run.pretext._format
            return run.pretext, embed_frozen(X, run.pretext, run.runtime)
        learned = learn_embedding(X, run.pretext, run.memory, run.trainer)
        remember_input(learned[0], like=self)
        return learned

    def _find_neighbors(self, neighbors, run):
        n_samples = len(self.embedding_)
        if neighbors is not None:
            return neighbors
        half_a_cluster = max(1, n_samples // (2 * int(self.n_clusters)))
        K = min(int(self.K), half_a_cluster, n_samples - 1)
        if K == 0:
            return np.empty((n_samples, 0), dtype=np.int64)
        rows, metric = self._comparable(self.embedding_)
        return find_neighbors(
            rows,
            K,
            metric=metric,
            device=run.runtime.device,
            memory=run.memory,
        )

    def _cluster(self, X, run):
        loss = SCANLoss(self.entropy_weight)
        with run.isolated("head_search"):
            network = self._start_network(loss, run)
        if not self._is_end_to_end():
            return network

        run.source = self._open(X, self.embedding_, run.runtime)
        with run.isolated("clustering"):
            training = self._training("clustering") or TrainingConfig()
            views = build_views(self._views_of(training), run.source)
            run.judge = Judge(
                run.source, self.neighbors_, loss.final_weight, views, run.sample_weight
            )
            if self.head_search is not None:
                run.judge_start(network)
            if self.clustering is None:
                return network
            candidate = cluster(
                network,
                views,
                self.neighbors_,
                loss,
                self._schedule("clustering", training, run),
                run,
                freeze_encoder=training.freeze_encoder,
            )
        result = run.better_clustered(candidate, network)
        if self.head_search is None and result is network:
            raise ValueError(
                "The training of the heads diverged: their loss is not finite. Lower "
                f"the learning rate, lr={training.lr}, of clustering."
            )
        return result

    def _start_network(self, loss, run):
        """Search heads on the embedding, or put random ones on the encoder."""
        n_clusters, n_heads = int(self.n_clusters), int(self.n_heads)
        training = self._training("head_search")
        if training is None:
            encoder = self.pretext_.make_encoder()
            heads = ClusterHeads(encoder.n_features, n_clusters, n_heads)
            network = ClusterNetwork(encoder, heads, nn.Identity())
            return network.to(run.runtime.device)
        run.source = _open_rows(self.embedding_, run.runtime)
        schedule = training.make_schedule("head_search", self.batch_size)
        loss = self._search_loss(schedule, run)
        network, run.sample_weight = search_heads(
            run.source,
            self.neighbors_,
            n_clusters,
            n_heads,
            loss,
            schedule,
            run,
        )
        with run.isolated("polishing"):
            polish_head(
                network,
                run.source,
                self.neighbors_,
                loss.final_weight,
                schedule.n_steps(len(run.source)),
                run.sample_weight,
            )
        if self._is_end_to_end():
            network = network.on_top_of(self.pretext_.make_embedder())
        return network

    def _search_loss(self, schedule, run):
        """Return the loss of the search of heads.

        Rows come from anywhere, and their clusters are of any sizes, so that the weight
        of the entropy falls. An embedding that was trained on the samples themselves
        spreads them over its sphere; there the full weight is the better guide.
        """
        is_given = not self._is_end_to_end()
        n_steps = schedule.n_steps(len(run.source)) if is_given else None
        return SCANLoss(self.entropy_weight, n_steps)

    def _self_label(self, network, run):
        training = self._training("self_labeling")
        if not self._is_end_to_end() or training is None:
            return network
        with run.isolated("self_labeling"):
            candidate = self_label(
                network,
                build_views(self._views_of(training), run.source, strong=True),
                ConfidenceLoss(self.threshold, self.class_weight == "balanced"),
                self._schedule("self_labeling", training, run),
                run,
                freeze_encoder=training.freeze_encoder,
                is_guarded=self.keep == "best",
            )
        return run.better_self_labeled(candidate, network)

    def _describe(self, network, run):
        """Set the fitted attributes that follow from the network."""
        vars(self).update(self._reconstruct(network, run.runtime))
        probabilities = run.probabilities(network).numpy()
        self.labels_ = probabilities.argmax(axis=1)
        self.confidence_ = probabilities.max(axis=1)
        self.prototypes_ = find_prototypes(
            self.labels_, self.confidence_, self.embedding_, self.n_clusters
        )
        n_found = len(np.unique(self.labels_))
        if n_found < self.n_clusters:
            warnings.warn(
                f"The samples fill {n_found} of n_clusters={self.n_clusters} clusters. "
                "There may be duplicates among them, or fewer kinds than clusters.",
                ConvergenceWarning,
                stacklevel=4,
            )

    # What the steps and the methods share.

    def _asked_image_shape(self):
        """Return `image_shape`, of the clusterer or else of its pretext."""
        pretext = thaw(self.pretext)
        if self.image_shape is None and isinstance(pretext, BasePretext):
            return pretext.image_shape
        return self.image_shape

    def _check_parameters(self):
        self._validate_params()
        for step in ("head_search", "clustering", "self_labeling"):
            if isinstance(training := getattr(self, step), TrainingConfig):
                training._validate_params()
                check_views(training.views)
        check_views(self.views)
        if isinstance(self.pretext, BasePretext):
            self.pretext._validate_params()
        if isinstance(self.pretext, type):
            name = self.pretext.__name__
            raise TypeError(
                f"pretext is the class {name}, and an instance is needed: {name}()."
            )
        if self.encoder != "auto" and self.pretext != "auto":
            raise ValueError(
                f"encoder={self.encoder!r} was given together with pretext="
                f"{self.pretext!r}, which has an encoder of its own. Give the encoder "
                "to the pretext, or leave the pretext out."
            )
        if is_trained(self.pretext) and self.pretext._trains:
            warnings.warn(
                f"The pretext {type(self.pretext).__name__} is fitted, and will be "
                "trained anew. To use it as it is, pass "
                "sklearn.frozen.FrozenEstimator(pretext).",
                UserWarning,
                stacklevel=4,
            )

    def _check_steps(self, pretext):
        if self.head_search is None and not isinstance(pretext, BasePretext):
            raise ValueError(
                "head_search=None leaves nothing to train: the samples are rows, or "
                "the pretext has no network, so that there is no clustering on views. "
                'Leave head_search at "auto".'
            )
        if self.head_search is None and self.clustering is None:
            raise ValueError(
                "head_search=None and clustering=None were given; heads need one of "
                "them to learn."
            )

    def _check_sizes(self, n_samples):
        if n_samples < self.n_clusters:
            raise ValueError(
                f"n_samples={n_samples} should be >= n_clusters={self.n_clusters}."
            )

    def _training(self, step):
        """Return how a step is trained; None where it is left out."""
        training = getattr(self, step)
        return TrainingConfig() if isinstance(training, str) else training

    def _views_of(self, training):
        return self.views if training.views is None else training.views

    def _checked_checkpoint(self):
        if self.checkpoint is not None and not isinstance(self.random_state, Integral):
            raise ValueError(
                "checkpoint= finds an interrupted fit again by what it began with, and "
                f"random_state={self.random_state!r} makes every fit a new one. Pass "
                "an int."
            )
        return self.checkpoint

    def _reconstruct(self, network, runtime):
        """Return what a copy of the estimator lacks to predict with a network."""
        loss = SCANLoss(self.entropy_weight)
        return {"net_": wrap_trained(network, loss, runtime)}

    def _is_end_to_end(self):
        """Say whether the net reads samples, and not an embedding made by others."""
        return isinstance(self.pretext_, BasePretext)

    def _comparable(self, embedding):
        """Return what neighbours are mined in, and by which metric."""
        if self._is_end_to_end():  # its embedding is unit vectors
            return embedding, "cosine"
        metric = choose_metric(self.embedding_)
        if metric == "cosine":
            embedding = embedding - self.embedding_.mean(axis=0)
        return embedding, metric

    def _check_again(self, X):
        return check_samples(self, X, reset=False)

    def _runtime(self):
        return Runtime.resolve(self.device, self.precision)

    def _embed(self, X, runtime):
        """Embed checked samples."""
        if self._is_end_to_end():
            return self.pretext_._embed(X, runtime)
        return transform_rows(as_rows(X), self.pretext_)

    def _open(self, X, embedding, runtime):
        """Open what the net reads: checked samples, or their embedding."""
        if self._is_end_to_end():
            return ArraySource(X, self._format, runtime.device)
        return _open_rows(embedding, runtime)

    def _network(self, runtime):
        return self.net_.module_.to(runtime.device)

    @property
    def _n_features_out(self):
        return self.embedding_.shape[1]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def _open_rows(rows, runtime):
    """Open rows as they are."""
    return ArraySource(rows, learn_format(rows), runtime.device)


def _open_memory(memory):
    return check_memory(str(memory) if isinstance(memory, os.PathLike) else memory)
