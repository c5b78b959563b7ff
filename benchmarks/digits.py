# SPDX-License-Identifier: BSD-3-Clause
"""How well `SCANClustering` clusters with its defaults, and how long it takes.

    python benchmarks/digits.py --seeds 5 --data digits vectors letters shapes
    python benchmarks/digits.py --data cifar10 --cifar10 cifar10.npz --json cifar10.json
    python benchmarks/digits.py --data --generalise

One Markdown table per data set, one row per seed. ACC is `hungarian_accuracy_score`:

* ``pixels``, ``embedding``: ACC of KMeans (n_init=10) on the samples as rows, and on
  `embedding_`, which for vectors are the same rows;
* ``head_search``, ``clustering``, ``self-labelling``: ACC after each step, the last
  being that of `labels_`; vectors have the first step alone;
* ``NMI``, ``ARI``: of `labels_`; ``purity``: of `neighbors_`;
* ``... s``: seconds of the stages, of the rest (mining, views, judging) and of the fit.

Only the fit that gives `labels_` is timed; it has no cache. The accuracies of earlier
steps come from two more fits that share a cached pretext. Every stage has a seed of its
own, so on a CPU they repeat the steps of the timed fit to the bit; the script compares
the embeddings and says where they differ.

`--generalise` fits on a stratified 70 % of the digits and predicts the rest. Each part
is scored with its own matching of clusters to classes.
"""

import argparse
import tempfile
import time
from dataclasses import dataclass, field

import numpy as np
from scan_bench import data_sets
from scan_bench.report import (
    Table,
    describe_run,
    print_header,
    print_target,
    write_json,
)
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.model_selection import train_test_split

from sklearn_scan import SCANClustering
from sklearn_scan.metrics import hungarian_accuracy_score, neighbor_purity_score

STAGES = ("pretext", "head_search", "clustering", "self_labeling")
SCORES = ("purity", "pixels", "embedding", "head_search", "clustering")
SCORES += ("self-labelling", "NMI", "ARI")
TIMES = (*(f"{stage} s" for stage in STAGES), "rest s", "fit s")
COLUMNS = {"seed": "d"} | dict.fromkeys(SCORES, ".4f") | dict.fromkeys(TIMES, ".1f")


@dataclass(frozen=True)
class Case:
    """A data set, and the parameters by which it departs from the defaults."""

    load: callable
    parameters: dict = field(default_factory=dict)


def digits_as_rows():
    X, y = data_sets.digits()
    return X.reshape(len(X), -1), y


def list_cases(cifar10_path):
    return {
        "digits": Case(data_sets.digits),
        "rows": Case(digits_as_rows, {"image_shape": (8, 8)}),
        "vectors": Case(data_sets.digit_rows),
        "letters": Case(data_sets.letters),
        "shapes": Case(data_sets.shapes),
        "cifar10": Case(lambda: data_sets.cifar10(cifar10_path)),
    }


# One fit.


def measure(X, y, clusterer):
    """Fit a clusterer of some seed; return a row of the table."""
    started = time.perf_counter()
    clusterer.fit(X)
    seconds = time.perf_counter() - started

    accuracy = hungarian_accuracy_score(y, clusterer.labels_)
    seed = clusterer.random_state
    row = {
        "seed": seed,
        "purity": neighbor_purity_score(clusterer.neighbors_, y),
        "pixels": kmeans_accuracy(X.reshape(len(X), -1), y, seed),
        "embedding": kmeans_accuracy(clusterer.embedding_, y, seed),
        "NMI": normalized_mutual_info_score(y, clusterer.labels_),
        "ARI": adjusted_rand_score(y, clusterer.labels_),
        "accuracy": accuracy,
    }
    if "clustering" in clusterer.history_:
        row |= measure_steps(X, y, clusterer) | {"self-labelling": accuracy}
    else:
        row["head_search"] = accuracy
    row |= measure_times(clusterer.history_, seconds)
    return row | {"stages": keep_last(clusterer.history_)}


def keep_last(history):
    """Return the last record of every stage, and how each result was chosen."""
    return {
        stage: records if stage == "selection" else records[-1:]
        for stage, records in history.items()
    }


def kmeans_accuracy(rows, y, seed):
    kmeans = KMeans(len(np.unique(y)), n_init=10, random_state=seed)
    return hungarian_accuracy_score(y, kmeans.fit_predict(rows))


def measure_steps(X, y, clusterer):
    """Fit twice more, without the later steps, for the accuracy of the earlier ones."""
    shortened = {
        "head_search": {"clustering": None, "self_labeling": None},
        "clustering": {"self_labeling": None},
    }
    row = {"repeated": True}
    with tempfile.TemporaryDirectory() as cache:
        for step, epochs in shortened.items():
            partial = clone(clusterer).set_params(memory=cache, **epochs).fit(X)
            row[step] = hungarian_accuracy_score(y, partial.labels_)
            same = np.array_equal(partial.embedding_, clusterer.embedding_)
            row["repeated"] = row["repeated"] and bool(same)
    return row


def measure_times(history, seconds):
    times = {
        f"{stage} s": history[stage][-1]["seconds"]
        for stage in STAGES
        if history.get(stage)
    }
    return times | {"rest s": seconds - sum(times.values()), "fit s": seconds}


# One data set.


