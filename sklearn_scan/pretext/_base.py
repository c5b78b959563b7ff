# SPDX-License-Identifier: BSD-3-Clause
"""What all pretext tasks share: everything but the task.

A pretext task is a subclass of `BasePretext` in a file of its own with one method,
`_make_task(encoder, views, n_samples)`, that returns a module and a criterion (see
`sklearn_scan._engine`); the module keeps the encoder as `encoder`. `_dataset` says what
the module is given of each batch. The package exports the task by name.
"""

import copy
from abc import ABC, abstractmethod
from numbers import Integral, Real

import torch
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sklearn_scan._compat import (
    CallbackSupportMixin,
    Interval,
    StrOptions,
    with_callbacks,
)
from sklearn_scan._engine import (
    LR_SCHEDULES,
    OPTIMIZERS,
    FitProgress,
    Runtime,
    Samples,
    Schedule,
    Trainer,
    infer,
    resolve_seed,
    wrap_trained,
)
from sklearn_scan._nets import ENCODERS, UnitLength, build_encoder
from sklearn_scan._sources import ArraySource, check_samples
from sklearn_scan._views import POLICIES, build_views

_SHARED_PARAMETERS = """encoder : str, class or callable, default="auto"
        The network to train. "auto" is an MLP for rows, a small convolutional network
        for images up to 64 pixels and ResNet-18 for larger ones. By name: "convnet",
        "mlp", "resnet18", "resnet34", "resnet50", "resnet18_cifar" and so on with the
        3 x 3 stem for small images, worth its cost on a GPU, and "resnet18_stl" and so
        on with the paper's stem for images of 96 pixels. Or a class or function
        that is given the shape of a sample, (c, h, w) or (n_features,), and returns a
        `torch.nn.Module` from samples to features (b, d).
    views : str, tuple or callable, default="auto"
        The random views. "auto" measures on `X` which changes are harmless: a crop for
        pictures that fill their frame and an affine map for objects on a plain
        background; a mirror, and changes of hue, only where the set holds images
        that look as if they had been made so. By name: "affine", "photo" (SimCLR's),
        "strong" (the paper's), "vector" (for rows), "none"; or a tuple of "affine",
        "crop", "flip", "color", "light" (colour without hue), "operations" (those of
        the paper), "shapes" (its geometric ones), "cutout". Or a class or function that
        is given the shape of a sample and returns a `torch.nn.Module` from a batch to a
        batch.
    epochs : int or "auto", default="auto"
        Passes through the data. "auto" is 60, or as many as make 400 steps where the
        data are few. :class:`~sklearn_scan.pretext.SimCLR` ends after half of that
        where its loss no longer falls: see the notes of
        :class:`~sklearn_scan.TrainingConfig`.
    batch_size : int, default=256
        Largest number of samples in a step. Where memory is short, batches are
        smaller, with a warning.
    optimizer : {"adamw", "adam", "sgd"} or callable, default="adamw"
        The optimizer; "sgd" has momentum 0.9. Or a function
        ``f(parameters, lr=, weight_decay=)`` that returns a `torch.optim.Optimizer`.
    lr : float, default=3e-3
        Peak learning rate.
    weight_decay : float, default=1e-4
        Weight decay, decoupled in "adamw".
    lr_schedule : {"one_cycle", "cosine", "constant"}, default="one_cycle"
        Learning-rate schedule. "one_cycle" rises for a tenth of the steps and then
        falls to zero along a cosine; "cosine" falls along a cosine from epoch to epoch;
        "constant" stays at the peak.
    image_shape : tuple of int or None, default=None
        Shape (h, w), (h, w, c) or (c, h, w) of one image where `X` holds images as
        rows.
    device : str or torch.device, default="auto"
        Where to compute. "auto" takes a CUDA GPU where there is one.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        Type in which networks are trained. "auto" is bfloat16 on devices with bfloat16
        instructions, GPUs and CPUs alike, and float32 elsewhere. Losses, heads and
        inference are float32.
    random_state : int, RandomState instance or None, default=None
        Determines all random choices. Pass an int for reproducible results.
    verbose : int, default=0
        1 prints a line per epoch."""

_SHARED_ATTRIBUTES = """net_ : skorch.NeuralNet
        The net of the task, in evaluation mode; its module has the trained encoder as
        `net_.module_.encoder`.
    history_ : list of dict
        One record per epoch.
    image_shape_ : tuple of int or None
        Shape of one image as given; None for rows.
    paths_ : list of str
        The files, where `X` was a folder or paths.
    n_features_in_ : int
        Length of the second axis of `X`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, where `X` had any."""


def forget(estimator):
    """Drop what an earlier fit has learned.

    After a fit that failed, `predict` must not answer from the fit before.
    """
    for name in [n for n in vars(estimator) if n.endswith("_") and n[0] != "_"]:
        delattr(estimator, name)


