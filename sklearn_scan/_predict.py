# SPDX-License-Identifier: BSD-3-Clause
"""What a fitted clusterer answers."""

from typing import Any

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from sklearn_scan._calibration import soften
from sklearn_scan._criteria import neighbor_modularity
from sklearn_scan._engine import Runtime, infer
from sklearn_scan._inputs import SampleInputMixin
from sklearn_scan._novelty import KnownSamples
from sklearn_scan._typing import Floats, Labels, SamplesLike
from sklearn_scan.neighbors import count_compared, mine_neighbors

# Clusters of samples that are predicted again may differ where two are equally likely.
_LEAST_AGREEMENT = 0.98


def find_labels(probabilities):
    """Return the cluster of each sample; -1 for files that were skipped, NaN here."""
    is_skipped = np.isnan(probabilities[:, 0])
    return np.where(is_skipped, -1, probabilities.argmax(axis=1))


class PredictorMixin(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, SampleInputMixin
):
    """Mixin for what `SCANClustering` does after `fit`.

    It reads `net_`, `input_spec_`, `neighbors_` and the backbone, and changes nothing
    that was fitted; it keeps what it has learned of the training samples' novelty.
    """

    def predict(self, X: SamplesLike, novelty_rate: float = 0.0) -> Labels:
        """Find the cluster of each sample, or none.

        Parameters
        ----------
        X : array-like
            Samples of the shape and range that `fit` saw.
        novelty_rate : float, default=0.0
            The share of samples of known kinds that may be refused, in [0, 1). Samples
            are refused whose `novelty_score` exceeds what this share of the training
            samples reach, each compared with the others. 0 refuses none.

        Returns
        -------
        labels : ndarray of shape (n_samples,), dtype int64
            Cluster numbers; -1, "none of these", for samples that are refused, and for
            files that were skipped (see `on_error`).

        Raises
        ------
        ValueError
            If `novelty_rate` is not in [0, 1).
        """
        check_is_fitted(self, "net_")
        if not 0 <= novelty_rate < 1:
            raise ValueError(
                "novelty_rate is the share of known samples that may be refused, and "
                f"must be in [0, 1). Got {novelty_rate!r}."
            )
        (X, places), runtime = self._check_given(X), self._resolve_runtime()
        embedding = None
        if novelty_rate > 0:
            embedding = self._backbone.embed(X, runtime, self._open_console())
        source = self._open(X, runtime, embedding)
        labels = self._ask(source, runtime).argmax(axis=1)
        if embedding is not None:
            limit = self._known.find_limit(novelty_rate)
            labels[self._find_novelty(embedding) > limit] = -1
        return places.spread(labels, -1)

    def novelty_score(self, X: SamplesLike) -> Floats:
        """Say how unlike anything that was fitted each sample is.

        The mean distance to the five nearest training samples in the embedding, divided
        by what is usual among training samples: the geometric mean of that near these
        five, and of that everywhere. (Of at most 20,000 training samples.)

        Parameters
        ----------
        X : array-like
            Samples of the shape and range that `fit` saw. Those that `fit` saw
            themselves are their own nearest neighbours, and score too low.

        Returns
        -------
        novelty : ndarray of shape (n_samples,), dtype float64
            About 1 for what is as near to training samples as these are to each other,
            and higher for what is farther off; infinite where distances exceed float32.
            NaN for files that were skipped.

        See Also
        --------
        predict : Refuses samples at a rate, with `novelty_rate`.
        """
        check_is_fitted(self, "net_")
        (X, places), runtime = self._check_given(X), self._resolve_runtime()
        embedding = self._backbone.embed(X, runtime, self._open_console())
        return places.spread(self._find_novelty(embedding))

    @property
    def _known(self):
        """The training samples, compared with each other at the first question."""
        if getattr(self, "_known_samples", None) is None:
            # Files that were skipped have no cluster, and no embedding.
            embedding = self.embedding_[self.labels_ >= 0]
            rows, metric = self._backbone.compare(embedding)
            self._known_samples = KnownSamples.learn(rows, metric)
        return self._known_samples

    def _find_novelty(self, embedding):
        rows, _ = self._backbone.compare(embedding)
        return self._known.score(rows)

    def predict_proba(self, X: SamplesLike) -> Floats:
        """Compute the probability of each cluster for each sample.

        Probabilities are calibrated: of samples whose largest one is about 0.8, about
        eight in ten should be in the group that a person would put them in. No label
        tells so: `fit` divides the logits of the network by `temperature_`, at which
        the mean confidence of the training samples is the share of near samples that
        are in the same cluster. It cannot see what all near samples get wrong together,
        as where a cluster holds two groups; then probabilities are too high.

        Parameters
        ----------
        X : array-like
            Samples of the shape and range that `fit` saw.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_clusters), dtype float32
            Rows sum to one. They are NaN for files that were skipped.
        """
        check_is_fitted(self, "net_")
        (X, places), runtime = self._check_given(X), self._resolve_runtime()
        probabilities = self._ask(self._open(X, runtime), runtime)
        return places.spread(self._calibrate(probabilities))

    def transform(self, X: SamplesLike) -> Floats:
        """Embed samples, as the pretext does.

        Parameters
        ----------
        X : array-like
            Samples of the shape and range that `fit` saw.

        Returns
        -------
        embedding : ndarray of shape (n_samples, n_features_out), dtype float32
            What neighbours are mined in. Rows are NaN for files that were skipped.
        """
        check_is_fitted(self, "net_")
        (X, places), runtime = self._check_given(X), self._resolve_runtime()
        return places.spread(self._backbone.embed(X, runtime, self._open_console()))

    def score(self, X: SamplesLike, y: Any = None) -> float:
        """Say, without labels, how well clusters follow neighbours; higher is better.

        The modularity of the graph of neighbours: the share of the ten nearest
        neighbours of a sample, mined in `X`, that are in its cluster, minus the share
        of all samples that are; averaged over samples. It is at most
        ``1 - 1 / n_clusters``, and about 0 for clusters at random.

        It grows with `n_clusters`, and depends on the embedding, so compare it between
        models of the same `n_clusters` and the same pretext; for others, see
        :class:`~sklearn_scan.model_selection.LabelFreeSearch`. Of the label-free scores
        of a single model that were compared, it finds the most accurate one best; the
        SCAN objective, which was the score before, is
        :func:`~sklearn_scan.model_selection.scan_objective_scorer`.

        Parameters
        ----------
        X : array-like
            At least two samples of the shape and range that `fit` saw.
        y : None
            Ignored.

        Returns
        -------
        score : float
            Less than 1.
        """
        check_is_fitted(self, "net_")
        (X, _), runtime = self._check_given(X), self._resolve_runtime()
        if len(X) < 2:
            raise ValueError(
                "score compares samples with their neighbours and needs at least 2 "
                f"samples. Got n_samples = {len(X)}."
            )
        embedding = self._backbone.embed(X, runtime, self._open_console())
        source = self._backbone.open(X, embedding, runtime)
        labels = infer(self._network(runtime).probabilities, source).argmax(dim=1)
        rows, metric = self._backbone.compare(embedding)
        K = count_compared(len(rows))
        neighbors = mine_neighbors(rows, K, metric=metric, device=runtime.device)
        return neighbor_modularity(labels.numpy(), neighbors)

    def _resolve_runtime(self):
        return Runtime.resolve_fitted(self.device, self.precision)

    def _open(self, X, runtime, embedding=None):
        """Return what the network reads of checked samples, or of their embedding."""
        backbone = self._backbone
        if backbone.learns:
            return backbone.open(X, None, runtime)
        if embedding is None:
            embedding = backbone.embed(X, runtime, self._open_console())
        return backbone.open(X, embedding, runtime)

    def _network(self, runtime):
        return self.net_.move_to(runtime.device).module_

    def _predict_proba_fitted(self, X):
        """Compute the probabilities of the samples that `fit` saw.

        Heads on a fixed embedding read it where it is; an encoder reads `X` again.

        Parameters
        ----------
        X : array-like
            What `fit` was given. Not looked at where the embedding is fixed.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_clusters), dtype float32

        Raises
        ------
        ValueError
            If `X` has another number of samples, or its samples are in other clusters.
        """
        if self._backbone.learns:
            probabilities = self.predict_proba(X)
            self._check_fitted(probabilities)
            return probabilities
        runtime = self._resolve_runtime()
        source = self._backbone.open(None, self.embedding_, runtime)
        return self._calibrate(self._ask(source, runtime))

    def _ask(self, source, runtime):
        """Return the probabilities of what the network reads, as it gives them."""
        return infer(self._network(runtime).probabilities, source).numpy()

    def _calibrate(self, probabilities):
        # In the course of a fit, callbacks are given a clusterer without temperature.
        return soften(probabilities, getattr(self, "temperature_", 1.0))

    def _check_fitted(self, probabilities):
        name, n_samples = type(self).__name__, len(self.labels_)
        if len(probabilities) != n_samples:
            raise ValueError(
                f"X has {len(probabilities)} samples, but {name} was fitted on "
                f"{n_samples}. Pass what it was fitted on."
            )
        agreement = (find_labels(probabilities) == self.labels_).mean()
        if agreement < _LEAST_AGREEMENT:
            raise ValueError(
                f"{agreement:.0%} of the samples in X are in the cluster in which "
                f"{name} put them in fit. Pass what it was fitted on, in the same "
                "order."
            )

    @property
    def _n_features_out(self):
        return self.embedding_.shape[1]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
