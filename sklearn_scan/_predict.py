# SPDX-License-Identifier: BSD-3-Clause
"""What a fitted clusterer answers."""

from typing import Any

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from sklearn_scan._criteria import neighbor_modularity
from sklearn_scan._engine import Runtime, infer
from sklearn_scan._inputs import SampleInputMixin
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

    It reads `net_`, `input_spec_`, `neighbors_` and the backbone, and changes nothing.
    """

    def predict(self, X: SamplesLike) -> Labels:
        """Find the cluster of each sample.

        Parameters
        ----------
        X : array-like
            Samples of the shape and range that `fit` saw.

        Returns
        -------
        labels : ndarray of shape (n_samples,), dtype int64
            Cluster numbers; -1 for files that were skipped (see `on_error`).
        """
        return find_labels(self.predict_proba(X))

    def predict_proba(self, X: SamplesLike) -> Floats:
        """Compute the probability of each cluster for each sample.

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
        source = self._open(X, runtime)
        return places.spread(
            infer(self._network(runtime).probabilities, source).numpy()
        )

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
        # Inference is float32, also where there is no other precision.
        return Runtime.resolve(self.device, "float32")

    def _open(self, X, runtime):
        """Return what the network reads of checked samples."""
        backbone = self._backbone
        if backbone.learns:
            return backbone.open(X, None, runtime)
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
        return infer(self._network(runtime).probabilities, source).numpy()

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