class BasePretext(
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
    ABC,
):
    """Base class of the pretext tasks."""

    _parameter_constraints = {
        "encoder": [StrOptions({"auto", *ENCODERS}), callable],
        "views": [StrOptions(set(POLICIES)), tuple, callable],
        "epochs": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 2, None, closed="left")],
        "optimizer": [StrOptions(set(OPTIMIZERS)), callable],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "lr_schedule": [StrOptions(set(LR_SCHEDULES))],
        "image_shape": [tuple, list, None],
        "device": [str, torch.device],
        "precision": [StrOptions({"auto", "float32", "bfloat16"})],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if cls.__doc__:
            cls.__doc__ = cls.__doc__.replace(
                "{shared_parameters}", _SHARED_PARAMETERS
            ).replace("{shared_attributes}", _SHARED_ATTRIBUTES)

    @abstractmethod
    def __init__(
        self,
        *,
        encoder,
        views,
        epochs,
        batch_size,
        optimizer,
        lr,
        weight_decay,
        lr_schedule,
        image_shape,
        device,
        precision,
        random_state,
        verbose,
    ):
        self.encoder = encoder
        self.views = views
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.lr_schedule = lr_schedule
        self.image_shape = image_shape
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose

    @abstractmethod
    def _make_task(self, encoder, views, n_samples):
        """Return the module, which has `encoder`, and the criterion of the task."""

    # What the module is given of each batch; a task that remembers something of every
    # sample takes `IndexedSamples`.
    _dataset = Samples
    # Whether the loss falls while the task learns, so that the training can end where
    # it no longer does. (A queue or a moving target makes it rise.)
    _settles = False
    # False where `fit` has nothing to learn.
    _trains = True

    @with_callbacks
    def fit(self, X, y=None):
        """Train the encoder.

        Parameters
        ----------
        X : array-like of shape (n, h, w), (n, h, w, c), (n, c, h, w) or (n, d)
            Images or rows; or a folder, or a sequence of paths, of image files.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted transformer.
        """
        self._validate_params()
        forget(self)
        X = check_samples(self, X, image_shape=self.image_shape, reset=True)
        runtime = Runtime.resolve(self.device, self.precision)
        context = self._init_callback_context(max_subtasks=1)
        context.call_on_fit_task_begin(estimator=self, X=X)
        progress = FitProgress(self, context, self.verbose, X, y)
        # There from the start, so that callbacks can read it.
        self.history_ = progress.history.setdefault("pretext", [])
        self._fit_samples(X, Trainer(runtime, progress))
        context.call_on_fit_task_end(estimator=self, X=X)
        return self

    def transform(self, X):
        """Embed samples.

        Parameters
        ----------
        X : array-like
            Samples of the shape that `fit` saw.

        Returns
        -------
        embedding : ndarray of shape (n_samples, n_features_out), dtype float32
            Features of the encoder, each row of length one.
        """
        check_is_fitted(self)
        X = check_samples(self, X, image_shape=self.image_shape, reset=False)
        return self._embed(X, Runtime.resolve(self.device, self.precision))

    def _fit_samples(self, X, trainer):
        """Train on checked samples, as the stage "pretext" of `trainer`."""
        source = ArraySource(X, self._format, trainer.runtime.device)
        schedule = Schedule(
            self.epochs,
            int(self.batch_size),
            self.lr,
            self.weight_decay,
            self.optimizer,
            self.lr_schedule,
            settles=self._settles,
        )
        with trainer.runtime.isolated(resolve_seed(self.random_state)):
            module, criterion = self._build(source)
            self.net_ = trainer.train(
                "pretext", module, criterion, self._dataset(source), schedule
            )
        self.history_ = trainer.progress.history["pretext"]

    def _build(self, source):
        encoder = build_encoder(self.encoder, self._format)
        return self._make_task(encoder, build_views(self.views, source), len(source))

    def _embed(self, X, runtime):
        """Embed checked samples."""
        source = ArraySource(X, self._format, runtime.device)
        return infer(self.make_embedder().to(runtime.device), source).numpy()

    def make_encoder(self):
        """Return a copy of the trained encoder."""
        return copy.deepcopy(self.net_.module_.encoder)

    def make_embedder(self):
        """Return the trained module from samples, as decoded, to the embedding."""
        return nn.Sequential(self.make_encoder(), UnitLength())

    @property
    def _n_features_out(self):
        return self.net_.module_.encoder.n_features

    def _get_state(self):
        """Return what was learned as arrays and primitives, which can be cached."""
        weights = self.net_.module_.state_dict()
        return {
            "weights": {name: value.cpu().numpy() for name, value in weights.items()},
            "history": self.history_,
        }

    def _set_state(self, state, X, runtime):
        """Take over what was learned on the checked samples `X`."""
        with runtime.isolated(0):
            module, criterion = self._build(
                ArraySource(X, self._format, runtime.device)
            )
            weights = {name: torch.tensor(w) for name, w in state["weights"].items()}
            module.load_state_dict(weights)
        self.net_ = wrap_trained(module, criterion, runtime)
        self.history_ = state["history"]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
