# SPDX-License-Identifier: BSD-3-Clause
"""What cluster heads stand on: an encoder that learns with them, or a fixed embedding.

`resolve_backbone` makes it when `fit` begins; once fitted, it is read-only. `fit` and
`predict` call its methods and never check the type of the pretext.
"""

import copy
import pickle
from dataclasses import replace

import joblib
import numpy as np
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.validation import check_is_fitted

from sklearn_scan._console import SILENT
from sklearn_scan._inputs import ArraySource, LazyImages, learn_format
from sklearn_scan.neighbors import choose_metric
from sklearn_scan.pretext._caching import identify_pretext
from sklearn_scan.pretext._encoder import BaseEncoder
from sklearn_scan.pretext._simclr import SimCLR


def resolve_backbone(clusterer, input_spec, seed, *, is_kept):
    """Return the backbone that the parameters `pretext` and `encoder` ask for.

    "auto" is SimCLR for images, and for rows where an encoder is asked for; rows are
    otherwise taken for an embedding, and passed through as they are.

    Parameters
    ----------
    clusterer : SCANClustering
        Its pretext is not changed: an unfitted copy of it is fitted later.
    input_spec : InputSpec
        What `X` is.
    seed : int
        For every `random_state` of the pretext that is None.
    is_kept : bool
        Whether an encoder of this library stays as it is.
    """
    pretext = clusterer.pretext
    ours = find_encoder(pretext)
    if ours is not None and ours is not pretext:
        check_is_fitted(ours, "net_")
        if ours.is_pretrained:
            ours = _with_settings(copy.copy(ours), clusterer)
        return (KeptBackbone if is_kept else FrozenBackbone)(ours, input_spec)
    pretext = _make_pretext(pretext, clusterer.encoder, input_spec)
    pretext = _with_seed(pretext, seed)
    ours = find_encoder(pretext)
    if ours is not None:
        ours = _with_settings(ours, clusterer)
    if is_kept:
        return KeptBackbone(ours, input_spec)
    can_learn = find_encoder(pretext) is pretext
    return (TrainableBackbone if can_learn else FixedBackbone)(pretext, input_spec)


def find_encoder(pretext):
    """Return the encoder of this library that a pretext is, or that is frozen in it.

    None where there is none: the pretext is a transformer of others.
    """
    if isinstance(pretext, FrozenEstimator):
        pretext = pretext.estimator
    return pretext if isinstance(pretext, BaseEncoder) else None


def _make_pretext(pretext, encoder, input_spec):
    if pretext != "auto":
        return clone(pretext)
    if input_spec.image_shape is not None or encoder != "auto":
        return SimCLR(encoder=encoder)
    return FunctionTransformer(feature_names_out="one-to-one")


def _with_seed(pretext, seed):
    unset = {
        name: seed
        for name, value in pretext.get_params(deep=True).items()
        if name.rpartition("__")[2] == "random_state" and value is None
    }
    return pretext.set_params(**unset) if unset else pretext


def _with_settings(pretext, clusterer):
    """Let an encoder embed as the clusterer says, where it says nothing itself."""
    if pretext.is_pretrained and pretext.memory is None:
        pretext.memory = clusterer.memory
    if pretext.precision == "auto":
        pretext.precision = clusterer.precision
    return pretext


class TrainableBackbone:
    """An encoder of this library, which learns on when heads stand on it.

    Parameters
    ----------
    pretext : BaseEncoder
        Unfitted.
    input_spec : InputSpec
        What `X` is.
    """

    #: Whether the network reads samples, and its encoder can be trained on them.
    learns = True

    def __init__(self, pretext, input_spec):
        self.pretext = pretext
        self.input_spec = input_spec

    @property
    def n_stages(self):
        """How many stages of training it takes to fit it."""
        return int(self.pretext.trains)

    def plan_batches(self, X, batch_sizes, trainer):
        """Find out, before anything is trained, which batches memory has room for.

        Parameters
        ----------
        X : ndarray of shape (n_samples, ...)
            Images or rows.
        batch_sizes : dict of int
            What the stages want in which the encoder learns.
        trainer : Trainer
            Keeps the answers, and warns.
        """
        source = self.open(X, None, trainer.runtime)
        source.share()
        self.pretext.plan_batches(source, batch_sizes, trainer)

    def fit_embed(self, X, context):
        """Fit the pretext, or fetch it from the cache; return the embedding of `X`."""
        runtime = self.pretext.find_runtime(context.runtime)
        trainer = replace(context.trainer, runtime=runtime)
        return self.pretext.fit_embed(X, self.input_spec, trainer)

    def embed(self, X, runtime, console=SILENT):
        """Embed checked samples."""
        return self.pretext.embed_samples(X, runtime, console)

    def open(self, X, embedding, runtime):
        """Return what the network reads of checked samples: the samples."""
        return ArraySource.open(X, self.input_spec.format, runtime)

    def open_embedding(self, embedding, runtime):
        """Return the embedding as a source, for the search of heads."""
        return ArraySource(embedding, learn_format(embedding), runtime.device)

    def compare(self, embedding):
        """Return what distances are taken in, and the metric: unit vectors, cosine."""
        return embedding, "cosine"

    def make_encoder(self):
        """Return a copy of the encoder as the pretext trained it."""
        return self.pretext.make_encoder()

    def carry(self, network):
        """Return a network that reads the embedding as one that reads samples."""
        return network.on_top_of(self.pretext.make_embedder())


