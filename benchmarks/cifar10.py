# SPDX-License-Identifier: BSD-3-Clause
"""The paper's CIFAR-10: fit on the training images, report on the test images.

    python benchmarks/cifar10.py --data cifar10.npz --resume state --minutes 9
    python benchmarks/cifar10.py --data cifar10.npz --resume trial --n 2000 --effort .01

The settings are those of `sklearn_scan.recipes.paper_recipe("cifar10")`. Nothing is
chosen by labels or by test images: the last epoch of every step counts. The paper:
81.8 % after clustering and 87.6 % after self-labelling, means over ten runs that share
one pretext; here every seed trains its own.

After `--minutes` the run stops at the end of an epoch, with status 3, and says how far
it is; the same command goes on from there, and ends as one long run would. The results
stand in the same folder, in ``result-seed0.json``, a few kilobytes. The archive has
X_train, y_train, X_test and y_test.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from scan_bench.paper_setting import score_clusters
from scan_bench.report import Table, describe_run, print_header, write_json
from sklearn.callback import FitCallback

from sklearn_scan.metrics import (
    hungarian_accuracy_score,
    neighbor_purity_score,
    top_k_hungarian_accuracy_score,
)
from sklearn_scan.recipes import paper_recipe

PAPER = {"clustering": 0.818, "self-labelling": 0.876}
NOT_FINISHED = 3


class OutOfTime(Exception):
    """The minutes are spent."""


class Clock(FitCallback):
    """A callback that ends `fit` at the first end of an epoch after the deadline."""

    def __init__(self, deadline):
        self.deadline = deadline

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "epoch" and time.perf_counter() > self.deadline:
            raise OutOfTime


def make_steps(options):
    """Return the clusterer as it is after each step that the paper reports."""
    given = {} if options.encoder is None else {"pretext__encoder": options.encoder}

    def make(**parameters):
        return paper_recipe(
            "cifar10",
            effort=options.effort,
            checkpoint=options.resume,
            device=options.device,
            random_state=options.seed,
            verbose=options.verbose,
            **given,
            **parameters,
        )

    # The second takes the pretext and the clustering of the first from its files.
    return {"clustering": make(self_labeling=None), "self-labelling": make()}


def evaluate(clusterer, X_test, y_test, y_train):
    """Score a fitted clusterer on images that it has not seen."""
    probabilities = clusterer.predict_proba(X_test)
    labels = probabilities.argmax(axis=1)
    return {
        **score_clusters(y_test, labels),
        "top-5": top_k_hungarian_accuracy_score(y_test, probabilities, k=5),
        "train ACC": hungarian_accuracy_score(y_train, clusterer.labels_),
        "purity": neighbor_purity_score(clusterer.neighbors_, y_train),
        "confident": float(np.mean(clusterer.confidence_ > clusterer.threshold)),
    }


def read(path, n):
    """Return training images and classes, the first `n`, and those of the test."""
    with np.load(path) as archive:
        X_train, y_train = archive["X_train"][:n], archive["y_train"][:n].ravel()
        return X_train, y_train, archive["X_test"], archive["y_test"].ravel()


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, metavar="NPZ")
    parser.add_argument("--resume", required=True, metavar="DIR", type=Path)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n", type=int, help="train on the first N images alone")
    parser.add_argument("--effort", type=float, default=1.0, help="share of all epochs")
    parser.add_argument("--encoder", help="another than the recipe's ResNet-18")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--verbose", type=int, default=1)
    return parser.parse_args(arguments)


def main(arguments=None):
    deadline = time.perf_counter()
    options = parse(arguments)
    deadline += 60 * options.minutes
    X_train, y_train, X_test, y_test = read(options.data, options.n)
    options.resume.mkdir(parents=True, exist_ok=True)
    result_file = options.resume / f"result-seed{options.seed}.json"
    results = json.loads(result_file.read_text()) if result_file.exists() else {}
    results["run"] = describe_run(options.device)
    settings = {
        "n_train": len(X_train),
        "n_test": len(X_test),
        "seed": options.seed,
        "effort": options.effort,
        "encoder": options.encoder or "resnet18_cifar",
    }
    if results.setdefault("settings", settings) != settings:
        print(
            f"{result_file} is of other settings: {results['settings']}, and asked for "
            f"are {settings}. Pass another folder to --resume.",
            file=sys.stderr,
        )
        return 2
    steps = results.setdefault("steps", {})
    print_header("CIFAR-10, the recipe of the paper", results["run"])
    for name, clusterer in make_steps(options).items():
        if name in steps:
            continue
        clusterer.set_callbacks(Clock(deadline))
        try:
            clusterer.fit(X_train)
        except OutOfTime:
            stage, records = list(clusterer.history_.items())[-1]
            print(f"Out of time in {stage}, after epoch {len(records)}. Call again.")
            return NOT_FINISHED
        steps[name] = evaluate(clusterer, X_test, y_test, y_train)
        steps[name]["seconds"] = {
            stage: records[-1]["seconds"]
            for stage, records in clusterer.history_.items()
            if records and "seconds" in records[-1]
        }
        write_json(result_file, results)
    print_results(steps)
    return 0


def print_results(steps):
    columns = {"step": "", "paper": ".3f"} | dict.fromkeys(
        ("ACC", "NMI", "ARI", "top-5", "train ACC", "purity", "confident"), ".4f"
    )
    print()
    table = Table(columns)
    for name, row in steps.items():
        table.add({"step": name, "paper": PAPER[name]} | row)
    seconds = list(steps.values())[-1]["seconds"]
    print("\nseconds:", ", ".join(f"{k} {v:.0f}" for k, v in seconds.items()))


if __name__ == "__main__":
    sys.exit(main())
