# SPDX-License-Identifier: BSD-3-Clause
"""Ways of choosing among candidates without labels, for `benchmarks/selection.py`.

Most are a criterion, which compares a partition with a space, and the spaces in which
it is taken: "own", that of the candidate; "fixed", the first one for all; "pooled",
those of all, averaged; "ACE", the same with the spaces weighted by PageRank, those that
rank candidates like the others most, as in arXiv:2403.14830 (without its dip test, and
without its clustering of spaces, of which there are four here).
"""

import numpy as np
from scipy.stats import rankdata
from sklearn.metrics import (
    adjusted_rand_score,
    calinski_harabasz_score,
    davies_bouldin_score,
    normalized_mutual_info_score,
    pairwise_distances,
)

from sklearn_scan import _criteria
from sklearn_scan._stages._partitions import measure_cut
from sklearn_scan.model_selection._pooling import measure_resemblance
from sklearn_scan.model_selection._reading import find_neighbors, number_clusters

_DAMPING, _N_STEPS = 0.85, 50
#: Sums of standardised rankings that were tried.
_SUMS = {
    "modularity + information": ("modularity, pooled", "information, pooled"),
    "modularity + resemblance": ("modularity, pooled", "resemblance"),
    "information + resemblance": ("information, pooled", "resemblance"),
    "modularity + information + resemblance": (
        "modularity, pooled",
        "information, pooled",
        "resemblance",
    ),
    "silhouette + resemblance": ("silhouette, pooled", "resemblance"),
    "silhouette + consistency": ("silhouette, pooled", "consistency, pooled"),
}


def measure(spaces, candidates):
    """Compare every partition with every space, and with every other partition.

    Parameters
    ----------
    spaces : list of ndarray of shape (n_samples, n_features)
        All embeddings.
    candidates : dict of ndarray
        Of `selection_candidates`.

    Returns
    -------
    found : dict of ndarray
        For each criterion (n_candidates, n_spaces); (n_candidates, n_candidates) for
        "ARI" and "NMI"; and (n_candidates,) for "resemblance".
    """
    partitions = [number_clusters(labels) for labels in candidates["labels"]]
    numbers = candidates["n_clusters"].tolist()
    found = {}
    for rows in spaces:
        views = _look(rows)
        for labels, n_clusters in zip(partitions, numbers, strict=True):
            for name, value in _compare(labels, views, n_clusters).items():
                found.setdefault(name, []).append(value)
    shape = len(spaces), len(partitions)
    found = {name: np.reshape(values, shape).T for name, values in found.items()}
    found["ARI"] = _compare_all(partitions, adjusted_rand_score)
    found["NMI"] = _compare_all(partitions, normalized_mutual_info_score)
    found["resemblance"] = measure_resemblance(partitions, spaces).mean(axis=1)
    return found


def _look(rows):
    """Return what criteria look at in a space."""
    centered = rows - rows.mean(axis=0)
    views = {
        "rows": rows,
        "narrow": _criteria.reduce_width(rows),
        "near": find_neighbors(rows),
        "euclidean": pairwise_distances(rows),
        "cosine": pairwise_distances(centered, metric="cosine").clip(0),
    }
    for metric in ("euclidean", "cosine"):
        np.fill_diagonal(views[metric], 0)
    return views


def _compare(labels, views, n_clusters):
    rows, near = views["rows"], views["near"]
    is_one = labels.max() == 0
    return {
        "silhouette": _criteria.silhouette(labels, views["euclidean"], "precomputed"),
        "cosine silhouette": _criteria.silhouette(
            labels, views["cosine"], "precomputed"
        ),
        "Calinski-Harabasz": 0 if is_one else calinski_harabasz_score(rows, labels),
        "Davies-Bouldin": -10 if is_one else -davies_bouldin_score(rows, labels),
        "consistency": _criteria.neighbor_consistency(labels, near),
        "information": _criteria.neighbor_information(labels, near),
        "modularity": _criteria.neighbor_modularity(labels, near),
        "normalised cut": -measure_cut(labels, near, n_clusters),
        "pseudo-labels": _criteria.label_generalization(labels, views["narrow"]),
    }


def _compare_all(partitions, function):
    return np.array([[function(a, b) for b in partitions] for a in partitions])


def score_all(candidates, measured):
    """Return the score of every candidate by every scorer.

    Parameters
    ----------
    candidates : dict of ndarray
        Of `selection_candidates`.
    measured : dict of ndarray
        Of `measure`.

    Returns
    -------
    scores : dict of ndarray of shape (n_candidates,)
        Higher is better.
    """
    spaces = candidates["space"]
    everyone = np.arange(len(spaces))
    scores = {
        "SCAN objective, own": candidates["objective"],
        "mean confidence": candidates["confidence"].mean(axis=1),
    }
    for name, values in measured.items():
        if values.ndim == 1:
            scores[name] = values
        elif name in ("ARI", "NMI"):
            np.fill_diagonal(values, 0)
            scores[f"{name} with the others"] = values.mean(axis=1)
        else:
            scores[f"{name}, own"] = values[everyone, spaces]
            scores[f"{name}, fixed"] = values[:, 0]
            scores[f"{name}, pooled"] = values.mean(axis=1)
            scores[f"{name}, ACE"] = values @ _weigh_spaces(values)
    for name, parts in _SUMS.items():
        scores[name] = sum(_standardize(scores[part]) for part in parts)
    return scores


def _weigh_spaces(values):
    """Return the PageRank of spaces that are linked by how alike they rank."""
    with np.errstate(invalid="ignore"):
        links = np.corrcoef(np.apply_along_axis(rankdata, 0, values).T)
    links = np.nan_to_num(links).clip(0)
    np.fill_diagonal(links, 0)
    links += 1e-9
    links /= links.sum(axis=0)
    weights = np.full(len(links), 1 / len(links))
    for _ in range(_N_STEPS):
        weights = (1 - _DAMPING) / len(links) + _DAMPING * links @ weights
    return weights


def _standardize(scores):
    return (scores - scores.mean()) / max(scores.std(), 1e-12)