class FrozenBackbone(TrainableBackbone):
    """An encoder of this library that was fitted before.

    Parameters
    ----------
    pretext : BaseEncoder
        Fitted.
    input_spec : InputSpec
        What `X` is. Its range is that of the pretext, as its network reads what it was
        trained to read.
    """

    def __init__(self, pretext, input_spec):
        format = pretext.input_spec_.format
        super().__init__(pretext, replace(input_spec, format=format))

    @property
    def n_stages(self):
        """How many stages of training it takes to fit it."""
        return 0

    def fit_embed(self, X, context):
        """Embed `X`, if it has the shape and range that the pretext was fitted on."""
        check_fitted_format(X, self)
        return self.embed(X, context.runtime, context.progress.console)


class FixedBackbone:
    """Any transformer, or none: heads stand on its output, which does not change.

    Parameters
    ----------
    pretext : estimator
        Unfitted; is given rows.
    input_spec : InputSpec
        What `X` is.
    """

    #: Whether the network reads samples, and its encoder can be trained on them.
    learns = False

    def __init__(self, pretext, input_spec):
        self.pretext = pretext
        self.input_spec = input_spec
        # Of the embedding of the training samples; learned in `fit_embed`.
        self.format = None
        self.metric = None
        self.center = None

    @property
    def n_stages(self):
        """How many stages of training it takes to fit it."""
        return 0

    def plan_batches(self, X, batch_sizes, trainer):
        """Do nothing: heads take little memory."""

    def fit_embed(self, X, context):
        """Fit the transformer, or fetch it from the cache; return its output."""
        rows = as_rows(X)
        self.pretext, embedding = _fit_transformer_once(rows, self.pretext, context)
        return self.learn_embedding(embedding)

    def learn_embedding(self, embedding):
        """Learn what later rows are read by; return the embedding."""
        self.format = learn_format(embedding)
        self.metric = choose_metric(embedding)
        self.center = embedding.mean(axis=0)
        return embedding

    def embed(self, X, runtime, console=SILENT):
        """Transform checked samples."""
        return transform_rows(as_rows(X), self.pretext)

    def open(self, X, embedding, runtime):
        """Return what the network reads of checked samples: their embedding."""
        return self.open_embedding(embedding, runtime)

    def open_embedding(self, embedding, runtime):
        """Return an embedding as a source."""
        return ArraySource(embedding, self.format, runtime.device)

    def compare(self, embedding):
        """Return what distances are taken in, and the metric; see `choose_metric`."""
        if self.metric == "cosine":
            embedding = embedding - self.center
        return embedding, self.metric

    def carry(self, network):
        """Return a network that reads the embedding: itself."""
        return network


class KeptBackbone(FixedBackbone):
    """A pretrained encoder that stays as it is: heads stand on its features.

    Each image is shown to it once, so that images need not be in memory.

    Parameters
    ----------
    pretext : Pretrained
        Fitted, or not.
    input_spec : InputSpec
        What `X` is. Its format is that of a fitted pretext.
    """

    def __init__(self, pretext, input_spec):
        if pretext.is_fitted:
            input_spec = replace(input_spec, format=pretext.input_spec_.format)
        super().__init__(pretext, input_spec)

    def fit_embed(self, X, context):
        """Load the encoder, if it is not fitted, and embed `X`."""
        if self.pretext.is_fitted:
            check_fitted_format(X, self)
            console = context.progress.console
            return self.learn_embedding(self.embed(X, context.runtime, console))
        trainer = context.trainer
        return self.learn_embedding(self.pretext.fit_embed(X, self.input_spec, trainer))

    def embed(self, X, runtime, console=SILENT):
        """Embed checked samples."""
        return self.pretext.embed_samples(X, runtime, console)


def check_fitted_format(X, backbone):
    """Refuse samples of another shape or range than a pretext was fitted on."""
    format = backbone.input_spec.format
    if X.shape[1:] != format.sample_shape:
        raise ValueError(
            f"The frozen pretext {type(backbone.pretext).__name__} was fitted on "
            f"samples of shape {format.sample_shape}, and X holds samples of shape "
            f"{X.shape[1:]}."
        )
    if not isinstance(X, LazyImages):  # of which the range is known
        format.check(X)


def as_rows(X):
    """Flatten each sample."""
    X = X if isinstance(X, np.ndarray) else np.asarray(X)
    return X.reshape(len(X), -1)


def _fit_transformer_once(rows, pretext, context):
    """Fit any transformer on rows, or fetch it from the cache."""
    identity = context.cache.is_active and _identify(pretext, context.progress)
    if not identity:
        return fit_transformer(rows, identity, pretext)
    # Not in `training_turn`: a transformer may take its time, and trains no network.
    return context.cache.fetch(
        fit_transformer,
        rows,
        identity,
        pretext,
        ignore=("pretext",),
        lock=lambda: joblib.hash((rows, identity)),
    )


def _identify(pretext, progress):
    """Return what a transformer is known by; None, after a warning, if by nothing."""
    identity = identify_pretext(pretext, progress)
    if identity is None:
        return None
    # It is cached as a whole.
    try:
        pickle.dumps(pretext)
    except Exception as error:
        progress.warn_uncached("the pretext", f"it cannot be pickled ({error})")
        return None
    return identity


def fit_transformer(rows, identity, pretext):
    """Fit any transformer on rows; return it and the embedding."""
    return pretext.fit(rows, None), transform_rows(rows, pretext)


def transform_rows(rows, pretext):
    """Embed rows with any fitted transformer."""
    embedding = np.asarray(pretext.transform(rows), dtype=np.float32)
    if embedding.ndim != 2 or len(embedding) != len(rows):
        raise ValueError(
            f"The pretext {pretext!r} returned an embedding of shape "
            f"{embedding.shape} for {len(rows)} samples; expected ({len(rows)}, "
            "n_features)."
        )
    # Rows that were passed through are the memory of the user, who may change it.
    return embedding.copy() if np.may_share_memory(embedding, rows) else embedding
