# SPDX-License-Identifier: BSD-3-Clause
"""What is measured of a fitted clusterer, without labels."""

from dataclasses import dataclass

import numpy as np

from sklearn_scan._criteria import count_links, find_agreement
from sklearn_scan._losses import is_confident
from sklearn_scan._stages import make_graph
from sklearn_scan.inspection._diagnosis._cuts import cut_pairs, halve
from sklearn_scan.neighbors import draw_some

# Samples whose neighbours are compared with everybody else.
_N_PROBES = 256
# Samples that are named, of those whose neighbours disagree.
_N_NAMED = 20


@dataclass
class Measures:
    """What was measured.

    Attributes
    ----------
    record : dict
        Of primitives; `Diagnosis.to_dict` says what is in it.
    halves : dict of int to tuple of ndarray
        For each cluster the members of its two best separated halves.
    disagreeing : ndarray of int
        Samples that are confident of a cluster in which most of their neighbours are
        not, the most confident first.
    """

    record: dict
    halves: dict
    disagreeing: np.ndarray


def measure(estimator, stability=None, views=()):
    """Measure a fitted clusterer.

    Parameters
    ----------
    estimator : SCANClustering
        Fitted.
    stability : ndarray of shape (n_clusters,) or None
        As `cluster_stability` returns it.
    views : sequence of dict
        See `measure_views`.

    Returns
    -------
    measures : Measures
    """
    labels = np.asarray(estimator.labels_)
    confidence = np.asarray(estimator.confidence_)
    neighbors = np.asarray(estimator.neighbors_)
    n_clusters = len(estimator.prototypes_)
    is_sure = _find_sure(estimator, confidence)
    graph = make_graph(neighbors)
    directed = count_links(labels, neighbors, n_clusters)
    cuts = cut_pairs((directed + directed.T) / 2)
    clusters, halves = _measure_clusters(
        labels, confidence, is_sure, graph, directed, stability
    )
    # Nobody disagrees where there are no neighbours: NaN is not less.
    is_odd = is_sure & (find_agreement(labels, neighbors) < 0.5)
    odd = np.flatnonzero(is_odd)
    disagreeing = odd[np.argsort(-confidence[odd], kind="stable")]
    chance = np.bincount(labels, minlength=n_clusters) / max(1, len(labels))
    record = {
        "n_samples": len(labels),
        "n_clusters": n_clusters,
        "n_neighbors": neighbors.shape[1],
        "threshold": float(estimator.threshold),
        "confidence": _mean(confidence),
        "coverage": _mean(is_sure),
        "agreement": _share(directed.trace(), directed.sum()),
        "agreement_by_chance": float((chance**2).sum()),
        "clusters": clusters,
        "empty": [each["cluster"] for each in clusters if each["size"] == 0],
        "pairs": _list_pairs(cuts),
        "neighbors": measure_neighbors(neighbors, np.asarray(estimator.embedding_)),
        "disagreeing": {
            "share": _mean(is_odd),
            "samples": disagreeing[:_N_NAMED].tolist(),
        },
        "views": list(views),
        "selection": list(estimator.history_.get("selection", [])),
        "training": summarize_training(estimator.history_),
    }
    return Measures(record, halves, disagreeing)


def _measure_clusters(labels, confidence, is_sure, graph, directed, stability):
    """Return a record of every cluster, and the members of the halves of each."""
    records, halves = [], {}
    for number in range(len(directed)):
        members = np.flatnonzero(labels == number)
        cut, is_first = halve(graph[members][:, members])
        pair = members[is_first], members[~is_first]
        if not np.isnan(cut):
            halves[number] = pair
        records.append(
            {
                "cluster": number,
                "size": len(members),
                "confidence": _mean(confidence[members]),
                "coverage": _mean(is_sure[members]),
                **_describe_neighbors(number, directed[number]),
                "stability": None if stability is None else _number(stability[number]),
                "halves": {"cut": _number(cut), "sizes": sorted(map(len, pair))},
            }
        )
    return records, halves


def _describe_neighbors(number, counts):
    """Say how many neighbours of a cluster agree, and where most of the others are."""
    others = counts.copy()
    others[number] = 0
    nearest = int(others.argmax())
    has_other = others[nearest] > 0
    return {
        "agreement": _share(counts[number], counts.sum()),
        "nearest": nearest if has_other else None,
        "shared": _share(others[nearest], counts.sum()) if has_other else None,
    }


def _list_pairs(cuts):
    """List pairs of clusters, the worst separated first, two for each cluster."""
    rows, columns = np.triu_indices(len(cuts), 1)
    values = cuts[rows, columns]
    order = np.argsort(-values, kind="stable")
    order = order[values[order] > 0][: 2 * len(cuts)]  # drops NaN as well
    return [
        {"clusters": [int(rows[k]), int(columns[k])], "cut": float(values[k])}
        for k in order
    ]


def measure_neighbors(neighbors, embedding):
    """Measure whether neighbours are near in the embedding, and have common neighbours.

    Parameters
    ----------
    neighbors : ndarray of shape (n_samples, K)
        -1 stands for none.
    embedding : ndarray of shape (n_samples, n_features)

    Returns
    -------
    found : dict
        "nearer", the share of all samples that are nearer than a neighbour is: about
        K / (2 n_samples) for mined neighbours, and 0.5 for any samples. "transitive",
        the share of the neighbours of neighbours that are neighbours themselves;
        "by_chance", what that is for any samples. None without neighbours.
    """
    n_samples, K = neighbors.shape
    nearer, transitive = [], []
    for probe in draw_some(n_samples, _N_PROBES):
        near = neighbors[probe][neighbors[probe] >= 0]
        if len(near) == 0:
            continue
        distance = np.linalg.norm(embedding - embedding[probe], axis=1)
        ranks = np.searchsorted(np.sort(distance), distance[near])
        nearer.append(ranks.mean() / n_samples)
        second = neighbors[near]
        second = second[(second >= 0) & (second != probe)]
        if len(second):
            transitive.append(np.isin(second, near).mean())
    return {
        "nearer": _mean(nearer),
        "transitive": _mean(transitive),
        "by_chance": K / (n_samples - 1) if n_samples > 1 and K else None,
    }


def summarize_training(history):
    """Say of each stage how its figures began and ended.

    Returns
    -------
    stages : list of dict
        With "stage", "epochs", the "first" and "last" loss, and what else can be told
        as a share, at the end: "found" and "accuracy".
    """
    stages = []
    for stage in ("pretext", "head_search", "clustering", "self_labeling"):
        records = [each for each in history.get(stage, []) if "loss" in each]
        if records:
            first, last = records[0], records[-1]
            shares = {key: last[key] for key in ("found", "accuracy") if key in last}
            losses = {"first": float(first["loss"]), "last": float(last["loss"])}
            stages.append({"stage": stage, "epochs": len(records)} | losses | shares)
    return stages


def _find_sure(estimator, confidence):
    """Return who was above `threshold` before probabilities were calibrated.

    Calibration keeps their number, and hardly changes who is surer than whom.
    """
    calibration = estimator.history_.get("calibration")
    if not calibration:
        return is_confident(confidence, estimator.threshold)
    n_sure = round(calibration[0]["confident"] * len(confidence))
    is_sure = np.zeros(len(confidence), dtype=bool)
    is_sure[np.argsort(-confidence, kind="stable")[:n_sure]] = True
    return is_sure


def _mean(values):
    return float(np.mean(values)) if len(values) else None


def _number(value):
    return None if np.isnan(value) else float(value)


def _share(part, whole):
    return float(part / whole) if whole else None
