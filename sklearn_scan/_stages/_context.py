# SPDX-License-Identifier: BSD-3-Clause
"""What all stages of one `fit` are given."""

from dataclasses import dataclass, replace

import numpy as np

from sklearn_scan._engine import NeighborPairs, Trainer
from sklearn_scan._inputs import ArraySource

# Each has a seed of its own, so that leaving one out changes nothing in the others.
# New ones come last: a seed goes by its place.
SEEDS = (
    "pretext",
    "head_search",
    "clustering",
    "self_labeling",
    "evaluation",
    "finishing",
    "polishing",
    "following",
    "counting",
)


@dataclass(frozen=True)
class FitContext:
    """What the stages of one `fit` share.

    Attributes
    ----------
    trainer : Trainer
        Trains stages: knows the device, the cache, the checkpoints and the progress.
    seeds : dict of int
        By the names in `SEEDS`.
    """

    trainer: Trainer
    seeds: dict

    @property
    def runtime(self):
        """Device and precision."""
        return self.trainer.runtime

    @property
    def cache(self):
        """Where finished stages are kept."""
        return self.trainer.cache

    @property
    def progress(self):
        """Reports to the user and to callbacks; holds the history."""
        return self.trainer.progress

    def fit_to_memory(self, name, plan):
        """Return the schedule of a stage with the batches that memory has room for."""
        wish = plan.schedule.batch_size
        size = self.trainer.batch_sizes.get(name, wish)
        return replace(plan.schedule, batch_size=min(wish, size))

    def isolated(self, name):
        """Return a context manager that seeds torch with the seed of this name."""
        return self.runtime.isolated(self.seeds[name])


@dataclass(frozen=True, eq=False)
class MinedSamples:
    """Samples and their neighbours: what steps 2 and 3 learn from.

    Attributes
    ----------
    source : ArraySource
        The samples, or their embedding.
    neighbors : ndarray of shape (n_samples, K)
        Of every sample; -1 stands for none.
    sample_weight : ndarray of shape (n_samples,) or None, default=None
        How often each sample is drawn, relative to the others, so that clusters of any
        size are seen equally often. None to draw all equally often.
    is_learned : bool, default=False
        Whether the source is an embedding that was trained on these very samples, and
        so spreads them evenly.
    """

    source: ArraySource
    neighbors: np.ndarray
    sample_weight: np.ndarray | None = None
    is_learned: bool = False

    def __len__(self):
        return len(self.source)

    def make_pairs(self):
        """Return the data set of samples with a neighbour each."""
        return NeighborPairs(self.source, self.neighbors, self.sample_weight)
