# SPDX-License-Identifier: BSD-3-Clause
"""Which networks are kept: the choice between the results of the stages."""

from dataclasses import dataclass

import numpy as np
import torch

from sklearn_scan._engine import infer
from sklearn_scan._losses import is_confident
from sklearn_scan._nets import ClusterNetwork
from sklearn_scan._world import world

# What answers may lose where they replace others: of the share of confident samples
# (a little, as some answers prove to be doubtful), of the agreement with earlier
# confident answers, and of the invariance under views.
_MOST_LOST = {"confident": 0.05, "agreement": 0.05, "invariance": 0.005}


@dataclass(frozen=True, eq=False)
class Answers:
    """What a network answers on the training samples, and how good that is.

    Attributes
    ----------
    network : ClusterNetwork
        Of which the first head counts.
    probabilities : Tensor of shape (n_samples, n_clusters)
        Of the samples as they are.
    loss : float
        The SCAN loss on views.
    invariance : float
        The share of samples of which a view is in the same cluster.
    """

    network: ClusterNetwork
    probabilities: torch.Tensor
    loss: float
    invariance: float


class Selector:
    """Hold the best network so far, and decide whether a candidate replaces it.

    Parameters
    ----------
    evaluator : Evaluator
        Compares networks.
    threshold : float
        Above which an answer is confident.
    keep : {"best", "last"}
        Whether candidates must be no worse than what they replace.
    context : FitContext
        Holds the history, to which every choice is added.

    Attributes
    ----------
    network : ClusterNetwork or None
        The best so far.
    loss : float
        Its SCAN loss; infinity while there is none to compare with.
    """

    def __init__(self, evaluator, threshold, keep, context):
        self.evaluator = evaluator
        self.threshold = threshold
        self.keep = keep
        self.context = context
        self.network = None
        self.loss = np.inf
        self._judged = []

    def begin(self, network, *, is_trained):
        """Take the first network; compare others with it, if it was trained."""
        self.network = network
        if is_trained:
            self._decide("head_search", network, self._compare(network), True)

    def probabilities(self, network=None):
        """Return the probabilities of all samples, computed once for a network.

        Those of the best network so far, unless another is given.
        """
        return self._judge(self.network if network is None else network).probabilities

    def choose_clustered(self, candidate):
        """Choose between the best network and the result of the clustering on views.

        The candidate is taken where it does not raise the loss, or where its answers
        are as good.
        """
        loss, comparison = self._judge(candidate).loss, self._compare(candidate)
        # False for nan, where training diverged.
        is_lower = loss <= (np.inf if self.keep == "last" else self.loss)
        has_start = np.isfinite(self.loss)
        is_better = has_start and np.isfinite(loss) and is_as_good(comparison)
        kept = bool(is_lower or is_better)
        self._decide("clustering", candidate, comparison, kept)

    def choose_self_labeled(self, candidate):
        """Choose between the best network and what self-labelling has made of it.

        The candidate must agree with earlier confident answers. Beyond that, a lower
        SCAN loss speaks for it, but a higher one does not speak against it, since the
        loss penalises correct answers for samples whose mined neighbours are of another
        kind: then it must be about as confident and as invariant. See `is_as_good`.

        Returns
        -------
        reason : str or None
            Why the candidate was discarded, if the user should know.
        """
        loss, comparison = self._judge(candidate).loss, self._compare(candidate)
        loses_clusters = self.keep == "best" and self._loses_clusters(candidate)
        is_lower = loss <= self.loss < np.inf
        agrees = is_as_good(comparison, ["agreement"])
        is_better = (is_lower and agrees) or is_as_good(comparison)
        kept = self.keep == "last" or (is_better and not loses_clusters)
        kept = bool(kept and np.isfinite(loss))
        self._decide("self_labeling", candidate, comparison, kept)
        if loses_clusters:
            return (
                "Self-labelling left a cluster without members. Its result was "
                "discarded, and that of the stage before is kept."
            )

    def _loses_clusters(self, candidate):
        """Say whether fewer clusters have members than before."""
        before, after = (
            len(self.probabilities(network).argmax(dim=1).unique())
            for network in (self.network, candidate)
        )
        return after < before

    def _compare(self, candidate):
        before, after = self._judge(self.network), self._judge(candidate)
        return compare_answers(before, after, self.threshold)

    def _judge(self, network):
        """Return the answers of a network, which is looked at once."""
        for answers in self._judged:
            if answers.network is network:
                return answers
        probabilities = infer(network.probabilities, self.evaluator.source)
        with self.context.isolated("evaluation"):
            found = self.evaluator.judge(network, probabilities)
        self._judged.append(Answers(network, probabilities, *found))
        return self._judged[-1]

    def _decide(self, stage, candidate, comparison, kept):
        """Keep a candidate or not; add to the history what was found of it."""
        # Of machines of two kinds, each may round in its own way.
        kept, loss = world().agree(kept), self._judge(candidate).loss
        notes = {name: now for name, (_, now) in comparison.items()}
        selection = self.context.progress.history.setdefault("selection", [])
        selection.append({"stage": stage, "loss": loss} | notes | {"kept": kept})
        if kept:
            self.network, self.loss = candidate, loss
        # Those of a network that lost are not asked for again.
        self._judged = [
            known for known in self._judged if known.network is self.network
        ]


def compare_answers(before, after, threshold):
    """Compare the answers of two networks, of which the second may replace the first.

    Parameters
    ----------
    before, after : Answers
    threshold : float
        Above which an answer is confident.

    Returns
    -------
    comparison : dict of tuple of float
        Before and after: "confident", the share of confident samples;
        "agreement", the share in the same cluster among those that are confident in
        both; and "invariance".
    """
    old, new = before.probabilities, after.probabilities
    was_sure, is_sure = (is_confident(p.amax(dim=1), threshold) for p in (old, new))
    same = (old.argmax(dim=1) == new.argmax(dim=1))[was_sure & is_sure].float()
    return {
        "confident": (float(was_sure.float().mean()), float(is_sure.float().mean())),
        "agreement": (1.0, float(same.mean()) if len(same) else 0.0),
        "invariance": (before.invariance, after.invariance),
    }


def is_as_good(comparison, names=tuple(_MOST_LOST)):
    """Say whether answers are about as confident, consistent and invariant as before.

    Parameters
    ----------
    comparison : dict of tuple of float
        See `compare_answers`.
    names : sequence of str, default=("confident", "agreement", "invariance")
        What is compared.
    """
    losses = {name: comparison[name][0] - comparison[name][1] for name in names}
    return all(lost <= _MOST_LOST[name] for name, lost in losses.items())
