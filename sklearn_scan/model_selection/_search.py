# SPDX-License-Identifier: BSD-3-Clause
"""`LabelFreeSearch`: a search over settings that looks at all candidates together."""

import time
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any, Literal, Self

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import (
    BaseEstimator,
    ClusterMixin,
    MetaEstimatorMixin,
    TransformerMixin,
    clone,
)
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import ParameterGrid
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from sklearn_scan._compat import HasMethods, StrOptions, check_params
from sklearn_scan._typing import Floats, Labels, SamplesLike
from sklearn_scan._warnings import warn_user
from sklearn_scan.model_selection._pooling import CRITERIA, Ranking, rank
from sklearn_scan.model_selection._reading import (
    draw,
    find_last_step,
    number_clusters,
)

#: What "auto" stands for; see benchmarks/results/selection.
DEFAULT_CRITERIA = ("modularity", "information", "resemblance")


def _best_has(method):
    """Return a decorator: a method is there where the clusterer has it."""

    def check(search):
        getattr(getattr(search, "best_estimator_", search.estimator), method)
        return True

    return available_if(check)


class LabelFreeSearch(
    ClusterMixin, TransformerMixin, MetaEstimatorMixin, BaseEstimator
):
    """Search over the settings of a clusterer, without any label.

    :class:`~sklearn.model_selection.GridSearchCV` scores each candidate alone, so
    that a label-free scorer can look at its clusters in no other embedding than its
    own, and embeddings in which everything lies in tight heaps win. Here, all
    candidates are fitted on `X` first. Then each partition is judged in the embeddings
    of *all* candidates and compared with all other partitions, and the one with the
    highest score is kept.

    Parameters
    ----------
    estimator : clusterer
        With `labels_` or `predict`. Its embedding is `embedding_`, or what `transform`
        returns; where no candidate has one, it is `X`. For a
        :class:`~sklearn_scan.SCANClustering`, pass ``memory=`` and an int as
        `random_state`: a pretext that candidates share is then trained once.
    param_grid : dict, list of dict, or iterable of dict
        A dict or a list is a grid, or several, as in
        :class:`~sklearn.model_selection.GridSearchCV`: the values of a dict are lists
        of settings. Any other iterable, such as a
        :class:`~sklearn.model_selection.ParameterSampler` or a tuple, yields the
        candidates themselves.
    scoring : "auto", str or list of str, default="auto"
        What candidates are compared by: one of the criteria below, or several, which
        count alike. "auto" is ["modularity", "information", "resemblance"].
    n_jobs : int or None, default=None
        Fits at a time, as in :class:`joblib.Parallel`.
    error_score : "raise" or float, default=nan
        The score of a candidate whose `fit` fails, with a warning; or "raise".

    Attributes
    ----------
    best_estimator_ : estimator
        The candidate with the highest score, as it was fitted on `X`.
    best_params_ : dict
        Its settings.
    best_index_ : int
        Its number in `cv_results_`.
    best_score_ : float
        Its score.
    labels_ : ndarray of shape (n_samples,)
        Its clusters of `X`.
    cv_results_ : dict of ndarray
        A table in the form of :class:`~sklearn.model_selection.GridSearchCV`. Splits
        are five random parts of the samples: ``split0_test_score`` is the score of a
        candidate on the first part alone. ``mean_test_silhouette`` and the like hold
        the single criteria.
    ranking_ : Ranking
        Scores with their doubt.
    n_features_in_ : int
        Of the best estimator.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Of the best estimator, where it has any.

    Notes
    -----
    Every criterion is standardised over the candidates, so that scores compare the
    candidates of one search alone. At most 4,000 samples are looked at.

    ``"modularity"``
        How much more often neighbours are in one cluster than any two samples are, in
        all embeddings: the modularity of their graph. A partition that follows what
        only its own embedding shows gains little.
    ``"information"``
        What the cluster of a sample says of the clusters of its neighbours, in all
        embeddings: their mutual information. It grows where neighbours agree and where
        clusters are of one size.
    ``"resemblance"``
        How alike the clusters of a sample are to those of it in all other candidates,
        by the Jaccard similarity. What most settings find is more likely to be there
        than what one finds.
    ``"consistency"``
        The share of neighbours in one cluster, corrected for chance.
    ``"silhouette"``
        The mean silhouette, as ACE [1]_ pools it.

    Take candidates that differ: of those that all make the same mistake, none is right.
    With different `n_clusters`, "modularity" and "information" grow with their number.

    All candidates are held in memory until the best of them is known.

    References
    ----------
    .. [1] "Deep Clustering Evaluation: How to Validate Internal Clustering Validation
       Measures", arXiv:2403.14830, 2024.

    See Also
    --------
    select : The same for estimators that are fitted already.
    sklearn_scan.inspection.RankingDisplay : The ranking as a picture.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.decomposition import PCA
    >>> from sklearn_scan import SCANClustering
    >>> from sklearn_scan.model_selection import LabelFreeSearch
    >>> X = load_digits().data[:300]
    >>> search = LabelFreeSearch(
    ...     SCANClustering(pretext=PCA(random_state=0), n_heads=1, random_state=0),
    ...     {"pretext__n_components": [5, 10, 20]},
    ... ).fit(X)
    >>> search.cv_results_["rank_test_score"].shape
    (3,)
    >>> search.predict(X[:2]).shape
    (2,)
    """

    _parameter_constraints: dict = {
        "estimator": [HasMethods("fit")],
        "param_grid": [dict, list, Iterable],
        "scoring": [StrOptions({"auto", *CRITERIA}), list, tuple],
        "n_jobs": [int, None],
        "error_score": [StrOptions({"raise"}), Real],
    }

    best_estimator_: Any
    best_params_: dict
    best_index_: int
    best_score_: float
    labels_: Labels
    cv_results_: dict
    ranking_: Ranking

    def __init__(
        self,
        estimator: Any,
        param_grid: Mapping | Sequence | Iterable,
        *,
        scoring: str | Sequence[str] = "auto",
        n_jobs: int | None = None,
        error_score: float | Literal["raise"] = np.nan,
    ):
        self.estimator = estimator
        self.param_grid = param_grid
        self.scoring = scoring
        self.n_jobs = n_jobs
        self.error_score = error_score

    def fit(self, X: SamplesLike, y: Any = None, **fit_params: Any) -> Self:
        """Fit all candidates, and keep the best.

        Parameters
        ----------
        X : array-like
            Samples, as the estimator takes them.
        y : None
            Ignored.
        **fit_params : dict
            Passed to `fit` of every candidate.

        Returns
        -------
        self : LabelFreeSearch

        Raises
        ------
        ValueError
            If there is no candidate.
        Exception
            Of the first candidate, where none can be fitted.
        """
        check_params(self)
        names = _check_scoring(self.scoring)
        candidates = _list_candidates(self.param_grid)
        fits = Parallel(n_jobs=self.n_jobs)(
            delayed(_fit)(
                clone(self.estimator), params, X, fit_params, self.error_score
            )
            for params in candidates
        )
        estimators, seconds, errors = zip(*fits, strict=True)
        is_fitted = np.array([error is None for error in errors])
        _report_failures(errors)
        started = time.perf_counter()
        fitted = [estimator for estimator in estimators if estimator is not None]
        ranking = _rank_fitted(fitted, X, names)
        scoring_seconds = (time.perf_counter() - started) / len(fitted)
        ranking = ranking.insert_failed(is_fitted)
        self.ranking_, self.best_index_ = ranking, ranking.best_index
        self.best_estimator_ = estimators[self.best_index_]
        self.best_params_ = candidates[self.best_index_]
        self.labels_ = _find_labels(self.best_estimator_, X)
        self.best_score_ = float(ranking.scores[self.best_index_])
        self.cv_results_ = _make_table(
            candidates, ranking, seconds, scoring_seconds, self.error_score
        )
        return self

    @property
    def n_features_in_(self) -> int:
        """Features of a sample, where the best estimator says so."""
        return self._ask_best("n_features_in_")

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Names of the features, where the best estimator has any."""
        return self._ask_best("feature_names_in_")

    def _ask_best(self, attribute):
        # Before `fit`, it is missing, as with any estimator.
        if "best_estimator_" not in vars(self):
            raise AttributeError(
                f"{type(self).__name__} object has no {attribute} before fit."
            )
        return getattr(self.best_estimator_, attribute)

    @_best_has("predict")
    def predict(self, X: SamplesLike) -> Labels:
        """Find the cluster of each sample, by the best estimator.

        Parameters
        ----------
        X : array-like
            Samples.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Clusters.
        """
        check_is_fitted(self, "best_estimator_")
        return self.best_estimator_.predict(X)

    @_best_has("predict_proba")
    def predict_proba(self, X: SamplesLike) -> Floats:
        """Compute the probabilities of clusters, by the best estimator.

        Parameters
        ----------
        X : array-like
            Samples.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_clusters)
            Rows sum to one.
        """
        check_is_fitted(self, "best_estimator_")
        return self.best_estimator_.predict_proba(X)

    @_best_has("transform")
    def transform(self, X: SamplesLike) -> Floats:
        """Embed samples, by the best estimator.

        Parameters
        ----------
        X : array-like
            Samples.

        Returns
        -------
        embedding : ndarray of shape (n_samples, n_features_out)
            What the best estimator returns.
        """
        check_is_fitted(self, "best_estimator_")
        return self.best_estimator_.transform(X)

    @_best_has("get_feature_names_out")
    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of what `transform` returns, by the best estimator.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            As the best estimator takes them.

        Returns
        -------
        names : ndarray of str
        """
        check_is_fitted(self, "best_estimator_")
        return self.best_estimator_.get_feature_names_out(input_features)

    @_best_has("score")
    def score(self, X: SamplesLike, y: Any = None) -> float:
        """Return the score of the best estimator by its own method.

        Parameters
        ----------
        X : array-like
            Samples.
        y : None
            Ignored.

        Returns
        -------
        score : float
            Not `best_score_`, which compares candidates.
        """
        check_is_fitted(self, "best_estimator_")
        return self.best_estimator_.score(X, y)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        inner = get_tags(self.estimator)
        tags.input_tags = inner.input_tags
        tags.transformer_tags = inner.transformer_tags
        tags.non_deterministic = inner.non_deterministic
        return tags


