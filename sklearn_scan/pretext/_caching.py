# SPDX-License-Identifier: BSD-3-Clause
"""A pretext that was trained before is not trained again."""

from dataclasses import replace

import joblib
from sklearn.base import clone

from sklearn_scan._engine import (
    StageCache,
    Unfinished,
    identify_estimator,
    training_turn,
)


def fit_embed_once(pretext, X, input_spec, trainer):
    """Train one of our pretext tasks in place, or fetch it; return the embedding.

    Parameters
    ----------
    pretext : BasePretext
        Unfitted.
    X : ndarray of shape (n_samples, ...)
        Checked samples.
    input_spec : InputSpec
        What they are.
    trainer : Trainer
        Has the cache. Its device is not part of the key: a pretext trained on a GPU
        serves on a CPU.
    """
    cache = trainer.cache
    # The pretext as a whole is cached here, and its stage not a second time.
    trainer = replace(trainer, cache=StageCache())
    # The device and the verbosity change nothing in what is learned; the precision is
    # that of this fit.
    key = clone(pretext).set_params(
        device="auto", verbose=0, precision=trainer.runtime.precision
    )
    if "on_error" in key.get_params(deep=False):
        key.set_params(on_error="raise")  # the samples are read already
    identity = cache.is_active and identify_pretext(key, trainer.progress)
    if not identity:
        return pretext.fit_and_embed(X, input_spec, trainer)
    # Whoever needs the file lock of the cache takes this one first; see there.
    with training_turn():
        state, embedding = cache.fetch(
            train_pretext,
            X,
            identity,
            key,
            input_spec,
            trainer,
            ignore=("pretext", "input_spec", "trainer"),
            lock=lambda: joblib.hash((X, identity)),
        )
    pretext.set_state(state, X, input_spec, trainer.runtime)
    trainer.progress.take_up("pretext", state["history"])
    return embedding


def train_pretext(X, identity, pretext, input_spec, trainer):
    """Train one of our pretext tasks; return its state and the embedding."""
    pretext = clone(pretext)
    embedding = pretext.fit_and_embed(X, input_spec, trainer)
    result = pretext.get_state(), embedding
    if trainer.progress.was_stopped:
        raise Unfinished(result)
    return result


def identify_pretext(pretext, progress):
    """Return what a pretext is known by; None, after a warning, if by nothing."""
    try:
        return identify_estimator(pretext)
    except TypeError as error:
        progress.warn_uncached(f"the pretext {type(pretext).__name__}", error)
