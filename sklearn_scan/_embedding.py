# SPDX-License-Identifier: BSD-3-Clause
"""Step 1, as the clusterer takes it: any pretext, its embedding, and the cache.

What is slow is a module-level function of arrays and primitives that returns arrays and
primitives, because joblib can neither hash tensors nor, reliably, modules.
"""

import pickle
from contextlib import nullcontext
from pathlib import Path

import joblib
import numpy as np
from filelock import FileLock
from joblib import Memory
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.preprocessing import FunctionTransformer

from sklearn_scan._engine import source_of
from sklearn_scan._sources import check_samples
from sklearn_scan._version import __version__
from sklearn_scan.pretext._base import BasePretext
from sklearn_scan.pretext._simclr import SimCLR


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
        return memory.cache(fit_transformer)(as_rows(X), pretext)
    # The device and the verbosity change nothing in what is learned; the precision is
    # that of this fit, and code is not what joblib sees of a factory.
    key = clone(pretext).set_params(
        device="auto", verbose=0, precision=trainer.runtime.precision
    )
    factories = (getattr(pretext, name, "") for name in ("encoder", "views"))
    origin = (__version__, *map(source_of, factories))
    # Weights are loaded in no time, and joblib would not see that their file changed.
    remembers = memory if pretext._trains else Memory(None)
    train = remembers.cache(train_pretext, ignore=["trainer"])
    with _one_at_a_time(remembers, X, key):
        try:
            state, embedding = train(X, key, origin, trainer)
        except _Unfinished as unfinished:
            state, embedding = unfinished.args
    check_samples(pretext, X, reset=True)
    pretext._set_state(state, X, trainer.runtime)
    if "pretext" not in trainer.progress.history:
        trainer.progress.say("pretext taken from the cache")
    trainer.progress.history["pretext"] = state["history"]
    return pretext, embedding


class _Unfinished(Exception):
    """Carries the result of a pretext that a callback stopped past the cache.

    What raises is not stored; the next fit would take it for the finished one.
    """


def train_pretext(X, pretext, origin, trainer):
    """Train one of our pretext tasks; return its state and the embedding."""
    pretext = clone(pretext)
    check_samples(pretext, X, reset=True)
    pretext._fit_samples(X, trainer)
    result = pretext._get_state(), pretext._embed(X, trainer.runtime)
    if not np.isfinite(result[1]).all():
        raise ValueError(
            f"The training of the pretext {pretext!r} diverged: its embedding is not "
            f"finite. Lower its learning rate (lr={getattr(pretext, 'lr', None)})."
        )
    if trainer.progress.was_stopped:
        raise _Unfinished(*result)
    return result


def _one_at_a_time(memory, X, pretext):
    """Make whoever wants what another process is computing wait for the cache.

    A parallel search starts several candidates of one fold at once; without the lock
    each of them would train the pretext.
    """
    location = getattr(memory, "location", None)
    if location is None:
        return nullcontext()
    try:
        name = f"sklearn_scan-{joblib.hash((X, pretext))}.lock"
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(
            f"memory= needs a pretext that can be pickled, and {pretext!r} cannot. "
            "Define its factories at the top level of a module, or leave memory out."
        ) from error
    Path(location).mkdir(parents=True, exist_ok=True)
    return FileLock(Path(location) / name)


def fit_transformer(rows, pretext):
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
    return embedding


def as_rows(X):
    """Flatten each sample."""
    return X.reshape(len(X), -1)
