# SPDX-License-Identifier: BSD-3-Clause
"""What scorers ask of an estimator, whatever its kind."""

import numpy as np
from sklearn.pipeline import Pipeline

from sklearn_scan.neighbors import (
    choose_metric,
    count_compared,
    draw_some,
    mine_neighbors,
)

#: Samples among which distances of all pairs are taken, or on which heads are trained.
MOST_SAMPLES = 4000


def ask(estimator, method, X, scorer):
    """Return what a method of a fitted estimator answers, as an array.

    Parameters
    ----------
    estimator : object
        Fitted.
    method : {"predict", "transform", "predict_proba"}
        What is called.
    X : array-like
        Samples.
    scorer : str
        Who asks, for the message.

    Returns
    -------
    answer : ndarray of shape (n_samples, ...)

    Raises
    ------
    TypeError
        If the estimator has no such method.
    """
    if not hasattr(estimator, method):
        raise TypeError(
            f"{scorer} needs an estimator with {method}. {type(estimator).__name__} "
            f"has none. {_ADVICE[method]}"
        )
    return np.asarray(getattr(estimator, method)(X))


_ADVICE = {
    "predict": "Take a clusterer that can tell the cluster of a new sample.",
    "transform": (
        "Take one that embeds samples, or a scorer that needs none, such as "
        "make_silhouette_scorer()."
    ),
    "predict_proba": (
        "Take one that gives probabilities, or a scorer that needs none, such as "
        "neighbor_consistency_scorer."
    ),
}


def read_labels(estimator, X, scorer):
    """Return the clusters of samples, as numbers from 0."""
    return number_clusters(ask(estimator, "predict", X, scorer))


def read_embedding(estimator, X, scorer):
    """Return the embedding of samples, as rows of float32."""
    embedding = ask(estimator, "transform", X, scorer)
    return embedding.reshape(len(embedding), -1).astype(np.float32, copy=False)


def number_clusters(labels):
    """Return clusters as numbers from 0; none is left out."""
    return np.unique(labels, return_inverse=True)[1].ravel()


def find_neighbors(rows):
    """Mine the neighbours by which partitions of some rows are compared.

    Returns
    -------
    neighbors : ndarray of shape (n_samples, K)
        None at all (K = 0) for a single sample.
    """
    if len(rows) < 2:
        return np.empty((len(rows), 0), dtype=np.int64)
    rows, metric = choose_distance(rows)
    return mine_neighbors(rows, count_compared(len(rows)), metric=metric)


def choose_distance(rows):
    """Return rows as distances are taken between them, and the metric."""
    metric = choose_metric(rows)
    return (rows - rows.mean(axis=0) if metric == "cosine" else rows), metric


def draw(n_samples):
    """Return the numbers of the samples that are looked at; always the same ones."""
    return draw_some(n_samples, MOST_SAMPLES)


def find_last_step(estimator):
    """Return what clusters: the last step of a pipeline, or the estimator itself."""
    while isinstance(estimator, Pipeline):
        estimator = estimator.steps[-1][1]
    return estimator