def select(
    candidates: Any,
    X: SamplesLike,
    *,
    scoring: str | Sequence[str] = "auto",
) -> Ranking:
    """Rank fitted clusterers without labels, each in the embeddings of all.

    Parameters
    ----------
    candidates : sequence of estimators, or a search
        Fitted, with `predict`. Their embedding is what `transform` returns; where none
        has one, it is `X`. Of a search that was fitted, such as
        :class:`~sklearn.model_selection.GridSearchCV`, every candidate is fitted again,
        on `X`.
    X : array-like
        Samples that all of them take; those that they were fitted on, or others.
    scoring : "auto", str or list of str, default="auto"
        As in `LabelFreeSearch`.

    Returns
    -------
    ranking : Ranking
        ``candidates[ranking.best_index]`` is the best.

    Raises
    ------
    ValueError
        If there is no candidate.

    See Also
    --------
    LabelFreeSearch : Fits the candidates as well.

    Examples
    --------
    >>> from sklearn.cluster import KMeans
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn_scan.model_selection import select
    >>> X, _ = make_blobs(150, centers=3, cluster_std=0.5, random_state=0)
    >>> good = KMeans(3, n_init=5, random_state=0).fit(X)
    >>> bad = KMeans(3, init=X[:3], n_init=1, max_iter=1).fit(X[::-1] ** 3)
    >>> select([bad, good], X).best_index
    1
    """
    if hasattr(candidates, "cv_results_"):
        search = candidates
        candidates = [
            clone(search.estimator).set_params(**clone(params, safe=False)).fit(X)
            for params in search.cv_results_["params"]
        ]
    if len(candidates) == 0:
        raise ValueError("candidates is empty. Pass fitted clusterers.")
    partitions = [number_clusters(each.predict(X)) for each in candidates]
    kept = draw(len(partitions[0]))
    spaces = [
        np.asarray(each.transform(X))[kept]
        for each in candidates
        if hasattr(each, "transform")
    ]
    return _rank_sampled(partitions, spaces, X, kept, _check_scoring(scoring))


