# SPDX-License-Identifier: BSD-3-Clause
"""SCANClustering: the estimator whose `fit` is the algorithm of the paper."""

from typing import Any, Literal, Self

from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning

from sklearn_scan._backbone import resolve_backbone
from sklearn_scan._calibration import find_temperature, soften
from sklearn_scan._compat import CallbackSupportMixin, with_callbacks
from sklearn_scan._config import StageConfig
from sklearn_scan._engine import (
    FitProgress,
    Runtime,
    StageCache,
    Trainer,
    infer,
    resolve_seed,
    spawn_seeds,
    warn_user,
)
from sklearn_scan._inputs import StoredImages, sharing
from sklearn_scan._losses import SCANLoss, is_confident
from sklearn_scan._params import (
    CONSTRAINTS,
    STAGES,
    NestedParametersMixin,
    check_size,
    check_together,
    check_trainable,
    find_batch_sizes,
    find_n_heads,
    find_reading,
    find_sizes,
    follows_sizes,
    keeps_encoder,
    plan_stages,
)
from sklearn_scan._predict import PredictorMixin
from sklearn_scan._stages import (
    SEEDS,
    Evaluator,
    FitContext,
    MinedSamples,
    Selector,
    cluster,
    count_clusters,
    explain_empty_clusters,
    find_neighbors,
    find_prototypes,
    make_confidence_loss,
    make_net,
    search_heads_once,
    self_label,
    start_heads,
)
from sklearn_scan._typing import (
    AutoInt,
    ClusterSizes,
    Device,
    EncoderLike,
    OnError,
    PathLike,
    Precision,
    RandomState,
    SamplesLike,
    Shape,
    ViewsLike,
)
from sklearn_scan._views import build_views
from sklearn_scan._world import alone, fitted_together, world
from sklearn_scan.neighbors import check_neighbors
from sklearn_scan.pretext._encoder import forget


