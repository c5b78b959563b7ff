# SPDX-License-Identifier: BSD-3-Clause
"""What a fitted clusterer tells of itself, without labels."""

# Rules of thumb, not results of measurements: below them it is worth while to look.
_LOW_AGREEMENT = 0.6
_LOW_CONFIDENCE = 0.6
# Share of the neighbours of a cluster that lie in one other cluster.
_MUCH_SHARED = 0.25


def measure(clusterer):
    """Measure a fitted clusterer.

    Parameters
    ----------
    clusterer : SCANClustering
        Fitted.

    Returns
    -------
    found : dict
        Of primitives. "n_samples", "n_clusters"; "confidence", the mean over samples;
        "agreement", the share of mined neighbours that are in the cluster of their
        sample, None without neighbours; "clusters", a list of the same numbers per
        cluster, with its "size", the "nearest" other cluster by neighbours, and the
        share of neighbours that are in that ("shared"); "empty", the clusters without
        members; "selection", what `fit` noted of the results of its stages; "advice".
    """
    labels, confidence = clusterer.labels_, clusterer.confidence_
    n_clusters = len(clusterer.prototypes_)
    links = count_links(labels, clusterer.neighbors_, n_clusters)
    clusters = [
        _measure_cluster(number, confidence[labels == number], links[number])
        for number in range(n_clusters)
    ]
    found = {
        "n_samples": len(labels),
        "n_clusters": n_clusters,
        "confidence": float(confidence[labels >= 0].mean()),
        "agreement": _share(links.trace(), links.sum()),
        "clusters": clusters,
        "empty": [each["cluster"] for each in clusters if each["size"] == 0],
        "selection": clusterer.history_.get("selection", []),
    }
    return found | {"advice": advise(found)}


def count_links(labels, neighbors, n_clusters):
    """Count neighbours, by the cluster of the sample and by their own.

    Returns
    -------
    links : ndarray of shape (n_clusters, n_clusters), dtype int64
    """
    import numpy as np

    links = np.zeros((n_clusters, n_clusters), dtype=np.int64)
    rows, columns = np.nonzero(neighbors >= 0)
    np.add.at(links, (labels[rows], labels[neighbors[rows, columns]]), 1)
    return links


def _measure_cluster(number, confidence, links):
    others = links.copy()
    others[number] = 0
    nearest = int(others.argmax())
    has_other = others[nearest] > 0
    return {
        "cluster": number,
        "size": len(confidence),
        "confidence": float(confidence.mean()) if len(confidence) else None,
        "agreement": _share(links[number], links.sum()),
        "nearest": nearest if has_other else None,
        "shared": _share(others[nearest], links.sum()) if has_other else None,
    }


def _share(part, whole):
    return float(part / whole) if whole else None


def advise(found):
    """Return what to try, a list of sentences."""
    advice = []
    if empty := found["empty"]:
        n_left = found["n_clusters"] - len(empty)
        advice.append(
            f"{len(empty)} of {found['n_clusters']} clusters have no member: ask for "
            f"fewer (--n-clusters {n_left}), or try another --seed."
        )
    for each in found["clusters"]:
        if each["shared"] is not None and each["shared"] > _MUCH_SHARED:
            advice.append(
                f"{each['shared']:.0%} of the neighbours of cluster {each['cluster']} "
                f"are in cluster {each['nearest']}: look at both on the page, and "
                "merge them there if they are one."
            )
    agreement = found["agreement"]
    if agreement is not None and agreement < _LOW_AGREEMENT:
        advice.append(
            f"Only {agreement:.0%} of neighbours are in the same cluster: a pretrained "
            "--encoder, or fewer clusters, may fit these pictures better."
        )
    if found["confidence"] < _LOW_CONFIDENCE:
        advice.append(
            "The network is seldom sure. Look at the borderline members on the page "
            "before you rely on the labels."
        )
    return advice
