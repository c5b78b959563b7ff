# SPDX-License-Identifier: BSD-3-Clause
r"""Where the rarest class is lost, and what finds it.

    python benchmarks/rare.py --parts partitions --photographs lite0.npz
    python benchmarks/rare.py --parts fits --data "digit rows, PCA(40)" --json fits.json
    python benchmarks/rare.py --parts thresholds --data digits --ratios 10

Class sizes fall geometrically, as in `imbalance.py`, and each of several classes is the
rarest in turn (`--shifts`): with one, the figures would be those of this class.

``partitions``: ways to partition the embedding, without any training. ``fits``:
`SCANClustering` with its defaults. ``thresholds``: self-labelling of images with a
threshold for each cluster: that of all, or this times the largest or the mean
confidence of the cluster, or the median of its confidences where that is less; "none"
is without self-labelling, and every result is kept.

Printed are ACC, the recall of the rarest class, that of the three rarest, and the mean
recall of all classes, under the best one-to-one naming; of ``partitions`` also the cut
of all mined neighbours and that of the five nearest. "classes" are the true ones.
"""

import argparse
import json
import warnings
from unittest import mock

import numpy as np
import torch
from imbalance import load
from panel import imbalance
from scan_bench import data_sets
from scan_bench.report import describe_run, print_header, print_table, write_json
from scipy.sparse import csr_array
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.metrics import recall_score
from sklearn.neighbors import KNeighborsClassifier

from sklearn_scan import SCANClustering
from sklearn_scan._losses import ConfidenceLoss
from sklearn_scan._stages._partitions import embed_graph, make_graph, measure_cut
from sklearn_scan.metrics import align_labels, hungarian_accuracy_score
from sklearn_scan.neighbors import choose_metric, mine_neighbors

ROWS = ("digit rows, PCA(40)", "handwriting rows", "photographs")
IMAGES = {
    "digits": data_sets.digits,
    "letters": lambda: data_sets.letters(1500),
    "shapes": lambda: data_sets.shapes(1500),
}


def score(y, labels):
    recalls = recall_score(
        y, align_labels(y, labels), average=None, labels=np.unique(y), zero_division=0
    )
    rarest = np.argsort(np.unique(y, return_counts=True)[1], kind="stable")[:3]
    return {
        "ACC": hungarian_accuracy_score(y, labels),
        "rarest": float(recalls[rarest[0]]),
        "three rarest": float(recalls[rarest].mean()),
        "mean recall": float(recalls.mean()),
    }


# Partitions of the embedding.