class SCANClustering(
    CallbackSupportMixin, PredictorMixin, NestedParametersMixin, BaseEstimator
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

    Rows (2-D `X` without `image_shape`) are taken for an embedding: only classifiers on
    them are trained, which takes seconds, and `views`, `threshold`, `clustering` and
    `self_labeling` change nothing. Features keep their scales, as in `KMeans`.

    Parameters
    ----------
    n_clusters : int or "auto", default=10
        The number of clusters. "auto" estimates it on the embedding, with a warning
        where it is doubtful; see
        :func:`~sklearn_scan.model_selection.estimate_n_clusters`.
    K : int, default=20
        Neighbours mined per sample; the paper's K. With 0 a sample is compared with
        another view of itself alone. Never more than half of the average cluster, as
        farther neighbours cannot be of it.
    threshold : float, default=0.99
        A sample is confident if its largest probability is greater than this value, in
        (0, 1]. Used in self-labelling, and to decide which results are kept; both look
        at probabilities as the network gives them, before `temperature_`.
    entropy_weight : float, default=5.0
        Weight of the entropy of the mean prediction; the paper's lambda. Where `X` is
        rows, or the pretext is a transformer of others, it falls to a fifth after a
        quarter of the training.
    cluster_sizes : "auto", "equal" or array-like of shape (n_clusters,), default="auto"
        Which sizes clusters are expected to have. "equal" is the entropy of the paper,
        and so is "auto", unless clusters of very different sizes are clearly seen (see
        Notes). Numbers are the sizes where they are known, in any order and of any sum:
        the mean prediction is compared with them in place of equal sizes.
    n_heads : int or "auto", default="auto"
        Heads that are trained, of which one is kept; like `n_init` of KMeans. "auto" is
        60 where they are searched on an embedding that was trained on `X`, and 20
        elsewhere. On such an embedding the best 20 are trained to the end.
    pretext : "auto" or transformer, default="auto"
        Step 1. "auto" is :class:`~sklearn_scan.pretext.SimCLR` for images (and for
        rows, if `encoder` is given); other rows are used as they are. Or an unfitted
        task of :mod:`sklearn_scan.pretext`, whose encoder is trained on in steps 2 and
        3; or :class:`~sklearn_scan.pretext.Pretrained`, whose encoder stays as it is
        unless `clustering` or `self_labeling` is a `TrainingConfig`, and which shows it
        each image once; or any other transformer, such as ``PCA(50)``, that is given
        rows and whose output is clustered as it is. Pass ``FrozenEstimator(fitted)`` to
        use a fitted one. Where its `random_state` is None, it is set from
        `random_state`; `device`, `precision`, `verbose` and callbacks are those of the
        clusterer.
    encoder : str, class or callable, default="auto"
        The network of the "auto" pretext; see :class:`~sklearn_scan.pretext.SimCLR`.
        Any other pretext has an encoder of its own.
    views : str, tuple or callable, default="auto"
        The random views of steps 2 and 3; see :class:`~sklearn_scan.pretext.SimCLR`.
        In step 3, "auto" is the strong set of the paper for pictures that fill their
        frame.
    head_search : "auto", None or TrainingConfig, default="auto"
        How heads are trained on the frozen embedding in step 2; see
        :class:`~sklearn_scan.TrainingConfig`. None puts random heads on the encoder.
    clustering : "auto", None or TrainingConfig, default="auto"
        How the whole network is trained on views in step 2. None skips this, and step 3
        begins with the encoder as the pretext trained it.
    self_labeling : "auto", None or TrainingConfig, default="auto"
        How step 3 is trained; None leaves it out.
    class_weight : "balanced" or None, default="balanced"
        Whether confident samples of step 3 weigh inversely to the size of a cluster.
    keep : {"best", "last"}, default="best"
        Whether results of the clustering on views and of self-labelling are kept only
        if they are not clearly worse ("best"), or always, as in the reference ("last").
    batch_size : int, default=512
        Largest number of samples in a step. Where it is less than ten for every
        cluster, the entropy is that of recent batches together (see Notes). Where
        memory is short, batches are smaller, with a warning.
    image_shape : tuple of int or None, default=None
        Shape (h, w), (h, w, c) or (c, h, w) of one image, where `X` holds images as
        rows, files or pictures. The last two are brought to it.
    on_error : {"raise", "skip"}, default="raise"
        What to do where `X` is files of which some cannot be read. "raise" ends before
        anything is trained, with one error that names them; "skip" leaves them out,
        with one warning. The attributes, and `predict` and the like, keep a row for
        each: the label -1, and NaN in floating-point arrays.
    memory : str, joblib.Memory or None, default=None
        Where to cache the pretext, the mining and every later stage. Each depends on
        `X`, on its own parameters, on the stages before and on the seed: a grid search
        trains the pretext once per fold, and one over `threshold` trains nothing but
        step 3 again. Needs an int as `random_state`.
    checkpoint : str, PathLike or None, default=None
        Folder in which every stage writes its state after each epoch. A fit that was
        interrupted goes on from there when it is repeated with the same data and
        parameters, and an int as `random_state`. Delete the files when it is done.
    device : str or torch.device, default="auto"
        Where to compute. "auto" takes a CUDA GPU where there is one.
    precision : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        Type in which networks learn, and look at images afterwards. "auto" is bfloat16
        where there are fast instructions for it, float16 on GPUs that have them for it
        alone, else float32. Losses and heads are float32, as are the answers of
        networks that read rows, and never TF32.
    random_state : int, RandomState instance or None, default=None
        Pass an int for labels that are the same in every fit, to the bit on a CPU.
    verbose : int, default=0
        1 prints a line per stage, which grows in a terminal and in a notebook; a log is
        told of long stages every minute. 2 prints a line per epoch.

    Attributes
    ----------
    labels_ : ndarray of shape (n_samples,), dtype int64
        The cluster of each training sample.
    confidence_ : ndarray of shape (n_samples,), dtype float32
        The largest probability of each training sample, calibrated as in
        `predict_proba`.
    temperature_ : float
        What the logits of the network are divided by in `predict_proba`. Above 1 where
        the network is surer than neighbours bear out.
    embedding_ : ndarray of shape (n_samples, n_features_out), dtype float32
        What the pretext makes of the training samples; `transform` gives the same.
    neighbors_ : ndarray of shape (n_samples, k), dtype int64
        Indices of the mined neighbours, nearest first, without the sample itself; or
        those that `fit` was given.
    n_clusters_ : int
        The number of clusters, as given or as estimated.
    prototypes_ : ndarray of shape (`n_clusters_`,), dtype int64
        For each cluster the training sample that shows it best: of the ten most
        confident members, the one nearest to their mean in the embedding. -1 where a
        cluster has no member.
    history_ : dict of list of dict
        One record per epoch under the name of each stage: "pretext", "head_search",
        "clustering" and "self_labeling". Under "selection", what was measured of their
        results: the label-free "loss", the "confident" share of samples above
        `threshold`, the "agreement" with the stage before where both are confident, the
        "invariance" under views, and whether the result was "kept". Under
        "calibration", the "temperature" and, before it, the "confident" share of the
        final answers. Under "counting", where `n_clusters` is "auto", one record per
        number that was tried, with its "silhouette", its "modularity", its
        "prediction_strength" and its "kmeans_silhouette". Under "decoding", how many
        "images" the cache holds, and how many of them were "decoded" now.
    pretext_ : estimator
        The fitted pretext.
    input_spec_ : object
        What `X` is: layout and range of the samples, by which later ones are read.
    net_ : skorch.NeuralNet
        The trained net, in evaluation mode.
    paths_ : list of str
        The files, where `X` was a folder or paths.
    skipped_ : dict of str
        For each file that was left out (see `on_error`), why. Its label is -1, its rows
        of `confidence_` and `embedding_` are NaN, and its neighbours -1; it is nobody's
        neighbour, and no prototype.
    image_shape_ : tuple of int or None
        Shape of one image as given; None for rows.
    n_features_in_ : int
        Length of the second axis of `X`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Column names, where `X` had any.

    See Also
    --------
    sklearn.cluster.KMeans : Clusters vectors by distance to a centre.
    sklearn_scan.pretext.SimCLR : Step 1 on its own.

    Notes
    -----
    *Choosing without labels.* The reference chooses heads and epochs by the SCAN loss
    on its test images. Here there is only `X`: heads on rows are chosen by the
    normalised cut of their clusters in the graph of neighbours, heads on a trained
    embedding by the loss on training samples. The result of the clustering on views is
    kept if its loss is no higher, or if it is about as confident as before, agrees with
    the earlier confident answers and is invariant under views. So is that of
    self-labelling, which must agree in any case. See `history_["selection"]`, and "How
    it works" for the limits.

    *Clusters of very different size.* The loss prefers clusters of equal size. Where a
    partition of the embedding cuts off clearly fewer neighbours, heads follow its sizes
    instead. With numbers as `cluster_sizes`, the entropy ``H(mean p)`` gives way to
    ``log(n_clusters) - KL(mean p || sizes)``, with both in ascending order. `score`
    does not take sizes into account.

    *Small batches.* In batches of b samples, with ``r = 10 * n_clusters / b > 1``, the
    entropy is that of an exponential moving average of the mean prediction, with
    momentum ``(r - 1) / (r + 1)`` and the correction of Adam for its start; gradients
    are those of the present batch.

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
    >>> clusterer.labels_.shape, clusterer.predict_proba(X[:1]).shape
    ((90,), (1, 3))
    """

    _parameter_constraints = CONSTRAINTS

    def __init__(
        self,
        n_clusters: AutoInt = 10,
        *,
        K: int = 20,
        threshold: float = 0.99,
        entropy_weight: float = 5.0,
        cluster_sizes: ClusterSizes = "auto",
        n_heads: AutoInt = "auto",
        pretext: Any = "auto",
        encoder: EncoderLike = "auto",
        views: ViewsLike = "auto",
        head_search: StageConfig = "auto",
        clustering: StageConfig = "auto",
        self_labeling: StageConfig = "auto",
        class_weight: Literal["balanced"] | None = "balanced",
        keep: Literal["best", "last"] = "best",
        batch_size: int = 512,
        image_shape: Shape = None,
        on_error: OnError = "raise",
        memory: Any = None,
        checkpoint: PathLike | None = None,
        device: Device = "auto",
        precision: Precision = "auto",
        random_state: RandomState = None,
        verbose: int = 0,
    ):
        self.n_clusters = n_clusters
        self.K = K
        self.threshold = threshold
        self.entropy_weight = entropy_weight
        self.cluster_sizes = cluster_sizes
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
        self.on_error = on_error
        self.memory = memory
        self.checkpoint = checkpoint
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose

    @with_callbacks
    @fitted_together
    @sharing()
    def fit(
        self, X: SamplesLike, y: Any = None, *, neighbors: ArrayLike | None = None
    ) -> Self:
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
        self._validate_params()
        if advice := check_together(self):
            warn_user(advice)
        forget(self)
        console = self._open_console()
        given, X = X, self._learn_samples(X, console=console, **find_reading(self))
        check_size(len(X), self.n_clusters)
        places = self.input_spec_.places
        if neighbors is not None:
            neighbors = check_neighbors(neighbors, places.n_given or len(X))
            neighbors = places.gather(neighbors)
        plans = plan_stages(self)
        backbone, context, task = self._begin(X, y, given, plans, console)
        if isinstance(X, StoredImages):
            n_decoded = {"images": len(X), "decoded": X.n_decoded}
            self.history_["decoding"] = [n_decoded]

        # Step 1: train the pretext task, and mine neighbours in its embedding.
        self.embedding_ = backbone.fit_embed(X, context)
        self.pretext_ = backbone.pretext
        rows, metric = backbone.compare(self.embedding_)
        self.n_clusters_ = self._find_n_clusters(rows, metric, context)
        if neighbors is None:
            K, n_clusters = int(self.K), self.n_clusters_
            neighbors = find_neighbors(rows, K, n_clusters, metric, context)
        self.neighbors_ = neighbors

        # Step 2: minimise the SCAN loss, by heads alone and then by the whole network.
        network, weight = self._search_heads(plans["head_search"], context)
        samples = MinedSamples(
            backbone.open(X, self.embedding_, context.runtime), neighbors, weight
        )
        if backbone.learns:
            selector = self._cluster(network, samples, plans["clustering"], context)
            # Step 3: learn from confident answers.
            self._self_label(selector, plans["self_labeling"], context)
            network, probabilities = selector.network, selector.probabilities()
        else:
            probabilities = infer(network.probabilities, samples.source)

        probabilities = world().agree(probabilities)
        self._set_results(network, probabilities.numpy(), rows, metric, context.runtime)
        self._spread_results(places)
        console.sum_up("fit", len(X), "sample", self._describe_result())
        with alone():  # a callback may be there in one of several processes
            task.call_on_fit_task_end(
                estimator=self, X=given, y=y, reconstruction_attributes={}
            )
        return self

    def _begin(self, X, y, given, plans, console):
        """Return the backbone, what all stages share, and the task of callbacks."""
        runtime = Runtime.resolve(self.device, self.precision)
        cache = StageCache.open(self.memory)
        cache.sweep()
        seeds = spawn_seeds(resolve_seed(self.random_state), SEEDS)
        backbone = resolve_backbone(
            self, self.input_spec_, seeds["pretext"], is_kept=keeps_encoder(self)
        )
        check_trainable(self, backbone)
        self._backbone, self.input_spec_ = backbone, backbone.input_spec
        stages = STAGES if backbone.learns else STAGES[:1]
        n_stages = sum(plans[name] is not None for name in stages)
        task = self._init_callback_context(max_subtasks=backbone.n_stages + n_stages)
        task.call_on_fit_task_begin(estimator=self, X=given, y=y)
        progress = FitProgress(self, task, console, given, y)
        self.history_ = progress.history
        trainer = Trainer(runtime, progress, self.checkpoint, cache)
        backbone.plan_batches(X, find_batch_sizes(plans), trainer)
        return backbone, FitContext(trainer, seeds), task

    def _find_n_clusters(self, rows, metric, context):
        """Return the number of clusters as given, or as the embedding says."""
        if self.n_clusters != "auto":
            return int(self.n_clusters)
        estimate = world().agree(count_clusters(rows, metric, context))
        self.history_["counting"] = estimate.list_records()
        if advice := estimate.explain_doubt():
            warn_user(advice)
        return estimate.n_clusters

    def _search_heads(self, plan, context):
        """Search heads on the embedding, or put random ones on the encoder."""
        backbone, runtime = self._backbone, context.runtime
        n_clusters, n_heads = self.n_clusters_, find_n_heads(self, backbone)
        with context.isolated("head_search"):
            if plan is None:
                encoder = backbone.make_encoder()
                return start_heads(encoder, n_clusters, n_heads, runtime.device), None
            source = backbone.open_embedding(self.embedding_, runtime)
            rows = MinedSamples(source, self.neighbors_, is_learned=backbone.learns)
            # Rows come from anywhere, and their clusters may be of any sizes. A trained
            # embedding spreads them evenly; there the full weight is the better guide.
            n_steps = None if backbone.learns else plan.schedule.n_steps(len(rows))
            loss = SCANLoss(self.entropy_weight, n_steps, find_sizes(self))
            network, weight = search_heads_once(
                rows, n_clusters, n_heads, loss, plan, context, follows_sizes(self)
            )
            world().agree_on_weights(network)
            weight = world().agree(weight)
            return backbone.carry(network), weight

    def _cluster(self, network, samples, plan, context):
        """Train the network on views; return the selector, which keeps the better."""
        with context.isolated("clustering"):
            views = build_views(plan.views if plan else self.views, samples.source)
            sizes = find_sizes(self)
            evaluator = Evaluator(samples, self.entropy_weight, views, sizes)
            selector = Selector(evaluator, self.threshold, self.keep, context)
            selector.begin(network, is_trained=self.head_search is not None)
            if plan is None:
                return selector
            loss = SCANLoss(self.entropy_weight, sizes=sizes)
            candidate = cluster(network, loss, plan, evaluator, context)
        selector.choose_clustered(candidate)
        if self.head_search is None and selector.network is network:
            raise ValueError(
                "The training of the heads diverged: their loss is not finite. Lower "
                f"the learning rate, lr={plan.schedule.lr}, of clustering."
            )
        return selector

    def _self_label(self, selector, plan, context):
        """Train the network on its confident answers; the selector keeps the better."""
        if plan is None:
            return
        loss, reason = make_confidence_loss(
            selector.probabilities(),
            self.threshold,
            balanced=self.class_weight == "balanced",
            is_guarded=self.keep == "best",
        )
        if loss is not None:
            with context.isolated("self_labeling"):
                network, evaluator = selector.network, selector.evaluator
                candidate = self_label(network, loss, plan, evaluator, context)
            reason = selector.choose_self_labeled(candidate)
        if reason:
            warn_user(reason, ConvergenceWarning)

    def _describe_result(self):
        """Return the figures of the fit for its last line."""
        share = self.history_["calibration"][0]["confident"]
        n_found = len(set(self.labels_[self.labels_ >= 0].tolist()))
        return f"{n_found} clusters  confident {share:.3f}"

    def _set_results(self, network, probabilities, rows, metric, runtime):
        """Set the fitted attributes that follow from the network."""
        self.net_ = make_net(network, self.entropy_weight, runtime)
        self.labels_ = probabilities.argmax(axis=1)
        self.temperature_ = find_temperature(probabilities, rows, metric)
        self.confidence_ = soften(probabilities, self.temperature_).max(axis=1)
        share = is_confident(probabilities.max(axis=1), self.threshold).mean()
        record = {"temperature": self.temperature_, "confident": float(share)}
        self.history_["calibration"] = [record]
        self.prototypes_ = find_prototypes(
            self.labels_, self.confidence_, self.embedding_, self.n_clusters_
        )
        if reason := explain_empty_clusters(self.labels_, self.n_clusters_):
            warn_user(reason, ConvergenceWarning)

    def _spread_results(self, places):
        """Let the fitted attributes have a row for each file that was given."""
        self.labels_ = places.spread(self.labels_, -1)
        self.confidence_ = places.spread(self.confidence_)
        self.embedding_ = places.spread(self.embedding_)
        self.neighbors_ = places.spread(places.number(self.neighbors_), -1)
        self.prototypes_ = places.number(self.prototypes_)
