# SPDX-License-Identifier: BSD-3-Clause
"""Scorers that need no labels, for the searches of scikit-learn."""

from typing import Any

import numpy as np

from sklearn_scan import _criteria
from sklearn_scan._scan import SCANClustering
from sklearn_scan._typing import SamplesLike
from sklearn_scan.model_selection._reading import (
    ask,
    draw,
    find_last_step,
    find_neighbors,
    read_embedding,
    read_labels,
)
from sklearn_scan.model_selection._resampling import (
    compare_with_heads,
    compare_with_refits,
)

# Share of the samples in each part that is clustered again.
_HALF = 0.5


def scan_objective_scorer(estimator: Any, X: SamplesLike, y: Any = None) -> float:
    """Score by the SCAN objective: neighbours agree, and clusters are of one size.

    The SCAN loss [1]_ with its sign changed and entropy weight 1, as in the paper,
    on ten neighbours mined in the embedding of `X`.

    *Comparable*: estimators with the same `n_clusters` and the same embedding. It is at
    most ``log(n_clusters)``, so it grows with their number; it grows with the
    confidence of a network, right or wrong; and an embedding in which everything is
    near to everything scores well.

    Parameters
    ----------
    estimator : object
        Fitted, with `predict_proba` and `transform`.
    X : array-like
        Samples; best those that `fit` has not seen.
    y : None
        Ignored.

    Returns
    -------
    score : float
        In nats; higher is better.

    Raises
    ------
    TypeError
        If the estimator lacks a method.

    References
    ----------
    .. [1] W. Van Gansbeke et al., "SCAN: Learning to classify images without labels",
       ECCV 2020.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn_scan import SCANClustering
    >>> from sklearn_scan.model_selection import scan_objective_scorer
    >>> X, _ = make_blobs(150, centers=3, cluster_std=0.5, random_state=0)
    >>> clusterer = SCANClustering(n_clusters=3, random_state=0).fit(X)
    >>> bool(0.9 < scan_objective_scorer(clusterer, X) <= 1.1)  # log(3) is 1.0986
    True
    """
    name = "scan_objective_scorer"
    probabilities = ask(estimator, "predict_proba", X, name)
    neighbors = find_neighbors(read_embedding(estimator, X, name))
    return _criteria.scan_objective(probabilities, neighbors)


def neighbor_modularity_scorer(estimator: Any, X: SamplesLike, y: Any = None) -> float:
    """Score by how much more often neighbours are in one cluster than any two samples.

    The modularity [1]_ of the graph of ten neighbours, mined in the embedding of `X`.
    It is what :meth:`~sklearn_scan.SCANClustering.score` returns, for any clusterer.

    *Comparable*: estimators with the same embedding and the same `n_clusters`, with the
    number of which it grows. It prefers clusters of one size.

    Parameters
    ----------
    estimator : object
        Fitted, with `predict` and `transform`.
    X : array-like
        Samples.
    y : None
        Ignored.

    Returns
    -------
    score : float
        At most ``1 - 1 / n_clusters``; about 0 for clusters at random, and 0 for a
        single one.

    Raises
    ------
    TypeError
        If the estimator lacks a method.

    References
    ----------
    .. [1] M. E. J. Newman and M. Girvan, "Finding and evaluating community structure in
       networks", Physical Review E 69, 2004.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn_scan import SCANClustering
    >>> from sklearn_scan.model_selection import neighbor_modularity_scorer
    >>> X, _ = make_blobs(150, centers=3, cluster_std=0.5, random_state=0)
    >>> clusterer = SCANClustering(n_clusters=3, random_state=0).fit(X)
    >>> round(neighbor_modularity_scorer(clusterer, X), 2)  # 1 - 1 / 3
    0.67
    """
    name = "neighbor_modularity_scorer"
    labels = read_labels(estimator, X, name)
    neighbors = find_neighbors(read_embedding(estimator, X, name))
    return _criteria.neighbor_modularity(labels, neighbors)


def neighbor_consistency_scorer(estimator: Any, X: SamplesLike, y: Any = None) -> float:
    """Score by the share of neighbours in one cluster, corrected for chance.

    Of ten neighbours mined in the embedding of `X`. With a the share that is in the
    cluster of its sample, and e that of pairs at random, ``(a - e) / (1 - e)``.

    *Comparable*: estimators with the same embedding, and nearly the same `n_clusters`.
    Chance is corrected for, and still fewer clusters have fewer borders.

    Parameters
    ----------
    estimator : object
        Fitted, with `predict` and `transform`.
    X : array-like
        Samples.
    y : None
        Ignored.

    Returns
    -------
    score : float
        At most 1; about 0 for clusters at random, and 0 for a single one.

    Raises
    ------
    TypeError
        If the estimator lacks a method.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn_scan import SCANClustering
    >>> from sklearn_scan.model_selection import neighbor_consistency_scorer
    >>> X, _ = make_blobs(150, centers=3, cluster_std=0.5, random_state=0)
    >>> clusterer = SCANClustering(n_clusters=3, random_state=0)
    >>> scores = cross_val_score(
    ...     clusterer, X, scoring=neighbor_consistency_scorer, cv=2
    ... )
    >>> bool((scores > 0.9).all())
    True
    """
    name = "neighbor_consistency_scorer"
    labels = read_labels(estimator, X, name)
    neighbors = find_neighbors(read_embedding(estimator, X, name))
    return _criteria.neighbor_consistency(labels, neighbors)


