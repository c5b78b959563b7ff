# SPDX-License-Identifier: BSD-3-Clause
"""What the tables of the paper share: data, views, estimators, scores."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.utils import resample

from scan_bench import data_sets
from sklearn_scan import SCANClustering, TrainingConfig
from sklearn_scan.metrics import hungarian_accuracy_score

# Photographs by default, as many as two cores manage.
_N_PHOTOGRAPHS = 10_000


@dataclass(frozen=True)
class Setting:
    """A data set, and the estimators that all tables are made of.

    Attributes
    ----------
    name : str
        "digits", or the name of a file or folder.
    X, y : ndarray
        Images and classes.
    cache : str
        The folder in which pretexts are kept, so that each is trained once per seed.
    n_seeds : int
        How often each row is fitted.
    device : str
        Where to compute.
    """

    name: str
    X: np.ndarray
    y: np.ndarray
    cache: str
    n_seeds: int
    device: str = "auto"

    @property
    def n_classes(self):
        return len(np.unique(self.y))

    @property
    def is_cifar10(self):
        name = self.name.lower().replace("-", "").replace("_", "")
        looks_like_it = self.X.shape[1:] == (32, 32, 3) and self.n_classes == 10
        return looks_like_it and "cifar10" in name.removesuffix(".npz")

    @property
    def views(self):
        """The paper's standard and strong views; the one place where data decide them.

        The paper's are made for photographs. Its strong set holds a mirror and changes
        of brightness, and a mirrored 2 is nothing, so of digits it keeps the shapes and
        the holes. Names, and not "auto", because in step 3 "auto" means the strong ones
        where they fit.
        """
        if self.name == "digits":
            return {"standard": "affine", "strong": ("shapes", "cutout")}
        return {"standard": "photo", "strong": "strong"}

    def clusterer(self, seed, **parameters):
        """Return the clusterer with its defaults, but for `parameters`."""
        shared = {
            "n_clusters": self.n_classes,
            "memory": self.cache,
            "device": self.device,
            "random_state": seed,
        }
        return SCANClustering(**shared | parameters)

    def embedder(self, seed, **parameters):
        """Return a clusterer that ends after step 1: a transformer with a cache."""
        return only_step_one(self.clusterer(seed, n_clusters=1, **parameters))

    def kmeans(self, seed):
        return KMeans(self.n_classes, n_init=10, random_state=seed)


def load(data, n=None):
    """Return the name, the images and the classes of `n` images, the same every time.

    `data` is "digits", or a path as `data_sets.cifar10` reads it.
    """
    if data != "digits":
        return Path(data).name, *data_sets.cifar10(data, n or _N_PHOTOGRAPHS)
    X, y = data_sets.digits()
    if n is not None and n < len(X):
        X, y = resample(X, y, replace=False, n_samples=n, stratify=y, random_state=0)
    return data, X, y


def only_step_one(clusterer):
    """Return a clusterer that does next to nothing after mining."""
    return clone(clusterer).set_params(
        n_heads=1,
        head_search=TrainingConfig(epochs=1),
        clustering=None,
        self_labeling=None,
    )


def fit_step_one(clusterer, X):
    """Train the pretext and mine, unless the cache has them; return the clusterer."""
    with warnings.catch_warnings():
        # What a head finds in one epoch is nobody's concern.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return only_step_one(clusterer).fit(X)


def train_pretexts(estimator, X):
    """Train the pretexts in an estimator, and return the seconds that it once took.

    Fits are timed afterwards, when all of them find their pretext in the cache.
    """
    parts = [estimator, *estimator.get_params(deep=True).values()]
    seconds = 0.0
    for clusterer in (part for part in parts if isinstance(part, SCANClustering)):
        records = fit_step_one(clusterer, X).history_.get("pretext")
        seconds += records[-1]["seconds"] if records else 0.0
    return seconds


SCORERS = {
    "ACC": hungarian_accuracy_score,
    "NMI": normalized_mutual_info_score,
    "ARI": adjusted_rand_score,
}


def score_clusters(y, labels):
    return {name: float(score(y, labels)) for name, score in SCORERS.items()}
