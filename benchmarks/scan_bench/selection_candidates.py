# SPDX-License-Identifier: BSD-3-Clause
"""Candidates for `benchmarks/selection.py`: data sets, spaces, settings, and fits.

A candidate is `SCANClustering` with some settings on some space: an embedding of the
same samples. Those of a data set are fitted once and kept in a file, so that ways of
choosing among them can be studied again in seconds.
"""

import itertools
import os
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.random_projection import GaussianRandomProjection

from sklearn_scan import SCANClustering, TrainingConfig
from sklearn_scan.metrics import hungarian_accuracy_score
from sklearn_scan.model_selection import scan_objective_scorer

MOST_SAMPLES = 1000

#: What candidates differ in, beside the space, where the number of clusters is given.
SETTINGS = (
    {"K": 20, "entropy_weight": 5.0, "n_heads": 2, "epochs": 50},
    {"K": 2, "entropy_weight": 5.0, "n_heads": 1, "epochs": 30},
    {"K": 50, "entropy_weight": 5.0, "n_heads": 1, "epochs": 30},
    {"K": 10, "entropy_weight": 1.0, "n_heads": 1, "epochs": 30},
    {"K": 20, "entropy_weight": 2.0, "n_heads": 6, "epochs": 100},
    {"K": 20, "entropy_weight": 5.0, "n_heads": 1, "epochs": 3},
)
#: Of the grid over the number of clusters, in shares of the number of classes.
_SHARES = (0.4, 0.6, 0.8, 1.0, 1.2, 1.5, 2.0, 3.0)
_SHORT = {"n_heads": 2, "epochs": 30}


@dataclass(frozen=True)
class Problem:
    """A data set whose candidates are to be ranked.

    Attributes
    ----------
    files : tuple of str
        Embeddings of the same samples, ``NAME-SEED.npz`` with ``Z`` and ``y``.
    role : {"choose", "report"}
        Whether the default scorer was chosen on it.
    combine : callable or None
        Makes another set of the embeddings and the classes of the files.
    ratio : int
        The largest class is so many times the smallest; 1 leaves sizes as they are.
    """

    files: tuple
    role: str = "choose"
    combine: callable = None
    ratio: int = 1


def list_problems():
    """Return the data sets by name. Their roles are those of `panel.py`.

    The three that the panel lacks report.
    """
    return {
        "digits": Problem(("digits-0", "digits-1")),
        "letters": Problem(("letters-0", "letters-1")),
        "shapes": Problem(("shapes-0", "shapes-1")),
        "digits 10:1": Problem(("digits_10to1-0", "digits_10to1-1")),
        "CIFAR-10, 3 classes": Problem(
            ("CIFAR-10_3_classes-0", "CIFAR-10_3_classes-1")
        ),
        "digit rows, scaled": Problem(("digit_rows_scaled-0",)),
        "wine, scaled": Problem(("wine_scaled-0",)),
        "small photographs": Problem(("small_photographs-0",)),
        "photographs": Problem(("photographs-0",)),
        "CIFAR-10, 5 classes": Problem(
            ("CIFAR-10_5_classes-0", "CIFAR-10_5_classes-1"), "report"
        ),
        "CIFAR-10": Problem(("CIFAR-10-0", "CIFAR-10-1"), "report"),
        "handwriting rows": Problem(("handwriting_rows-0",), "report"),
        "photographs 10:1": Problem(("photographs_10to1-0",), "report"),
        "handwriting 10:1": Problem(
            ("handwriting-0", "handwriting-1"), "report", ratio=10
        ),
        "26 letters": Problem(("26_letters-0",), "report"),
        "digit pairs": Problem(("digits-0", "digits-1"), "report", pair_digits),
    }


def pair_digits(embeddings, y):
    """Return pairs of digits, which makes 100 classes, with both embeddings."""
    random = np.random.default_rng(0)
    one, other = random.integers(len(y), size=(2, 2000))
    pairs = [np.hstack([Z[one], Z[other]]) for Z in embeddings]
    return pairs, 10 * y[one] + y[other]


