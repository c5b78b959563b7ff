# SPDX-License-Identifier: BSD-3-Clause
"""Step 1, as the clusterer takes it: any pretext, its embedding, and the cache.

What is slow is a module-level function of arrays and primitives that returns arrays and
primitives, because joblib can neither hash tensors nor, reliably, modules.
"""

from contextlib import nullcontext
from pathlib import Path

import joblib
import numpy as np
from filelock import FileLock
from sklearn.base import clone
from sklearn.preprocessing import FunctionTransformer

from sklearn_scan._sources import check_samples
from sklearn_scan.pretext._base import BasePretext
from sklearn_scan.pretext._simclr import SimCLR


def resolve_pretext(pretext, *, encoder, is_image, seed):
    """Return an unfitted pretext with its seeds set.

    "auto" is SimCLR for images, and for rows where an encoder is asked for; rows are
    otherwise taken for an embedding, and passed through as they are.
    """
    if pretext == "auto":
        trains = is_image or encoder != "auto"
        pretext = SimCLR(encoder=encoder) if trains else FunctionTransformer()
    else:
        pretext = clone(pretext)
    unset = {
        name: seed
        for name, value in pretext.get_params(deep=True).items()
        if name.rpartition("__")[2] == "random_state" and value is None
    }
    return pretext.set_params(**unset)


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
    # Device and verbosity change nothing in what is learned.
    key = clone(pretext).set_params(device="auto", verbose=0)
    train = memory.cache(train_pretext, ignore=["trainer"])
    with _one_at_a_time(memory, X, key):
        state, embedding = train(X, key, trainer)
    check_samples(pretext, X, reset=True)
    pretext._set_state(state, X, trainer.runtime)
    trainer.progress.history["pretext"] = state["history"]
    return pretext, embedding


def _one_at_a_time(memory, X, pretext):
    """Make whoever wants what another process is computing wait for the cache.

    A parallel search starts several candidates of one fold at once; without the lock
    each of them would train the pretext.
    """
    if memory.location is None:
        return nullcontext()
    name = f"sklearn_scan-{joblib.hash((X, pretext))}.lock"
    Path(memory.location).mkdir(parents=True, exist_ok=True)
    return FileLock(Path(memory.location) / name)


def train_pretext(X, pretext, trainer):
    """Train one of our pretext tasks; return its state and the embedding."""
    pretext = clone(pretext)
    check_samples(pretext, X, reset=True)
    pretext._fit_samples(X, trainer)
    return pretext._get_state(), pretext._embed(X, trainer.runtime)


def fit_transformer(rows, pretext):
    """Fit any transformer on rows; return it and the embedding."""
    return pretext.fit(rows), transform_rows(rows, pretext)


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