def pseudo_label_scorer(estimator: Any, X: SamplesLike, y: Any = None) -> float:
    """Score by how well a linear classifier predicts the clusters of held-out samples.

    Clusters that follow what an embedding shows can be learned from a part of the
    samples; this is the idea of TURTLE [1]_. The classifier is linear discriminant
    analysis on at most 64 principal components of the embedding, cross-validated on at
    most 4,000 samples.

    *Comparable*: estimators with the same embedding, and nearly the same `n_clusters`.
    A partition with straight borders scores well wherever they are.

    Parameters
    ----------
    estimator : object
        Fitted, with `predict` and `transform`.
    X : array-like
        Samples.
    y : None
        Ignored.

    Returns
    -------
    score : float
        Cohen's kappa, which is corrected for chance: at most 1; about 0 for clusters at
        random, and 0 for a single one.

    Raises
    ------
    TypeError
        If the estimator lacks a method.

    References
    ----------
    .. [1] A. Gadetsky, Y. Jiang and M. Brbic, "Let Go of Your Labels with Unsupervised
       Transfer", ICML 2024.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn_scan import SCANClustering
    >>> from sklearn_scan.model_selection import pseudo_label_scorer
    >>> X, _ = make_blobs(150, centers=3, cluster_std=0.5, random_state=0)
    >>> clusterer = SCANClustering(n_clusters=3, random_state=0).fit(X)
    >>> bool(pseudo_label_scorer(clusterer, X) > 0.95)
    True
    """
    name = "pseudo_label_scorer"
    labels = read_labels(estimator, X, name)
    kept = draw(len(labels))
    rows = read_embedding(estimator, X, name)[kept]
    return _criteria.label_generalization(labels[kept], rows)


def head_agreement_scorer(estimator: Any, X: SamplesLike, y: Any = None) -> float:
    """Score by the agreement of the estimator with heads that are trained anew.

    `fit` trains many heads and keeps one, so those that it had are gone. Here, five
    single heads are trained on the embedding of `X`, for a hundred steps each and from
    different starts, and compared with what the estimator predicts. Where they agree,
    the embedding has one evident partition, and the estimator has found it.

    *Comparable*: estimators with the same embedding and nearly the same `n_clusters`.
    What is found again need not be what a person means.

    Parameters
    ----------
    estimator : SCANClustering, or a pipeline that ends with one
        Fitted.
    X : array-like
        Samples. Heads are trained on at most 4,000 of them.
    y : None
        Ignored.

    Returns
    -------
    score : float
        The mean adjusted Rand index: at most 1, about 0 by chance.

    Raises
    ------
    TypeError
        If the estimator is another clusterer, which has no heads.

    See Also
    --------
    stability_scorer : Heads are trained on parts of the samples; any clusterer.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn_scan import SCANClustering
    >>> from sklearn_scan.model_selection import head_agreement_scorer
    >>> X, _ = make_blobs(150, centers=3, cluster_std=0.5, random_state=0)
    >>> clusterer = SCANClustering(n_clusters=3, random_state=0).fit(X)
    >>> bool(head_agreement_scorer(clusterer, X) > 0.9)
    True
    """
    name = "head_agreement_scorer"
    last = find_last_step(estimator)
    if not isinstance(last, SCANClustering):
        raise TypeError(
            f"{name} trains the heads of a SCANClustering again. Got a "
            f"{type(last).__name__}, which has none; take stability_scorer."
        )
    return compare_with_heads(estimator, X, name, n_heads=1, share=1)