def _rank_fitted(estimators, X, names):
    """Rank estimators by what they found in `X` when they were fitted on it."""
    partitions = [number_clusters(_find_labels(each, X)) for each in estimators]
    kept = draw(len(partitions[0]))
    spaces = [_find_embedding(each, X) for each in estimators]
    spaces = [np.asarray(rows)[kept] for rows in spaces if rows is not None]
    return _rank_sampled(partitions, spaces, X, kept, names)


def _rank_sampled(partitions, spaces, X, kept, names):
    partitions = [number_clusters(labels[kept]) for labels in partitions]
    spaces = _drop_repeated(spaces or [np.asarray(X)[kept]])
    # Files that could not be read were skipped in every fit.
    is_there = np.all([np.isfinite(rows).all(axis=1) for rows in spaces], axis=0)
    partitions = [number_clusters(labels[is_there]) for labels in partitions]
    return rank(partitions, [rows[is_there] for rows in spaces], names)


def _find_labels(estimator, X):
    last = find_last_step(estimator)
    return last.labels_ if hasattr(last, "labels_") else estimator.predict(X)


def _find_embedding(estimator, X):
    """Return the embedding of `X` on which an estimator was fitted, or None."""
    last = find_last_step(estimator)
    if hasattr(last, "embedding_"):
        return last.embedding_
    return estimator.transform(X) if hasattr(estimator, "transform") else None


