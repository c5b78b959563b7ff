# SPDX-License-Identifier: BSD-3-Clause
"""Step 1, as the clusterer takes it: any pretext, its embedding, and the cache.

What is slow is a module-level function of arrays and primitives that returns arrays and
primitives, because joblib can neither hash tensors nor, reliably, modules.
"""

import pickle
from dataclasses import replace
from functools import cache, partial

import joblib
import numpy as np
from joblib import Memory
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.preprocessing import FunctionTransformer
from torch import nn

from sklearn_scan._engine import (
    Samples,
    Unfinished,
    fingerprint,
    is_caching,
    make_step,
    one_at_a_time,
    training_turn,
)
from sklearn_scan._nets import build_encoder
from sklearn_scan._sources import ArraySource, check_samples
from sklearn_scan._version import __version__
from sklearn_scan.neighbors import mine_neighbors
from sklearn_scan.pretext._base import BasePretext
from sklearn_scan.pretext._simclr import SimCLR

# Neighbours that are mined of each sample, if not more, and of all samples at most.
_K_TO_SPARE = 50
_MOST_TO_SPARE = 5_000_000

# How often the encoder sees a sample, or its neighbour, in a step that it learns in.
_N_PASSES = {"clustering": 2, "self_labeling": 1}


def resolve_pretext(pretext, *, encoder, is_image, seed):
    """Return an unfitted pretext with its seeds set.

    "auto" is SimCLR for images, and for rows where an encoder is asked for; rows are
    otherwise taken for an embedding, and passed through as they are.
    """
    if pretext == "auto":
        trains = is_image or encoder != "auto"
        pretext = (
            SimCLR(encoder=encoder)
            if trains
            else FunctionTransformer(feature_names_out="one-to-one")
        )
    elif isinstance(pretext, FrozenEstimator) and is_trained(thaw(pretext)):
        return thaw(pretext)
    else:
        pretext = clone(pretext)
    unset = {
        name: seed
        for name, value in pretext.get_params(deep=True).items()
        if name.rpartition("__")[2] == "random_state" and value is None
    }
    if unset:
        pretext.set_params(**unset)
    return pretext


def thaw(pretext):
    """Return what a `FrozenEstimator` holds, or `pretext` itself."""
    return pretext.estimator if isinstance(pretext, FrozenEstimator) else pretext


def is_trained(pretext):
    """Say whether one of our pretext tasks has been trained."""
    return isinstance(pretext, BasePretext) and hasattr(pretext, "net_")


def embed_frozen(X, pretext, runtime):
    """Embed checked samples with a pretext that was trained before."""
    fitted = pretext._format.sample_shape
    if X.shape[1:] != fitted:
        raise ValueError(
            f"The frozen pretext {type(pretext).__name__} was fitted on samples of "
            f"shape {fitted}, and X holds samples of shape {X.shape[1:]}."
        )
    pretext._format.check(X)
    return pretext._embed(X, runtime)


def remember_input(pretext, *, like):
    """Let a pretext accept what the clusterer accepts, rows of pixels among it."""
    if isinstance(pretext, BasePretext):
        for name in ("_passed_shape", "n_features_in_", "feature_names_in_", "paths_"):
            if hasattr(like, name):
                setattr(pretext, name, getattr(like, name))


def plan_batches(X, pretext, format, batch_sizes, trainer):
    """Find out, before anything is trained, which batches memory has room for.

    After hours of training the pretext it would be late to learn that the next stage
    does not fit into memory. An untrained encoder tells as well.

    Parameters
    ----------
    X : ndarray of shape (n_samples, ...)
        Rows or images.
    pretext : BasePretext
        If it is yet to be trained, its `batch_size` becomes what there is room for, so
        that a cache does not hold the result under another name.
    format : ImageFormat or RowFormat
        Of `X`.
    batch_sizes : dict of int
        What the steps after it want, for those in which the encoder learns.
    trainer : Trainer
        Keeps the answers, and warns.
    """
    source = ArraySource(X, format, trainer.runtime.device)

    @cache
    def build():
        if is_trained(pretext):
            return pretext.make_encoder()
        with trainer.runtime.isolated(0):
            return build_encoder(pretext.encoder, format)

    def prepare_pretext():
        with trainer.runtime.isolated(0):
            # What views keep is not kept for a backward pass.
            task = pretext._make_task(build(), nn.Identity(), len(X))
        return make_step(*task, trainer.runtime)

    def prepare(step):
        passes = _Passes(build(), _N_PASSES[step])
        return make_step(passes, nn.Identity(), trainer.runtime)

    if pretext._trains and not is_trained(pretext):
        wish, data = int(pretext.batch_size), pretext._dataset(source)
        size = trainer.plan_batches("pretext", wish, data, prepare_pretext)
        if size < wish:
            pretext.set_params(batch_size=size)
    for step, wish in batch_sizes.items():
        trainer.plan_batches(step, wish, Samples(source), partial(prepare, step))


class _Passes(nn.Module):
    """An encoder that sees a batch several times."""

    def __init__(self, encoder, n_passes):
        super().__init__()
        self.encoder = encoder
        self.n_passes = n_passes

    def forward(self, samples):
        return ([self.encoder(samples) for _ in range(self.n_passes)],)