def read_spaces(problem, folder):
    """Return spaces by name, rows of the same samples, and their classes.

    Three or four: embeddings of two seeds where there are two; few principal
    components, with their scales and without; and a random projection, the worst.
    """
    embeddings, y = _read_embeddings(problem, folder)
    kept = _draw(y, problem.ratio)
    embeddings, y = [Z[kept] for Z in embeddings], y[kept]
    Z, other = embeddings[0], embeddings[-1]
    n_few = min(10, max(2, Z.shape[1] // 4))
    n_white = min(30, Z.shape[1], len(Z) // 4)
    spaces = {
        "rows": Z,
        f"PCA({n_few})": PCA(n_few, random_state=0).fit_transform(other),
        f"PCA({n_white}, whiten=True)": PCA(
            n_white, whiten=True, random_state=0
        ).fit_transform(Z),
    }
    if len(embeddings) > 1:
        spaces["rows, other seed"] = other
    else:
        project = GaussianRandomProjection(n_white, random_state=0)
        spaces["random projection"] = project.fit_transform(Z)
    return {k: rows.astype(np.float32) for k, rows in spaces.items()}, y


def name_file(*names):
    """Return the name of a file for a data set, without its ending."""
    return "-".join(names).replace(", ", "_").replace(" ", "_").replace(":", "to")


def _read_embeddings(problem, folder):
    found, y = [], None
    for file in problem.files:
        with np.load(Path(folder) / f"{file}.npz") as archive:
            found.append(archive["Z"].astype(np.float32))
            y = archive["y"]
    if problem.combine:
        found, y = problem.combine(found, y)
    return found, np.unique(y, return_inverse=True)[1]


def _draw(y, ratio):
    """Return the rows that are kept, in random order."""
    random = np.random.default_rng(0)
    order = random.permutation(len(y))
    if ratio > 1:
        n_classes = y.max() + 1
        shares = ratio ** -np.linspace(0, 1, n_classes)
        most = np.bincount(y).min()
        ranks = np.empty(len(y), dtype=int)
        for c in range(n_classes):
            members = order[y[order] == c]
            ranks[members] = np.arange(len(members))
        order = order[ranks[order] < (most * shares)[y[order]]]
    return order[: max(MOST_SAMPLES, 20 * (y.max() + 1))]


def list_candidates(spaces, n_classes, grid):
    """Return the candidates of a grid: the space, and the settings.

    Parameters
    ----------
    spaces : iterable of str
        Their names.
    n_classes : int
        Of the data set.
    grid : {"settings", "n_clusters"}
        Whether the number of clusters is given, or searched for.
    """
    if grid == "settings":
        settings = [{"n_clusters": n_classes} | s for s in SETTINGS]
        return list(itertools.product(spaces, settings))
    numbers = sorted({max(2, round(share * n_classes)) for share in _SHARES})
    settings = [{"n_clusters": n} | _SHORT for n in numbers]
    return list(itertools.product(list(spaces)[:2], settings))


def fit_candidates(spaces, y, grid):
    """Fit all candidates of a data set.

    Returns
    -------
    found : dict of ndarray
        Of every candidate its labels and their confidence, its number of clusters, the
        number of its space, its SCAN objective, its ACC and the seconds of its fit.
    """
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    names = list(spaces)
    rows = []
    for space, settings in list_candidates(names, int(y.max()) + 1, grid):
        settings = dict(settings)
        if epochs := settings.pop("epochs", None):
            settings["head_search"] = TrainingConfig(epochs=epochs)
        started = time.perf_counter()
        clusterer = SCANClustering(**settings, random_state=0).fit(spaces[space])
        seconds = time.perf_counter() - started
        rows.append(
            {
                "labels": clusterer.labels_,
                "space": names.index(space),
                "objective": scan_objective_scorer(clusterer, spaces[space]),
                "ACC": hungarian_accuracy_score(y, clusterer.labels_),
                "confidence": clusterer.confidence_,
                "n_clusters": settings["n_clusters"],
                "seconds": seconds,
            }
        )
    return {key: np.array([row[key] for row in rows]) for key in rows[0]}


def read_candidates(name, grid, embeddings, cache):
    """Return the spaces, the classes and the candidates of a data set.

    Candidates that were fitted before are read from the cache.
    """
    spaces, y = read_spaces(list_problems()[name], embeddings)
    file = Path(cache) / f"{name_file(name, grid)}.npz"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        found = fit_candidates(spaces, y, grid)
        unfinished = file.with_suffix(f".{os.getpid()}.npz")
        np.savez_compressed(unfinished, **found)
        unfinished.rename(file)
    with np.load(file) as archive:
        return spaces, y, dict(archive)
