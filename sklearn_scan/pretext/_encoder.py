# SPDX-License-Identifier: BSD-3-Clause
"""What all encoders share, however they came by their weights.

An encoder is a scikit-learn transformer. `SCANClustering` calls those of its methods
that take checked samples, with the `InputSpec` that it has learned of them.
"""

import copy
import inspect
from abc import ABC, abstractmethod
from functools import cache, partial
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sklearn_scan._compat import CallbackSupportMixin, StrOptions, with_callbacks
from sklearn_scan._console import SILENT
from sklearn_scan._engine import (
    FitProgress,
    Runtime,
    Samples,
    Trainer,
    infer,
    make_step,
    wrap_trained,
)
from sklearn_scan._inputs import ArraySource, SampleInputMixin
from sklearn_scan._nets import ENCODERS, UnitLength
from sklearn_scan._typing import Floats, SamplesLike
from sklearn_scan._world import alone, fitted_together

_SHARED_ATTRIBUTES = """net_ : skorch.NeuralNet
        The net of the task, in evaluation mode; its module has the trained encoder as
        `net_.module_.encoder`.
    history_ : list of dict
        One record per epoch.
    input_spec_ : object
        What `X` is: layout and range of the samples, by which later ones are read.
    image_shape_ : tuple of int or None
        Shape of one image as given; None for rows.
    paths_ : list of str
        The files, where `X` was a folder or paths.
    skipped_ : dict of str
        For each file that was left out (see `on_error`), why.
    n_features_in_ : int
        Length of the second axis of `X`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Column names, where `X` had any."""


def fill_docstring(cls, **texts):
    """Put into the docstring of a class what those of several classes share.

    The margin is taken away from both: since Python 3.13 the docstring has none.
    """
    if cls.__doc__:
        cls.__doc__ = inspect.cleandoc(cls.__doc__)
        for name, text in texts.items():
            text = inspect.cleandoc(text)
            cls.__doc__ = cls.__doc__.replace(f"{{{name}}}", text)


def forget(estimator):
    """Drop what an earlier fit has learned.

    After a fit that failed, `predict` must not answer from the fit before.
    """
    for name in [n for n in vars(estimator) if n.endswith("_") and n[0] != "_"]:
        delattr(estimator, name)
    for name in ("_backbone", "_known_samples"):
        vars(estimator).pop(name, None)


