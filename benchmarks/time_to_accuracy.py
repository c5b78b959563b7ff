# SPDX-License-Identifier: BSD-3-Clause
r"""Seconds to an accuracy: default fits of 5,000 images, before and now, and peers.

    git worktree add before 7f58de6
    python benchmarks/time_to_accuracy.py --before before --data digits letters \
        handwriting cifar10 --cifar10 cifar10.npz --json time_to_accuracy.json
    pip install clustpy umap-learn
    python benchmarks/time_to_accuracy.py --peers --data digits handwriting

Each fit has a process of its own, with the defaults of its commit; those that are
compared take turns, so that a machine whose speed drifts is the same for all. ACC is
`hungarian_accuracy_score` on the samples that were fitted; seconds are those of `fit`,
without imports. "rest" is the share of the fit that is no training step: embedding,
mining, partitions, statistics of batch normalisation, judging, probabilities.

Peers, with their defaults and the number of classes: "UMAP" is UMAP to 10 dimensions
and `KMeans`, "DEC" is that of ClustPy, both on the pixels from 0 to 1.

A file of `--json` is taken up: what it holds is not measured again.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from scan_bench import data_sets
from scan_bench.report import (
    describe_run,
    print_header,
    print_table,
    print_target,
    write_json,
)

N = 5000
DATA = ("digits", "letters", "handwriting", "cifar10")
STAGES = ("pretext", "head_search", "clustering", "self_labeling")
# The share of the time before, and what the mean ACC may lose.
RATIO, LOST = 0.6, 0.003
REST = 0.15


def load(name, options):
    """Return images and classes."""
    if name == "digits":
        return data_sets.digits()
    if name == "letters":
        return data_sets.letters(N)
    if name == "handwriting":
        return data_sets.handwriting()
    return data_sets.cifar10(options.cifar10, N)


# In a process of its own.


def fit(method, X, n_clusters, seed):
    """Return the labels of one method, its seconds, and those of its stages."""
    if method in ("before", "now"):
        return fit_library(X, n_clusters, seed)
    rows = X.reshape(len(X), -1).astype(np.float32)
    rows /= rows.max()
    make = {"UMAP": make_umap, "DEC": make_dec}[method]
    clusterer = make(n_clusters, seed)
    started = time.perf_counter()
    labels = clusterer.fit_predict(rows)
    return labels, time.perf_counter() - started, {}


def fit_library(X, n_clusters, seed):
    from sklearn_scan import SCANClustering

    clusterer = SCANClustering(n_clusters, random_state=seed)
    started = time.perf_counter()
    clusterer.fit(X)
    seconds = time.perf_counter() - started
    history = clusterer.history_
    stages = {s: history[s][-1]["seconds"] for s in STAGES if s in history}
    return clusterer.labels_, seconds, stages


def make_umap(n_clusters, seed):
    from sklearn.cluster import KMeans
    from sklearn.pipeline import make_pipeline
    from umap import UMAP

    kmeans = KMeans(n_clusters, n_init=10, random_state=seed)
    return make_pipeline(UMAP(n_components=10, random_state=seed), kmeans)


def make_dec(n_clusters, seed):
    from clustpy.deep import DEC

    return DEC(n_clusters, random_state=seed)


def run_child(options):
    """Fit once, and print what came of it as JSON."""
    import sklearn_scan
    from sklearn_scan.metrics import hungarian_accuracy_score

    warnings.simplefilter("ignore")
    (name,) = options.data
    X, y = load(name, options)
    labels, seconds, stages = fit(options.child, X, len(np.unique(y)), options.seed)
    record = {"ACC": hungarian_accuracy_score(y, labels), "seconds": seconds}
    imported = Path(sklearn_scan.__file__).parent.parent
    print(json.dumps(record | {"stages": stages, "package": str(imported)}))


# In the process that compares.


def measure(method, name, seed, options):
    """Fit once in a process of its own."""
    root = options.before if method == "before" else Path(__file__).parent.parent
    command = [sys.executable, __file__, "--child", method, "--data", name]
    command += ["--seed", str(seed)]
    if options.cifar10:
        command += ["--cifar10", os.path.abspath(options.cifar10)]
    root = str(Path(root).resolve())
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": root},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    record = json.loads(done.stdout.splitlines()[-1])
    if (imported := record.pop("package")) != root:
        raise RuntimeError(f"{imported} was measured, and not {root}.")
    return record


def find_rest(record):
    """Return the share of a fit that is no training step."""
    return 1 - sum(record["stages"].values()) / record["seconds"]


def describe(name, method, records):
    """Return a row of the table."""
    accuracies = [record["ACC"] for record in records]
    seconds = [record["seconds"] for record in records]
    row = {"data": name, "method": method, "fits": str(len(records))}
    row["ACC"] = f"{np.mean(accuracies):.4f} ± {np.std(accuracies):.4f}"
    row["minimum"] = f"{np.min(accuracies):.4f}"
    row["seconds"] = f"{np.mean(seconds):.1f}"
    if records[0]["stages"]:
        for stage in STAGES:
            spent = np.mean([record["stages"].get(stage, 0) for record in records])
            row[stage] = f"{spent:.1f}"
        row["rest"] = f"{np.mean([find_rest(r) for r in records]):.0%}"
    else:
        row |= dict.fromkeys((*STAGES, "rest"), "-")
    return row


def sum_seconds(records):
    return sum(record["seconds"] for record in records)


def judge(results):
    """Print what was asked for, and whether it is met."""
    targets = []
    for name, found in results.items():
        if "now" not in found:
            continue
        rest = np.mean([find_rest(record) for record in found["now"].values()])
        text = f"{name}: rest {rest:.0%} <= {REST:.0%}"
        targets.append(print_target(text, rest <= REST))
        if "before" not in found:
            continue
        both = [s for s in found["now"] if s in found["before"]]
        pairs = [(found["before"][s], found["now"][s]) for s in both]
        if not pairs:
            continue
        ratio = sum_seconds(now for _, now in pairs)
        ratio /= sum_seconds(before for before, _ in pairs)
        gain = np.mean([b["ACC"] - a["ACC"] for a, b in pairs])
        text = f"{name}: {ratio:.2f} of the time before <= {RATIO}"
        targets.append(print_target(text, ratio <= RATIO))
        text = f"{name}: ACC {gain:+.4f} >= -{LOST}"
        targets.append(print_target(text, gain >= -LOST))
    return targets


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=["handwriting"], choices=DATA)
    parser.add_argument("--cifar10", metavar="PATH", help="see scan_bench/data_sets.py")
    parser.add_argument("--before", metavar="PATH", help="a checkout to compare with")
    parser.add_argument("--peers", action="store_true", help="measure them as well")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--json", metavar="FILE", help="where to write; taken up")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments=None):
    options = parse(arguments)
    if options.child:
        run_child(options)
        return
    results = {}
    if options.json and os.path.exists(options.json):
        with open(options.json) as file:
            results = json.load(file)["fits"]["results"]
    report = {"run": describe_run(), "fits": {"results": results}}
    print_header("Time to accuracy", report["run"])
    methods = ["before"] * bool(options.before) + ["now"]
    methods += ["UMAP", "DEC"] * options.peers
    for name in options.data:
        found = results.setdefault(name, {})
        for seed in map(str, options.seeds):
            for method in methods:
                if seed not in found.setdefault(method, {}):
                    found[method][seed] = measure(method, name, seed, options)
                    if options.json:
                        write_json(options.json, report)
    print()
    print_table(
        [
            describe(name, method, list(records.values()))
            for name, found in results.items()
            for method, records in found.items()
        ]
    )
    print()
    report["fits"]["targets"] = judge(results)
    if options.json:
        write_json(options.json, report)


if __name__ == "__main__":
    main()