def _drop_repeated(spaces):
    """Return each embedding once, as rows of float32."""
    rows = [each.reshape(len(each), -1).astype(np.float32) for each in spaces]
    return list({(each.shape, each.tobytes()): each for each in rows}.values())


def _check_scoring(scoring):
    """Return the names of criteria."""
    if isinstance(scoring, str):
        scoring = DEFAULT_CRITERIA if scoring == "auto" else [scoring]
    unknown = [name for name in scoring if name not in CRITERIA]
    if unknown or len(scoring) == 0:
        raise ValueError(
            f'scoring must be "auto", or one or several of {sorted(CRITERIA)}. Got '
            f"{list(scoring)!r}."
        )
    return list(scoring)


def _list_candidates(param_grid):
    if isinstance(param_grid, (Mapping, list)):
        param_grid = ParameterGrid(param_grid)
    candidates = [dict(params) for params in param_grid]
    if not candidates:
        raise ValueError("param_grid yields no candidate. Pass at least one setting.")
    return candidates


def _fit(estimator, params, X, fit_params, error_score):
    """Return a fitted candidate, the seconds that it took, and no error; or the error.

    Parameters are cloned, as estimators among them are fitted.
    """
    started = time.perf_counter()
    try:
        estimator.set_params(**clone(params, safe=False)).fit(X, **fit_params)
    except Exception as error:
        if error_score == "raise":
            raise
        return None, time.perf_counter() - started, error
    return estimator, time.perf_counter() - started, None


def _report_failures(errors):
    """Warn of candidates that failed; where all did, raise the error of the first."""
    found = [error for error in errors if error is not None]
    if not found:
        return
    told = f"{len(found)} of {len(errors)} candidates could not be fitted"
    if len(found) == len(errors):
        found[0].add_note(f"{told}. This is the error of the first.")
        raise found[0]
    warn_user(
        f"{told}. The first error was {type(found[0]).__name__}: {found[0]} Pass "
        "error_score='raise' to see it in full.",
        FitFailedWarning,
    )


def _make_table(candidates, ranking, seconds, scoring_seconds, error_score):
    """Return results in the form of GridSearchCV."""
    n_candidates = len(candidates)
    # One fit, so there is no deviation.
    table = {
        "mean_fit_time": np.array(seconds),
        "std_fit_time": np.zeros(n_candidates),
        "mean_score_time": np.full(n_candidates, scoring_seconds),
        "std_score_time": np.zeros(n_candidates),
    }
    for name in sorted({name for params in candidates for name in params}):
        column = np.ma.masked_all(n_candidates, dtype=object)
        for number, params in enumerate(candidates):
            if name in params:
                column[number] = params[name]
        table[f"param_{name}"] = column
    table["params"] = candidates

    def fill(values):
        return values if error_score == "raise" else _fill(values, error_score)

    for number, scores in enumerate(ranking.part_scores.T):
        table[f"split{number}_test_score"] = fill(scores)
    table["mean_test_score"] = fill(ranking.scores)
    table["std_test_score"] = fill(ranking.part_scores.std(axis=1))
    table["rank_test_score"] = ranking.ranks
    for name, values in ranking.criteria.items():
        table[f"mean_test_{name}"] = fill(values)
    return table


def _fill(values, error_score):
    return np.where(np.isnan(values), error_score, values)
