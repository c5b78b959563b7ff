# SPDX-License-Identifier: BSD-3-Clause
r"""Whether `diagnose` names what was spoiled in a fit, and leaves a good one alone.

    python benchmarks/diagnosing.py --seeds 3 --json diagnosing.json
    python benchmarks/diagnosing.py --embeddings "letters=l.npz" --photographs p.npz ...

Each data set is fitted well, with as many clusters as it has classes, and spoiled in
four ways:

* ``few``: 0.7 times as many clusters, and ``many``: 1.6 times as many;
* ``shuffled``: the neighbours of the good fit are given, in another order;
* ``views`` (of images): ``views="strong"`` in the pretext and after it, which mirrors
  and erases. Digits alone are images here, as the others would take hours.

A spoiled fit is ``named`` if the first finding says so: "split", "merge", "neighbors"
or "views". A good one is if no finding is a problem. The accuracy (ACC) and the classes
are for the table alone.

The thresholds were chosen on those of role "choose". `--embeddings NAME=FILE` adds rows
`Z` with classes `y` of an ``.npz`` file, and `--photographs` rows `F` as
`embed_photographs.py` writes them; of both, 2,000 are taken. A file of `--json` is
taken up: what it holds is not measured again. Fits are cached in `--cache`.
"""

import argparse
import json
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scan_bench import data_sets
from scan_bench.report import describe_run, print_header, print_table, write_json
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from sklearn_scan import SCANClustering, diagnose
from sklearn_scan.metrics import hungarian_accuracy_score
from sklearn_scan.pretext import SimCLR

_MOST_ROWS = 2000
#: What is to be named first.
EXPECTED = {"few": "split", "many": "merge", "shuffled": "neighbors", "views": "views"}


@dataclass(frozen=True)
class Case:
    """A data set.

    Attributes
    ----------
    load : callable
        Returns `X` and `y`.
    role : {"choose", "report"}
        Whether thresholds were chosen on it.
    """

    load: callable
    role: str


def list_cases(options):
    """Return the cases for which there are data, by name."""
    cases = {
        "digits": Case(data_sets.digits, "choose"),
        "digit rows, PCA(40)": Case(load_components, "choose"),
        "digit rows": Case(lambda: load_digits(return_X_y=True), "report"),
        "wine, scaled": Case(lambda: load_scaled(load_wine), "report"),
        "breast cancer, scaled": Case(
            lambda: load_scaled(load_breast_cancer), "report"
        ),
    }
    for entry in options.embeddings:
        name, _, path = entry.partition("=")
        cases[name] = Case(lambda path=path: load_rows(path, "Z"), "report")
    if path := options.photographs:
        cases["photographs"] = Case(lambda: load_rows(path, "F"), "report")
    return cases


def load_components():
    X, y = load_digits(return_X_y=True)
    return PCA(40, random_state=0).fit_transform(X), y


def load_scaled(load):
    X, y = load(return_X_y=True)
    return StandardScaler().fit_transform(X), y


def load_rows(path, name):
    """Return at most 2,000 rows of a file."""
    with np.load(path) as archive:
        X, y = archive[name].astype(np.float32), archive["y"]
    kept = np.random.default_rng(0).permutation(len(X))[:_MOST_ROWS]
    return X[np.sort(kept)], y[np.sort(kept)]


def list_kinds(X, y):
    """Return the ways in which a data set is spoiled, the good one first."""
    kinds = ["good", "few", "many", "shuffled"]
    if len(np.unique(y)) < 3:
        kinds.remove("few")
    return [*kinds, "views"] if X.ndim > 2 else kinds


def fit(kind, X, y, seed, cache):
    """Fit well, or spoil something."""
    n_classes = len(np.unique(y))
    n_clusters = {"few": round(0.7 * n_classes), "many": round(1.6 * n_classes)}
    clusterer = SCANClustering(
        n_clusters.get(kind, n_classes), memory=cache, random_state=seed
    )
    neighbors = None
    if kind == "shuffled":
        neighbors = clusterer.fit(X).neighbors_
        neighbors = np.random.default_rng(seed).permutation(neighbors)
    if kind == "views":
        clusterer.set_params(views="strong", pretext=SimCLR(views="strong"))
    return clusterer.fit(X, neighbors=neighbors)


def measure(kind, X, y, seed, cache):
    """Fit, and return what was found."""
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clusterer = fit(kind, X, y, seed, cache)
    report = diagnose(clusterer, X)
    found = [[each.code, each.severity, each.value] for each in report.findings]
    return {
        "kind": kind,
        "seed": seed,
        "n_clusters": clusterer.n_clusters,
        "ACC": hungarian_accuracy_score(y, clusterer.labels_),
        "findings": found,
        "named": is_named(kind, found),
    }


def is_named(kind, found):
    """Say whether the findings name what was spoiled, or nothing of a good fit."""
    if kind == "good":
        return all(severity != "problem" for _, severity, _ in found)
    return bool(found) and found[0][0] == EXPECTED[kind]


def print_results(cases, results):
    """Print a row per data set: how many fits of each kind were named."""
    rows = []
    for name, case in cases.items():
        if name not in results:
            continue
        row = {"data": name, "role": case.role}
        for kind in ("good", *EXPECTED):
            named = [r["named"] for r in results[name] if r["kind"] == kind]
            row[kind] = f"{sum(named)} of {len(named)}" if named else "-"
        rows.append(row)
    print()
    print_table(rows)


def parse(arguments):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="*", metavar="NAME", help="only these")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--embeddings", nargs="*", default=[], metavar="NAME=FILE")
    parser.add_argument("--photographs", metavar="FILE")
    parser.add_argument("--cache", metavar="FOLDER", help="default: a temporary one")
    parser.add_argument("--json", metavar="FILE")
    return parser.parse_args(arguments)


def main(arguments=None):
    options = parse(arguments)
    cases = list_cases(options)
    results = {}
    if options.json and Path(options.json).exists():
        results = json.loads(Path(options.json).read_text())["results"]
    facts = describe_run("cpu")
    print_header("What was spoiled, and what `diagnose` says", facts)
    with tempfile.TemporaryDirectory() as folder:
        for name in options.data or cases:
            X, y = cases[name].load()
            rows = results.setdefault(name, [])
            known = {(row["kind"], row["seed"]) for row in rows}
            for seed in range(options.seeds):
                for kind in list_kinds(X, y):
                    if (kind, seed) in known:
                        continue
                    rows.append(measure(kind, X, y, seed, options.cache or folder))
                    print(name, rows[-1], flush=True)
                    if options.json:
                        write_json(options.json, {"run": facts, "results": results})
    print_results(cases, results)


if __name__ == "__main__":
    main()