def run_case(name, case, options, save):
    """Print the table, the summary and the targets of a data set; return the same."""
    X, y = case.load()
    n_clusters = len(np.unique(y))
    print(f"\n## {name}: X {X.dtype} {X.shape}, {n_clusters} classes\n", flush=True)
    table, rows = Table(COLUMNS), []
    for seed in range(options.seeds):
        clusterer = SCANClustering(
            n_clusters, device=options.device, random_state=seed, **case.parameters
        )
        rows.append(measure(X, y, clusterer))
        table.add(rows[-1])
        save({"rows": rows})
    summary = summarize(rows, table)
    print()
    notes = [row["seed"] for row in rows if not row.get("repeated", True)]
    if notes:
        print(f"Accuracies of earlier steps are of other pretexts for seeds {notes}.\n")
    targets = judge(name, rows)
    if options.fine:
        print_stages(rows)
    save({"rows": rows, "summary": summary, "targets": targets})


def summarize(rows, table):
    """Append the mean, the deviation and the minimum over seeds to the table."""
    statistics = {"mean": np.mean, "std": np.std, "min": np.min}
    # A stage may be left out for some seeds; its times are of the others.
    columns = {
        key: [row[key] for row in rows if key in row]
        for key in (*SCORES, *TIMES, "accuracy")
    }
    summary = {}
    for name, statistic in statistics.items():
        summary[name] = {
            key: float(statistic(values)) for key, values in columns.items() if values
        }
        table.add({"seed": name} | summary[name])
    return summary


def judge(name, rows):
    """Compare accuracies and times of a data set with what was asked for."""
    accuracies = [row["accuracy"] for row in rows]
    mean, lowest = np.mean(accuracies), np.min(accuracies)
    if name == "digits":
        slowest = max(row["fit s"] for row in rows)
        return [
            print_target(f"mean ACC {mean:.4f} >= 0.985", mean >= 0.985),
            print_target(f"lowest ACC {lowest:.4f} >= 0.97", lowest >= 0.97),
            print_target(f"slowest fit {slowest:.1f} s <= 90 s", slowest <= 90),
        ]
    baseline = np.mean([row["pixels"] for row in rows])
    if name == "vectors":
        text = f"mean ACC {mean:.4f} >= KMeans on the same rows {baseline:.4f} + 0.05"
        return [print_target(text, mean >= baseline + 0.05)]
    text = f"mean ACC {mean:.4f} > KMeans on pixels {baseline:.4f}"
    return [print_target(text, mean > baseline)]


def print_stages(rows):
    """Print the last record of every stage, and by what loss results were chosen."""
    for row in rows:
        print(f"\nseed {row['seed']}")
        for stage, records in row["stages"].items():
            for record in records:
                numbers = ", ".join(
                    f"{key} {value:.4g}" if isinstance(value, float) else f"{value}"
                    for key, value in record.items()
                )
                print(f"- {stage}: {numbers}")


# Samples that were not seen in fit.


def run_generalise(options, save):
    """Print the accuracy on seen and on unseen digits; return the rows."""
    X, y = data_sets.digits()
    print("\n## generalise: digits, 70 % seen and 30 % unseen\n", flush=True)
    table = Table({"seed": "d"} | dict.fromkeys(("seen", "unseen", "lost"), ".4f"))
    rows = []
    for seed in range(options.seeds):
        X_seen, X_unseen, y_seen, y_unseen = train_test_split(
            X, y, test_size=0.3, stratify=y, random_state=seed
        )
        clusterer = SCANClustering(10, device=options.device, random_state=seed)
        seen = hungarian_accuracy_score(y_seen, clusterer.fit(X_seen).labels_)
        unseen = hungarian_accuracy_score(y_unseen, clusterer.predict(X_unseen))
        row = {"seed": seed, "seen": seen, "unseen": unseen, "lost": seen - unseen}
        rows.append(row)
        table.add(row)
        save({"rows": rows})
    lost = max(row["lost"] for row in rows)
    print()
    target = print_target(f"largest loss of ACC {lost:.4f} <= 0.02", lost <= 0.02)
    save({"rows": rows, "targets": [target]})


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = list(list_cases(None))
    parser.add_argument("--seeds", type=int, default=5, help="fits per data set")
    parser.add_argument(
        "--data", nargs="*", choices=names, default=["digits", "vectors"]
    )
    parser.add_argument(
        "--cifar10",
        metavar="PATH",
        help="an .npz file or a folder; see scan_bench/data_sets.py",
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", metavar="FILE", help="where to write everything")
    parser.add_argument(
        "--fine", action="store_true", help="print the end of every stage of every fit"
    )
    parser.add_argument(
        "--generalise", action="store_true", help="predict unseen digits, too"
    )
    options = parser.parse_args(arguments)
    if "cifar10" in options.data and options.cifar10 is None:
        parser.error("--data cifar10 needs --cifar10 PATH")
    if options.seeds < 1:
        parser.error("--seeds must be at least 1")
    return options


def main(arguments=None):
    options = parse(arguments)
    report = {"run": describe_run(options.device), "results": {}}

    def save_as(name):
        def save(result):
            report["results"][name] = result
            if options.json:
                write_json(options.json, report)

        return save

    print_header("SCANClustering with its defaults", report["run"])
    for name in options.data:
        case = list_cases(options.cifar10)[name]
        run_case(name, case, options, save_as(name))
    if options.generalise:
        run_generalise(options, save_as("generalise"))


if __name__ == "__main__":
    main()