def learn_embedding(X, pretext, memory, trainer):
    """Fit the pretext on checked samples, or fetch it from the cache.

    Parameters
    ----------
    X : ndarray of shape (n_samples, ...)
        Rows or images.
    pretext : estimator
        Unfitted; ours, or any transformer, which is given rows.
    memory : joblib.Memory
        The cache.
    trainer : Trainer
        Not part of the key: a pretext trained on a GPU serves on a CPU.

    Returns
    -------
    pretext : estimator
        Fitted.
    embedding : ndarray of shape (n_samples, n_features), dtype float32
    """
    if not isinstance(pretext, BasePretext):
        return _learn_elsewhere(as_rows(X), pretext, memory, trainer.progress)
    # Weights are loaded in no time, and joblib would not see that their file changed.
    remembers = memory if pretext._trains else Memory(None)
    # Here, and not stage by stage: what trained it on a GPU serves on a CPU.
    trainer = replace(trainer, memory=Memory(None))
    # The device and the verbosity change nothing in what is learned; the precision is
    # that of this fit.
    key = clone(pretext).set_params(
        device="auto", verbose=0, precision=trainer.runtime.precision
    )
    identity = is_caching(remembers) and _identify(key, trainer.progress)
    if not identity:
        return pretext, _fit_and_embed(X, pretext, trainer)
    train = remembers.cache(train_pretext, ignore=["pretext", "trainer"])
    with training_turn(), one_at_a_time(remembers, lambda: _lock_name(X, identity)):
        try:
            state, embedding = train(X, identity, key, trainer)
        except Unfinished as unfinished:
            state, embedding = unfinished.args
    check_samples(pretext, X, reset=True)
    pretext._set_state(state, X, trainer.runtime)
    if "pretext" not in trainer.progress.history:
        trainer.progress.say("pretext taken from the cache")
    trainer.progress.history["pretext"] = state["history"]
    return pretext, embedding


def train_pretext(X, identity, pretext, trainer):
    """Train one of our pretext tasks; return its state and the embedding."""
    pretext = clone(pretext)
    embedding = _fit_and_embed(X, pretext, trainer)
    if trainer.progress.was_stopped:
        raise Unfinished(pretext._get_state(), embedding)
    return pretext._get_state(), embedding


def _fit_and_embed(X, pretext, trainer):
    """Train one of our pretext tasks in place, and return the embedding."""
    check_samples(pretext, X, reset=True)
    pretext._fit_samples(X, trainer)
    embedding = pretext._embed(X, trainer.runtime)
    if not np.isfinite(embedding).all():
        raise ValueError(
            f"The training of the pretext {pretext!r} diverged: its embedding is not "
            f"finite. Lower its learning rate (lr={getattr(pretext, 'lr', None)})."
        )
    return embedding


def find_neighbors(embedding, K, *, metric, device, memory):
    """Mine neighbours, or fetch them from the cache.

    A smaller K is a slice of a larger: so a search over K mines once. Where there are
    very many samples, neighbours to spare would cost too much.
    """
    n_samples = len(embedding)
    n_mined = min(max(K, _K_TO_SPARE), n_samples - 1)
    if n_samples * n_mined > _MOST_TO_SPARE:
        n_mined = K
    mine = memory.cache(mine_neighbors, ignore=["device"])
    with one_at_a_time(memory, lambda: f"neighbors-{joblib.hash(embedding)}"):
        neighbors = mine(embedding, n_mined, metric=metric, device=device)
    return np.ascontiguousarray(neighbors[:, :K])


def _learn_elsewhere(rows, pretext, memory, progress):
    """Fit any transformer on rows, or fetch it from the cache."""
    identity = is_caching(memory) and _identify(pretext, progress)
    if identity and (objection := _object_to_pickling(pretext)):
        progress.warn_uncached("the pretext", objection)
        identity = None
    if not identity:
        return fit_transformer(rows, identity, pretext)
    remember = memory.cache(fit_transformer, ignore=["pretext"])
    with one_at_a_time(memory, lambda: _lock_name(rows, identity)):
        return remember(rows, identity, pretext)


def _identify(pretext, progress):
    """Return what a pretext is known by; None, after a warning, where there is none."""
    parts = {"class": fingerprint(type(pretext)), "version": __version__}
    for name, value in pretext.get_params(deep=False).items():
        try:
            parts[name] = fingerprint(value)
        except TypeError as error:
            progress.warn_uncached(
                f"the pretext {type(pretext).__name__}",
                f"its parameter {name!r} is not known again, as {error}",
            )
            return None
    return fingerprint(parts)


def _object_to_pickling(pretext):
    """Say why a transformer, which is cached as a whole, cannot be written."""
    try:
        pickle.dumps(pretext)
    except Exception as error:
        return f"it cannot be pickled ({error})"


def _lock_name(X, identity):
    return joblib.hash((X, identity))


def fit_transformer(rows, identity, pretext):
    """Fit any transformer on rows; return it and the embedding."""
    return pretext.fit(rows, None), transform_rows(rows, pretext)


def transform_rows(rows, pretext):
    """Embed rows with any fitted transformer."""
    embedding = np.asarray(pretext.transform(rows), dtype=np.float32)
    if embedding.ndim != 2 or len(embedding) != len(rows):
        raise ValueError(
            f"The pretext {pretext!r} returned an embedding of shape "
            f"{embedding.shape} for {len(rows)} samples; needed is ({len(rows)}, "
            "n_features)."
        )
    # Rows that were passed through are the memory of the user, who may change it.
    return embedding.copy() if np.may_share_memory(embedding, rows) else embedding


def as_rows(X):
    """Flatten each sample."""
    return X.reshape(len(X), -1)