def stability_scorer(estimator: Any, X: SamplesLike, y: Any = None) -> float:
    """Score by the agreement of the estimator with fits to halves of `X`.

    Five halves are drawn at random; what was fitted to one answers for all of `X`, and
    is compared with what the estimator predicts. Of a
    :class:`~sklearn_scan.SCANClustering`, heads alone are searched again, on its
    embedding of at most 4,000 samples, and neither the pretext nor the training on
    views. Any other estimator is cloned and fitted as a whole, five times.

    *Comparable*: any estimators of nearly the same `n_clusters`, also of different
    embeddings. Few clusters are found again more easily. An embedding that shows
    nothing of what you look for may be clustered stably.

    Parameters
    ----------
    estimator : object
        Fitted, with `predict`; not changed.
    X : array-like
        Samples, at least twice as many as there are clusters.
    y : None
        Ignored.

    Returns
    -------
    score : float
        The mean adjusted Rand index: at most 1, about 0 by chance.

    Raises
    ------
    TypeError
        If the estimator has no `predict`.
    ValueError
        If a half has fewer samples than there are clusters.

    See Also
    --------
    sklearn_scan.inspection.cluster_stability : Which clusters are found again.

    Examples
    --------
    >>> from sklearn.cluster import KMeans
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn_scan.model_selection import stability_scorer
    >>> X, _ = make_blobs(150, centers=3, cluster_std=0.5, random_state=0)
    >>> three, seven = (
    ...     KMeans(n, n_init=1, random_state=0).fit(X) for n in (3, 7)
    ... )
    >>> stability_scorer(three, X) > stability_scorer(seven, X)
    True
    """
    name = "stability_scorer"
    if isinstance(find_last_step(estimator), SCANClustering):
        return compare_with_heads(estimator, X, name, n_heads=4, share=_HALF)
    return compare_with_refits(estimator, X, name, _HALF)


def silhouette_scorer(estimator: Any, X: SamplesLike, y: Any = None) -> float:
    """Score by the mean silhouette of the predicted clusters among the rows of `X`.

    As :func:`make_silhouette_scorer` makes it for the samples as they are, of which
    each is taken for one row: pixels, for an array of images. Pixels say little of what
    images show; pass an embedding to that function.

    *Comparable*: any estimators that are given the same `X`, whatever their embedding.

    Parameters
    ----------
    estimator : object
        Fitted, with `predict`.
    X : array-like of shape (n_samples, ...)
        Samples. At most 4,000 are looked at.
    y : None
        Ignored.

    Returns
    -------
    score : float
        Between -1 and 1; -1 for a single cluster.

    Raises
    ------
    TypeError
        If the estimator has no `predict`.

    Examples
    --------
    >>> from sklearn.cluster import KMeans
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn_scan.model_selection import silhouette_scorer
    >>> X, _ = make_blobs(150, centers=3, cluster_std=0.5, random_state=0)
    >>> three, seven = (
    ...     KMeans(n, n_init=1, random_state=0).fit(X) for n in (3, 7)
    ... )
    >>> silhouette_scorer(three, X) > silhouette_scorer(seven, X)
    True
    """
    return _score_silhouette(estimator, X, None, "silhouette_scorer")


def make_silhouette_scorer(transformer: Any = None) -> "FixedSilhouette":
    """Make a scorer by the silhouette in one space, the same for all candidates.

    Comparing each candidate in its own embedding rewards the embedding in which
    everything is in tight heaps. Here all are compared in one.

    *Comparable*: any estimators that are given the same `X`, whatever their embedding;
    those most like the transformer are at an advantage.

    Parameters
    ----------
    transformer : object or None, default=None
        Fitted, with `transform`: an encoder of :mod:`sklearn_scan.pretext`, say, or a
        `PCA`. None takes samples as they are, each as one row.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y=None)`` returns the mean silhouette of what
        `estimator.predict` finds, of at most 4,000 samples; -1 for a single cluster.

    Raises
    ------
    TypeError
        If the transformer has no `transform`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.cluster import KMeans
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn_scan.model_selection import make_silhouette_scorer
    >>> X = load_digits().data[:300]
    >>> search = GridSearchCV(
    ...     KMeans(10, n_init=1, random_state=0),
    ...     {"init": ["k-means++", "random"]},
    ...     scoring=make_silhouette_scorer(PCA(10).fit(X)),
    ...     cv=2,
    ... ).fit(X)
    >>> bool(np.all(search.cv_results_["mean_test_score"] > 0.1))
    True
    """
    if transformer is not None and not hasattr(transformer, "transform"):
        raise TypeError(
            "transformer must be a fitted estimator with transform, or None. Got "
            f"{transformer!r}."
        )
    return FixedSilhouette(transformer)


class FixedSilhouette:
    """The scorer that `make_silhouette_scorer` makes; it can be pickled."""

    def __init__(self, transformer: Any):
        self.transformer = transformer

    def __call__(self, estimator: Any, X: SamplesLike, y: Any = None) -> float:
        """Return the silhouette of the clusters that an estimator predicts."""
        return _score_silhouette(
            estimator, X, self.transformer, "make_silhouette_scorer()"
        )

    def __repr__(self):
        return f"make_silhouette_scorer({self.transformer!r})"


def _score_silhouette(estimator, X, transformer, name):
    labels = read_labels(estimator, X, name)
    rows = np.asarray(X if transformer is None else transformer.transform(X))
    kept = draw(len(labels))
    rows = rows.reshape(len(rows), -1)[kept].astype(np.float32)
    return _criteria.silhouette(labels[kept], rows)