class BaseEncoder(
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    SampleInputMixin,
    BaseEstimator,
    ABC,
):
    """Base class of transformers that embed samples with a network.

    A subclass has `fit_samples` and `build`.
    """

    _parameter_constraints = {
        "encoder": [StrOptions({"auto", *ENCODERS}), callable],
        "image_shape": [tuple, list, None],
        "on_error": [StrOptions({"raise", "skip"})],
        "device": [str, torch.device],
        "precision": [StrOptions({"auto", "float32", "bfloat16", "float16"})],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }
    #: Whether `fit` learns from the samples, and so loses what an earlier one learned.
    trains = False
    #: Whether more of the task than its encoder is asked after `fit`, and to be saved.
    answers_with_task = False
    #: Whether the encoder has learned elsewhere, and stays as it is unless a stage of
    #: the clusterer is asked to train it.
    is_pretrained = False

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        # A subclass names the parameters that it adds.
        inherited = super(cls, cls)._parameter_constraints
        cls._parameter_constraints = inherited | cls._parameter_constraints
        fill_docstring(cls, shared_attributes=_SHARED_ATTRIBUTES)

    @abstractmethod
    def build(self, source):
        """Return a module that has `encoder`, as it is before it has learned.

        Parameters
        ----------
        source : ArraySource
            The samples.

        Returns
        -------
        module, criterion : nn.Module
        """

    @abstractmethod
    def fit_samples(self, X, input_spec, trainer):
        """Fit on checked samples.

        Parameters
        ----------
        X : ndarray of shape (n_samples, ...)
            Images or rows.
        input_spec : InputSpec
            What they are.
        trainer : Trainer
            Trains the stage "pretext", if there is anything to train.
        """

    @with_callbacks
    @fitted_together
    def fit(self, X: SamplesLike, y: Any = None) -> Self:
        """Train the encoder, or load it.

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
        X = self._learn_samples(X, **self.find_reading())
        runtime = Runtime.resolve(self.device, self.precision)
        context = self._init_callback_context(max_subtasks=1)
        context.call_on_fit_task_begin(estimator=self, X=X)
        progress = FitProgress(self, context, self._open_console(), X, y)
        # There from the start, so that callbacks can read it.
        self.history_ = progress.history.setdefault("pretext", [])
        self.fit_samples(X, self.input_spec_, Trainer(runtime, progress))
        with alone():  # a callback may be there in one of several processes
            context.call_on_fit_task_end(estimator=self, X=X)
        return self

    def transform(self, X: SamplesLike) -> Floats:
        """Embed samples.

        Parameters
        ----------
        X : array-like
            Samples of the shape that `fit` saw.

        Returns
        -------
        embedding : ndarray of shape (n_samples, n_features_out), dtype float32
            Features of the encoder, each row of length one. Rows are NaN for files
            that were skipped (see `on_error`).
        """
        check_is_fitted(self, "net_")
        runtime = Runtime.resolve_fitted(self.device, self.precision)
        X, places = self._check_given(X)
        return places.spread(self.embed_samples(X, runtime, self._open_console()))

    # For `SCANClustering`: checked samples, and nothing that `fit` does besides.

    def find_reading(self, image_shape=None):
        """Return the arguments by which `_learn_samples` reads what this encoder needs.

        Parameters
        ----------
        image_shape : tuple of int or None, default=None
            That of the clusterer, which goes before that of the encoder.
        """
        return {"image_shape": self.image_shape if image_shape is None else image_shape}

    def find_runtime(self, runtime):
        """Return the runtime of a clusterer, or its device in the precision of this."""
        if self.precision == "auto":
            return runtime
        return Runtime.resolve_fitted(runtime.device, self.precision)

    @property
    def is_fitted(self):
        """Whether there is a trained network."""
        return hasattr(self, "net_")

    def fit_embed(self, X, input_spec, trainer):
        """Fit on checked samples, or fetch what was learned; return the embedding."""
        return self.fit_and_embed(X, input_spec, trainer)

    def fit_and_embed(self, X, input_spec, trainer):
        """Fit on checked samples, and return the embedding."""
        self.fit_samples(X, input_spec, trainer)
        embedding = self.embed_samples(X, trainer.runtime)
        if not np.isfinite(embedding).all():
            raise ValueError(
                f"The training of the pretext {self!r} diverged: its embedding is not "
                f"finite. Lower its learning rate (lr={getattr(self, 'lr', None)})."
            )
        return embedding

    def embed_samples(self, X, runtime, console=SILENT):
        """Embed checked samples; tell the console, where this takes long."""
        runtime = self.find_runtime(runtime)
        source = self._open(X, runtime)
        return infer(self.make_embedder().to(runtime.device), source).numpy()

    def plan_batches(self, source, batch_sizes, trainer):
        """Find out, before anything is trained, which batches memory has room for.

        After hours of training the pretext it would be late to learn that the next
        stage does not fit into memory. An untrained encoder tells as well.

        Parameters
        ----------
        source : ArraySource
            The samples.
        batch_sizes : dict of int
            What the stages want in which the encoder learns.
        trainer : Trainer
            Keeps the answers, and warns.
        """
        # Once: a factory may load weights.
        build = cache(partial(self._try_encoder, source, trainer.runtime))

        def prepare(name):
            passes = _Passes(build(), _N_PASSES[name])
            step = make_step(passes, nn.Identity(), trainer.runtime)
            return step, Samples(source)

        self._plan_own_batches(source, build, trainer)
        for name, wish in batch_sizes.items():
            trainer.plan_batches(name, wish, source, partial(prepare, name))

    def _plan_own_batches(self, source, build, trainer):
        """Find out which batches of the pretext itself memory has room for."""

    def make_encoder(self):
        """Return a copy of the trained encoder."""
        return copy.deepcopy(self.net_.module_.encoder)

    def make_embedder(self):
        """Return the trained module from samples, as decoded, to the embedding."""
        return nn.Sequential(self.make_encoder(), UnitLength())

    def get_state(self):
        """Return what was learned as arrays and primitives, which can be cached."""
        weights = self.net_.module_.state_dict()
        return {
            "weights": {name: value.cpu().numpy() for name, value in weights.items()},
            "history": self.history_,
        }

    def set_state(self, state, X, input_spec, runtime):
        """Take over what was learned on the checked samples `X`."""
        self._take_input_spec(input_spec)
        with runtime.isolated(0):
            module, criterion = self.build(self._open(X, runtime))
            weights = {name: torch.tensor(w) for name, w in state["weights"].items()}
            module.load_state_dict(weights)
        self.net_ = wrap_trained(module, criterion, runtime)
        self.history_ = state["history"]

    def _open(self, X, runtime):
        return ArraySource.open(X, self.input_spec_.format, runtime)

    def _try_encoder(self, source, runtime):
        """Return an encoder as it is now, or as it would be at first."""
        if self.is_fitted:
            return self.make_encoder()
        with runtime.isolated(0):
            return self._build_encoder(source)

    def _build_encoder(self, source):
        return self.build(source)[0].encoder

    @property
    def _n_features_out(self):
        return self.net_.module_.encoder.n_features

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


# How often the encoder sees a sample, or its neighbour, in a stage that it learns in.
_N_PASSES = {"clustering": 2, "self_labeling": 1}


class _Passes(nn.Module):
    """An encoder that sees a batch several times."""

    def __init__(self, encoder, n_passes):
        super().__init__()
        self.encoder = encoder
        self.n_passes = n_passes

    def forward(self, samples):
        return ([self.encoder(samples) for _ in range(self.n_passes)],)
