# SPDX-License-Identifier: BSD-3-Clause
"""What the steps of one `fit` share, and the choice between their results."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sklearn_scan._clustering import Judge
from sklearn_scan._engine import Trainer, infer, settle_statistics
from sklearn_scan._self_labeling import compare_answers, is_improvement
from sklearn_scan._sources import ArraySource

# Each has a seed of its own, so that leaving one out changes nothing in the others.
# New ones come last: a seed goes by its place.
STEPS = (
    "pretext",
    "head_search",
    "clustering",
    "self_labeling",
    "judging",
    "settling",
    "polishing",
    "following",
)

# A cluster is shown by the most typical of this many of its most confident members.
_N_CONFIDENT = 10


@dataclass
class Run:
    """What the steps of one `fit` share."""

    pretext: object
    trainer: Trainer
    seeds: dict
    memory: object
    context: object
    threshold: float
    keep: str
    reconstruct: Callable
    source: ArraySource = None
    judge: Judge = None
    sample_weight: np.ndarray = None
    loss: float = np.inf
    _answers: tuple = (None, None)

    @property
    def runtime(self):
        return self.trainer.runtime

    def isolated(self, step):
        """Return the context with the seed of a step."""
        return self.runtime.isolated(self.seeds[step])

    def settle(self, network, batch_size):
        """Make a network that was trained on views ready for samples.

        Its best head stays, and, where the encoder learned, batch normalisation takes
        its statistics from the samples as they are.
        """
        with self.isolated("settling"):
            if any(p.requires_grad for p in network.encoder.parameters()):
                settle_statistics(network.encoder, self.source, batch_size)
            if network.heads.n_heads > 1:
                self.judge.select_head(network)
        return network.eval()

    def snapshot_of(self, network, batch_size):
        """Return a function that makes an estimator of a network in training."""

        def take():
            settled = self.settle(copy.deepcopy(network), batch_size)
            return self.reconstruct(settled, self.runtime)

        return take

    def probabilities(self, network):
        """Return the probabilities of all samples, computed once for a network."""
        if self._answers[0] is not network:
            self._answers = network, infer(network.probabilities, self.source)
        return self._answers[1]

    def judge_start(self, network):
        """Judge what the search of heads has found, and write it down."""
        self.loss = self._loss(network)
        answers = self._answer(network)
        comparison = compare_answers(answers, answers, self.threshold)
        self._write_down("head_search", self.loss, comparison, True)

    def better_clustered(self, candidate, network):
        """Return the result of the clustering on views, if it is better."""
        loss, comparison = self._loss(candidate), self._compare(network, candidate)
        # False for nan, where training diverged.
        is_lower = loss <= (np.inf if self.keep == "last" else self.loss)
        has_start = np.isfinite(self.loss)
        is_better = has_start and np.isfinite(loss) and is_improvement(comparison)
        kept = bool(is_lower or is_better)
        self._write_down("clustering", loss, comparison, kept)
        if kept:
            self.loss = loss
        return candidate if kept else network

    def better_self_labeled(self, candidate, network):
        """Return what self-labelling made, if there is something and it is better.

        The SCAN loss cannot tell: it punishes a network for being right where a mined
        neighbour is of another kind. See `is_improvement` for what can.
        """
        if candidate is None:
            return network
        loss, comparison = self._loss(candidate), self._compare(network, candidate)
        kept = self.keep == "last" or is_improvement(comparison)
        kept = bool(kept and np.isfinite(loss))
        self._write_down("self_labeling", loss, comparison, kept)
        return candidate if kept else network

    def _compare(self, network, candidate):
        before, after = self._answer(network), self._answer(candidate)
        return compare_answers(before, after, self.threshold)

    def _loss(self, network):
        with self.isolated("judging"):
            return self.judge.loss(network)

    def _answer(self, network):
        """Return the probabilities of all samples, and the share of equal views."""
        probabilities = self.probabilities(network)
        with self.isolated("judging"):
            return probabilities, self.judge.invariance(network, probabilities)

    def _write_down(self, step, loss, comparison, kept):
        """Add to the history what was judged of the result of a step."""
        notes = {name: now for name, (_, now) in comparison.items()}
        selection = self.trainer.progress.history.setdefault("selection", [])
        selection.append({"stage": step, "loss": loss} | notes | {"kept": kept})


def find_prototypes(labels, confidence, embedding, n_clusters):
    """Find for each cluster the sample nearest to its confident centre."""
    prototypes = np.full(n_clusters, -1, dtype=np.int64)
    for cluster in range(n_clusters):
        members = np.flatnonzero(labels == cluster)
        if len(members):
            order = np.argsort(-confidence[members], kind="stable")
            typical = members[order[:_N_CONFIDENT]]
            offsets = embedding[typical] - embedding[typical].mean(axis=0)
            prototypes[cluster] = typical[(offsets**2).sum(axis=1).argmin()]
    return prototypes
