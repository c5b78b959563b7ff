# SPDX-License-Identifier: BSD-3-Clause
r"""Many clusters in small batches, and clusters of unequal sizes.

    python benchmarks/imbalance.py --parts batches --json batches.json
    python benchmarks/imbalance.py --parts sizes --photographs lite0.npz \
        --json sizes.json

``batches``: 5,000 rows in 100 groups, in batches of 128 and of 2,048, with the entropy
of a batch alone (as in the paper) and with that of the running marginal. No data set
that a library ships has a hundred classes, so the rows are made: Gaussian groups of 16
dimensions, each with its own spread, bent by a random network of two layers. "wide"
groups overlap more, and served to choose how long the average remembers; "narrow" ones
are reported.

``sizes``: class sizes that fall geometrically from 1 to 1 / ratio. ACC, the recall of
the rarest class and the mean recall of all classes, under the best one-to-one naming of
clusters; the rarest at 50:1 has 3 samples among the digits, 10 in handwriting and 20
among the photographs. "equal" is the plain SCAN loss, "auto" the default, "given" is
told the true sizes, and "guessed" those of a geometric series that falls to a tenth.

A file of `--json` is taken up: what it holds is not measured again.
"""

import argparse
import json
import os
import time
import warnings
from contextlib import contextmanager
from unittest import mock

import numpy as np
import torch
from panel import digit_components, embedded, handwriting_rows, imbalance
from scan_bench.report import describe_run, print_header, print_table, write_json
from sklearn.cluster import KMeans
from sklearn.metrics import recall_score
from sklearn.utils import check_random_state

from sklearn_scan import SCANClustering
from sklearn_scan.metrics import align_labels, hungarian_accuracy_score

N_GROUPS = 100
GROUPS = {"wide": {"spread": 1.5, "seed": 0}, "narrow": {"spread": 1.2, "seed": 1}}
RATIOS = (1, 10, 50)
METHODS = ("KMeans", "equal", "auto", "guessed", "given")


# Many groups.


def bent_groups(spread, seed, n=5000, n_features=64):
    """Return Gaussian groups of 16 dimensions, bent by a random network."""
    random = check_random_state(seed)
    centers = random.normal(size=(N_GROUPS, 16))
    y = random.permutation(np.arange(n) % N_GROUPS)
    noise = random.normal(size=(n, 16)) * random.uniform(0.2, 0.6, (N_GROUPS, 16))[y]
    hidden = np.tanh((centers[y] + spread * noise) @ random.normal(size=(16, 128)) / 3)
    rows = np.tanh(hidden @ random.normal(size=(128, n_features)) / 8)
    return rows.astype(np.float32), y


@contextmanager
def entropy_of(what):
    """Take the entropy of every "batch" alone, or of the "average" over batches."""
    if what == "average":
        yield
        return
    with mock.patch("sklearn_scan._losses.find_momentum", lambda *sizes: 0.0):
        yield


def measure_batches(groups, batch_size, what, seed):
    X, y = bent_groups(**GROUPS[groups])
    clusterer = SCANClustering(
        N_GROUPS, n_heads=4, batch_size=batch_size, random_state=seed
    )
    with entropy_of(what):
        labels = clusterer.fit_predict(X)
    return {"ACC": hungarian_accuracy_score(y, labels)}


def list_batches(options):
    return [
        (groups, batch_size, what, seed)
        for seed in range(options.seeds)
        for groups in GROUPS
        for batch_size in (128, 512, 2048)
        for what in ("batch", "average")
    ]


# Unequal sizes.


def load(name, ratio, options):
    X, y = {
        "digit rows, PCA(40)": digit_components,
        "handwriting rows": handwriting_rows,
        "photographs": lambda: embedded(options.photographs),
    }[name]()
    return (X, y) if ratio == 1 else imbalance(X, y, ratio)


def measure_sizes(name, ratio, method, seed, options):
    X, y = load(name, ratio, options)
    sizes = np.unique(y, return_counts=True)[1]
    n_clusters = len(sizes)
    if method == "KMeans":
        clusterer = KMeans(n_clusters, n_init=10, random_state=seed)
    else:
        guess = 10 ** -np.linspace(0, 1, n_clusters)
        known = {"given": sizes, "guessed": guess}
        clusterer = SCANClustering(
            n_clusters, cluster_sizes=known.get(method, method), random_state=seed
        )
    return score(y, clusterer.fit_predict(X))


def score(y, labels):
    recalls = recall_score(
        y, align_labels(y, labels), average=None, labels=np.unique(y), zero_division=0
    )
    sizes = np.unique(y, return_counts=True)[1]
    return {
        "ACC": hungarian_accuracy_score(y, labels),
        "rarest": float(recalls[sizes.argmin()]),
        "mean recall": float(recalls.mean()),
    }


def list_sizes(options):
    names = ["digit rows, PCA(40)", "handwriting rows"]
    names += ["photographs"] * bool(options.photographs)
    return [
        (name, ratio, method, seed)
        for seed in range(options.seeds)
        for name in names
        for ratio in RATIOS
        for method in METHODS
    ]


# The runs.


def run(part, options, results):
    """Measure what `results` lacks of a part, and add it there."""
    jobs = list_batches(options) if part == "batches" else list_sizes(options)
    for job in jobs:
        key = ", ".join(map(str, job))
        if key in results or not all(word in key for word in options.only):
            continue
        started = time.perf_counter()
        if part == "batches":
            row = measure_batches(*job)
        else:
            row = measure_sizes(*job, options)
        results[key] = row | {"seconds": time.perf_counter() - started}
        print(key, json.dumps(results[key]), flush=True)
        yield


def print_results(results):
    """Print the means over seeds."""
    lines = {}
    for key, row in results.items():
        lines.setdefault(key.rpartition(", ")[0], []).append(row)
    table = [
        {"what": what, "seeds": str(len(rows))}
        | {k: f"{np.mean([row[k] for row in rows]):.4f}" for k in rows[0]}
        for what, rows in lines.items()
    ]
    print_table(table)


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", choices=("batches", "sizes"), default="sizes")
    parser.add_argument("--photographs", metavar="FILE", help="F and y; 224 pixels")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[], help="runs with these words")
    parser.add_argument("--json", metavar="FILE", help="where to write; taken up")
    return parser.parse_args(arguments)


def main(arguments=None):
    options = parse(arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    report = {"run": describe_run(), "results": {}}
    if options.json and os.path.exists(options.json):
        with open(options.json) as file:
            report["results"] = json.load(file)["results"]
    print_header(f"Imbalance: {options.parts}", report["run"])
    for _ in run(options.parts, options, report["results"]):
        if options.json:
            write_json(options.json, report)
    print()
    print_results(report["results"])


if __name__ == "__main__":
    main()