def measure_partitions(X, y):
    n = len(np.unique(y))
    rows = X.astype(np.float32)
    K = min(20, len(rows) // (2 * n))
    neighbors = mine_neighbors(rows, K, metric=choose_metric(rows))
    cuts = {"cut": neighbors, "cut of 5": neighbors[:, :5]}
    return {
        name: score(y, labels)
        | {cut: measure_cut(labels, near, n) for cut, near in cuts.items()}
        for name, labels in partition(rows, neighbors, n).items()
    } | {"classes": {cut: measure_cut(y, near, n) for cut, near in cuts.items()}}


def partition(rows, neighbors, n):
    near = neighbors[:, :10]
    wide = embed_graph(near, 2 * n)
    pieces = run_kmeans(wide, 4 * n)
    found = {
        "KMeans": run_kmeans(rows, n),
        "spectral, all neighbours": run_kmeans(embed_graph(neighbors, n), n),
        "spectral, 10 nearest": run_kmeans(embed_graph(near, n), n),
        "spectral, 5 nearest": run_kmeans(embed_graph(neighbors[:, :5], n), n),
    }
    for linkage in ("average", "smaller", "root"):
        found[f"pieces, {linkage}"] = merge_pieces(pieces, make_graph(near), n, linkage)
    leaves = find_leaves(wide, n)
    if leaves is not None:
        found["HDBSCAN"] = merge_pieces(leaves, make_graph(near), n, "average")
    return found


def run_kmeans(rows, n):
    return KMeans(n, n_init=5, random_state=0).fit_predict(rows)


def merge_pieces(labels, graph, n, linkage):
    """Merge pieces while there are more than `n`, those with the densest links first.

    Links are divided by the product of the sizes ("average" linkage), by the smaller
    size, or by the root of the product.
    """
    while (n_pieces := labels.max() + 1) > n:
        member = csr_array((np.ones(len(labels)), (labels, np.arange(len(labels)))))
        links = (member @ graph @ member.T).toarray()
        sizes = np.bincount(labels)
        product = np.outer(sizes, sizes)
        smaller = np.minimum.outer(sizes, sizes)
        per = {"average": product, "smaller": smaller, "root": np.sqrt(product)}
        density = links / per[linkage]
        np.fill_diagonal(density, -1)
        i, j = np.unravel_index(density.argmax(), (n_pieces, n_pieces))
        labels = np.unique(np.where(labels == j, i, labels), return_inverse=True)[1]
    return labels


def find_leaves(rows, n):
    """Return the leaves of HDBSCAN of the largest least size with at least `n`."""
    best = None
    for size in (3, 5, 8, 12, 20, 30, 50, 80):
        leaves = HDBSCAN(
            size, min_samples=min(size, 5), cluster_selection_method="leaf"
        )
        labels = leaves.fit_predict(rows)
        best = labels if labels.max() + 1 >= n else best
    if best is None:
        return None
    known = best >= 0
    nearest = KNeighborsClassifier(1).fit(rows[known], best[known])
    return np.where(known, best, nearest.predict(rows))


# Thresholds per cluster.


class ThresholdPerCluster(ConfidenceLoss):
    """The loss of self-labelling, where each cluster has its own threshold."""

    def __init__(self, thresholds, balanced):
        super().__init__(float(thresholds.max()), balanced)
        self.thresholds = thresholds

    def forward(self, weak, strong):
        limits = self.thresholds[weak.argmax(dim=1)]
        own = mock.patch(
            "sklearn_scan._losses.is_confident",
            lambda confidence, _: confidence > limits,
        )
        with own:
            return super().forward(weak, strong)


def find_thresholds(probabilities, threshold, kind):
    confidence, labels = probabilities.max(dim=1)
    thresholds = torch.full((probabilities.shape[1],), float(threshold))
    for cluster in labels.unique():
        own = confidence[labels == cluster]
        thresholds[cluster] = {
            "largest": threshold * own.max(),
            "mean": threshold * own.mean(),
            "median": own.median().clamp_max(threshold) - 1e-6,
        }[kind]
    return thresholds


def measure_thresholds(X, y, cache):
    clusterer = SCANClustering(
        len(np.unique(y)), keep="last", memory=cache, random_state=0
    )
    rows = {"one": score(y, clusterer.fit_predict(X))}
    for kind in ("largest", "mean", "median"):

        def make(probabilities, threshold, *, balanced, is_guarded, kind=kind):
            found = find_thresholds(probabilities, threshold, kind)
            return ThresholdPerCluster(found, balanced), None

        with mock.patch("sklearn_scan._scan.make_confidence_loss", make):
            rows[kind] = score(y, clusterer.fit_predict(X))
    clusterer.set_params(self_labeling=None)
    return rows | {"none": score(y, clusterer.fit_predict(X))}


# The runs.


def measure(part, name, ratio, shift, options):
    """Return the scores by what was measured."""
    X, y = IMAGES[name]() if name in IMAGES else load(name, 1, options)
    if ratio > 1:
        X, y = imbalance(X, y, ratio, shift)
    if part == "partitions":
        return measure_partitions(X, y)
    if part == "thresholds":
        return measure_thresholds(X, y, options.cache)
    clusterer = SCANClustering(len(np.unique(y)), random_state=0)
    return {"SCANClustering": score(y, clusterer.fit_predict(X))}


def print_results(results):
    """Print the means over the classes that were the rarest."""
    lines = {}
    for row in results:
        lines.setdefault((row["data"], row["ratio"], row["what"]), []).append(row)
    names = ["ACC", "rarest", "three rarest", "mean recall", "cut", "cut of 5"]
    table = []
    for (data, ratio, what), rows in lines.items():
        line = {"data": data, "ratio": ratio, "what": what, "shifts": str(len(rows))}
        for name in names:
            values = [row[name] for row in rows if name in row]
            line[name] = f"{np.mean(values):.3f}" if values else "-"
        table.append(line)
    print_table(table)


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = ("partitions", "fits", "thresholds")
    parser.add_argument("--parts", choices=parts, default="partitions")
    parser.add_argument("--data", nargs="+", choices=(*ROWS, *IMAGES), metavar="NAME")
    parser.add_argument("--photographs", metavar="FILE", help="F and y; 224 pixels")
    parser.add_argument("--ratios", nargs="+", type=int, default=[10, 50])
    parser.add_argument("--shifts", nargs="+", type=int, default=[0, 2, 5, 8])
    parser.add_argument("--cache", metavar="FOLDER", help="where to keep embeddings")
    parser.add_argument("--json", metavar="FILE", help="where to write everything")
    return parser.parse_args(arguments)


def main(arguments=None):
    options = parse(arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    names = options.data or (ROWS if options.photographs else ROWS[:2])
    report = {"run": describe_run(), "results": []}
    print_header(f"Rare classes: {options.parts}", report["run"])
    for name in names:
        for ratio in options.ratios:
            for shift in options.shifts if ratio > 1 else [0]:
                found = measure(options.parts, name, ratio, shift, options)
                for what, row in found.items():
                    key = {"data": name, "ratio": ratio, "shift": shift, "what": what}
                    report["results"].append(key | row)
                    print(json.dumps(key | row), flush=True)
                if options.json:
                    write_json(options.json, report)
    print()
    print_results(report["results"])


if __name__ == "__main__":
    main()
