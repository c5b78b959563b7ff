# SPDX-License-Identifier: BSD-3-Clause
r"""How many clusters there are: routes to the number, compared on labelled sets.

    pip install evoc
    python benchmarks/n_clusters.py --cifar10 cifar10.npz --photographs lite0.npz \
        --small-photographs small.npz --embeddings embeddings --json n_clusters.json

Every route is given the same embedding of each set, computed once: that of `SimCLR`
for images, rows as they are, of at most 2,000 samples at random. No route is told the
number of classes, which judges it: right is within one of up to ten classes, and within
a tenth of more.

The routes:

- ``ours``: `estimate_n_clusters`, which is what ``n_clusters="auto"`` takes; beside it
  its ``interval``, and whether it calls itself doubtful.
- ``median``: of its three votes, of which it is the first.
- ``modularity`` and ``silhouette``: the two that this vote is made of, each alone.
- ``stability``: the largest number whose prediction strength (Tibshirani and Walther,
  2005) between parts and all is above 0.8, of partitions of the graph of neighbours.
- ``eigengap``: the largest gap between eigenvalues of that graph.
- ``merging``: 40 clusters of that graph, of which the two with the most links, beside
  what would be expected by chance, are merged for as long as there are 0.3 of it.
- ``KMeans``: the largest silhouette of `KMeans`, as in textbooks.
- ``HDBSCAN`` and ``EVoC``: with their defaults; ``HDBSCAN 1 %`` with clusters of at
  least a hundredth of the samples.

The sets of role "choose" were looked at while the rule was made, those of role "report"
were not; but what routes say of them was known before its doubt was made. Those of role
"fresh" were added afterwards. Beside the sets of `panel.py` there
are some of their classes, drawn at random; all 26 letters; irises; moons; and blobs. A
file of `--json` is taken up: routes that it holds of a set are not measured again.
`--data` measures some sets alone.
"""

import argparse
import json
import os
import string
import time
import warnings
from functools import cached_property, partial
from operator import itemgetter
from pathlib import Path

import numpy as np
import panel
import torch
from scan_bench import data_sets
from scan_bench.report import (
    describe_run,
    print_header,
    print_table,
    print_target,
    write_json,
)
from scipy.sparse import diags_array
from scipy.sparse.linalg import eigsh
from sklearn.cluster import HDBSCAN
from sklearn.datasets import load_iris, make_blobs, make_moons
from sklearn.metrics import silhouette_score
from threadpoolctl import threadpool_limits

from sklearn_scan._stages._counting import N_PARTS
from sklearn_scan._stages._partitions import run_kmeans
from sklearn_scan._stages._trials import list_numbers, try_numbers, weigh_graph
from sklearn_scan.model_selection import NumberOfClusters
from sklearn_scan.neighbors import choose_metric, mine_neighbors
from sklearn_scan.pretext import SimCLR

MOST_SAMPLES, N_DRAWN, K = 2000, 1500, 20
STRENGTH, LINKED = 0.8, 0.3

ROLES = ("fresh", "report", "choose")

# Some classes of a set, so that not every number is ten: how many, the seed by which
# they are drawn, and the role.
SUBSETS = (
    ("digits", 5, 0, "choose"),
    ("photographs", 5, 0, "choose"),
    ("letters", 5, 0, "choose"),
    ("handwriting", 5, 0, "report"),
    ("small photographs", 5, 0, "report"),
    ("digit rows, scaled", 5, 0, "report"),
    ("handwriting", 3, 1, "fresh"),
    ("handwriting", 7, 2, "fresh"),
    ("handwriting rows", 3, 3, "fresh"),
    ("handwriting rows", 7, 4, "fresh"),
    ("CIFAR-10", 3, 5, "fresh"),
    ("CIFAR-10", 7, 6, "fresh"),
    ("small photographs", 3, 7, "fresh"),
    ("small photographs", 7, 8, "fresh"),
    ("photographs 10:1", 3, 9, "fresh"),
    ("photographs 10:1", 7, 10, "fresh"),
    ("digit rows, scaled", 3, 11, "fresh"),
    ("digit rows, scaled", 7, 12, "fresh"),
    ("letters, all 26", 7, 13, "fresh"),
    ("letters, all 26", 15, 14, "fresh"),
)
WORDS = {3: "three", 5: "five", 7: "seven", 15: "fifteen"}


# The data sets.


def list_cases(options):
    """Return the cases for which there are data, by name."""
    return panel.list_cases(options) | {
        "letters, all 26": panel.Case(
            partial(data_sets.letters, 2600, alphabet=string.ascii_uppercase), "report"
        ),
        "iris, scaled": panel.Case(lambda: panel.scaled(load_iris), "report"),
        "26 blobs": panel.Case(blobs, "report"),
        "iris": panel.Case(lambda: load_iris(return_X_y=True), "fresh"),
        "2 moons": panel.Case(moons, "fresh"),
        "4 blobs": panel.Case(partial(blobs, 4, 5, cluster_std=3), "fresh"),
        "12 blobs": panel.Case(partial(blobs, 12, 10, cluster_std=3), "fresh"),
        "33 blobs": panel.Case(partial(blobs, 33, 30), "fresh"),
    }


def blobs(n_groups=26, n_features=20, cluster_std=3.5):
    """Return groups of different sizes that overlap a little."""
    sizes = np.random.default_rng(0).integers(40, 160, n_groups)
    return make_blobs(sizes, n_features, cluster_std=cluster_std, random_state=0)


def moons():
    """Return two groups that are bent around each other, in four dimensions."""
    X, y = make_moons(600, noise=0.08, random_state=0)
    # EVoC wants more than two.
    others = np.random.default_rng(0).normal(scale=0.08, size=(600, 2))
    return np.hstack([X, others]), y


def embed(name, case, folder):
    """Return the embedding, the classes, and whether it was trained on the samples."""
    file = Path(folder, f"{slug(name)}-0.npz")
    if file.exists():
        with np.load(file) as archive:
            return archive["Z"], archive["y"].astype(int), bool(archive["learned"])
    X, y = case.load()
    is_learned = X.ndim > 2
    rows = SimCLR(random_state=0).fit_transform(X) if is_learned else X
    rows = rows.astype(np.float32)
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, Z=rows, y=y, learned=is_learned)
    return rows, y.astype(int), is_learned


def slug(name):
    return name.replace(", ", "_").replace(" ", "_").replace(":", "to")


def take_classes(rows, y, n_classes, seed):
    """Return the samples of some classes, drawn at random."""
    random = np.random.default_rng(seed)
    is_kept = np.isin(y, random.choice(np.unique(y), n_classes, replace=False))
    return rows[is_kept], y[is_kept]


# The routes.


class Space:
    """An embedding, and what several routes take from it."""

    def __init__(self, rows, is_learned):
        self.rows = rows
        self.metric = "cosine" if is_learned else choose_metric(rows)
        if self.metric == "cosine":
            rows = rows if is_learned else rows - rows.mean(axis=0)
            rows = rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)
        #: At these, Euclidean distances are the right ones.
        self.points = rows
        self.numbers = list_numbers(len(rows))
        self.random = np.random.default_rng(0)
        self.part = draw(self.random, len(rows), min(N_DRAWN, len(rows)))

    @cached_property
    def graph(self):
        return make_graph(self.points[self.part])

    @cached_property
    def partitions(self):
        leading = find_leading(self.graph, int(self.numbers.max()))[1]
        return {k: partition(leading, k) for k in self.numbers.tolist()}


def draw(random, n_samples, n_drawn):
    return np.sort(random.choice(n_samples, n_drawn, replace=False))


def make_graph(rows):
    n_neighbors = min(K, max(3, len(rows) // 20))
    return weigh_graph(mine_neighbors(rows, n_neighbors, metric="euclidean"))


def find_leading(graph, n_vectors):
    """Return eigenvalues and eigenvectors of a graph, the leading ones last."""
    degrees = np.asarray(graph.sum(axis=1)).ravel()
    scale = diags_array(1 / np.sqrt(degrees.clip(1e-12)))
    start = np.random.default_rng(0).normal(size=len(degrees))
    values, vectors = eigsh(scale @ graph @ scale, n_vectors, v0=start, tol=1e-6)
    order = values.argsort()
    return values[order], vectors[:, order]


def partition(leading, n_clusters):
    vectors = leading[:, -n_clusters:]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
    return run_kmeans(vectors / lengths, n_clusters, n_init=2, seed=0)


def ours(space):
    """Return the estimate, with what it is made of."""
    curves = try_numbers(
        space.points, "euclidean", space.numbers, N_PARTS, N_DRAWN, seed=0
    )
    return NumberOfClusters(space.numbers, **curves)


def eigengap(space):
    values, _ = find_leading(space.graph, int(space.numbers.max()) + 1)
    gaps = values[::-1][:-1] - values[::-1][1:]
    return 2 + int(gaps[1:].argmax())


def stability(space):
    some, most = space.points[space.part], int(space.numbers.max())
    halves = [draw(space.random, len(some), int(0.7 * len(some))) for _ in range(2)]
    halves = [(half, find_leading(make_graph(some[half]), most)[1]) for half in halves]
    stable = [2]
    for number, labels in space.partitions.items():
        strengths = [
            measure_strength(labels[half], partition(leading, number), number)
            for half, leading in halves
        ]
        if np.mean(strengths) > STRENGTH:
            stable.append(number)
    return max(stable)


def measure_strength(labels, found, n_clusters):
    """Return, of the least stable cluster, how many pairs stay together."""
    counts = np.zeros((n_clusters, n_clusters))
    np.add.at(counts, (found, labels), 1)
    sizes = counts.sum(axis=0)
    n_pairs = sizes * (sizes - 1)
    n_kept = (counts**2).sum(axis=0) - sizes
    return np.where(n_pairs > 0, n_kept / n_pairs.clip(1), 1).min()


def merging(space):
    number = int(space.numbers.max())
    members = np.eye(number)[space.partitions[number]]
    links = members.T @ (space.graph @ members)
    while len(links) > 1:
        volumes = links.sum(axis=1)
        ratios = links * volumes.sum() / np.outer(volumes, volumes).clip(1e-12)
        np.fill_diagonal(ratios, -1)
        if ratios.max() < LINKED:
            break
        one, other = np.unravel_index(ratios.argmax(), ratios.shape)
        join = np.eye(len(links))
        join[other, one] = 1
        join = np.delete(join, other, axis=1)
        links = join.T @ links @ join
    return len(links)


def kmeans(space):
    points, numbers = space.points[space.part], space.numbers
    scores = [
        silhouette_score(points, run_kmeans(points, number, n_init=2, seed=0))
        for number in numbers.tolist()
    ]
    return int(numbers[np.argmax(scores)])


def hdbscan(space, share=None):
    least = 5 if share is None else max(5, int(share * len(space.points)))
    return count(HDBSCAN(min_cluster_size=least, copy=True).fit_predict(space.points))


def evoc(space):
    from evoc import EVoC

    # It wants float32 rows, and compares directions.
    return count(EVoC(random_state=0).fit_predict(space.points.astype(np.float32)))


def count(labels):
    return len(set(labels[labels >= 0].tolist()))


ROUTES = {
    "stability": stability,
    "eigengap": eigengap,
    "merging": merging,
    "KMeans": kmeans,
    "HDBSCAN": hdbscan,
    "HDBSCAN 1 %": partial(hdbscan, share=0.01),
    "EVoC": evoc,
}


def measure(rows, y, is_learned, known):
    """Return what every route says of an embedding, beside what is known."""
    if len(rows) > MOST_SAMPLES:
        some = draw(np.random.default_rng(0), len(rows), MOST_SAMPLES)
        rows, y = rows[some], y[some]
    space = Space(rows, is_learned)
    found = {"classes": len(np.unique(y)), "n": len(rows)} | known
    if "ours" not in found:
        found |= estimate(space)
    missing = [name for name in ROUTES if name not in found]
    return found | {name: int(ROUTES[name](space)) for name in missing}


def estimate(space):
    """Return the estimate, and what can be said of it."""
    started = time.perf_counter(), time.process_time()
    found = ours(space)
    ended = time.perf_counter(), time.process_time()
    records = found.list_records()
    highest = {
        name: max(records, key=itemgetter(name))[name] * (1 - tolerance)
        for name, tolerance in (("silhouette", 0.04), ("modularity", 0))
    }
    return {
        "seconds": ended[0] - started[0],
        "seconds_cpu": ended[1] - started[1],
        "ours": found.n_clusters,
        "votes": found.votes,
        "criterion": found.criterion,
        "interval": list(found.interval),
        "doubtful": found.is_doubtful,
        "records": records,
        "median": sorted(found.votes.values())[1],
    } | {
        name: next(each["n_clusters"] for each in records if each[name] >= least)
        for name, least in highest.items()
    }


# The tables.


def is_right(found, n_classes):
    """Return whether a number is within one, or within a tenth of more than ten."""
    return abs(found - n_classes) <= max(1, n_classes / 10 if n_classes > 10 else 1)


COLUMNS = ("ours", "median", "silhouette", "modularity", *ROUTES)


def print_results(results):
    for role in ROLES:
        chosen = {k: row for k, row in results.items() if row["role"] == role}
        if not chosen:
            continue
        print(f"\nRole: {role}\n")
        table = [describe(name, row) for name, row in chosen.items()]
        rights = {
            c: sum(is_right(r[c], r["classes"]) for r in chosen.values())
            for c in COLUMNS
        }
        total = {"data": "right", "classes": f"of {len(chosen)}", "n": ""}
        total |= {c: str(rights[c]) for c in COLUMNS} | {"interval": "", "doubtful": ""}
        print_table([*table, total])


def describe(name, row):
    line = {"data": name, "classes": str(row["classes"]), "n": f"{row['n']:,}"}
    for column in COLUMNS:
        is_good = is_right(row[column], row["classes"])
        line[column] = f"**{row[column]}**" if is_good else str(row[column])
    low, high = row["interval"]
    return line | {
        "interval": f"{low} to {high}",
        "doubtful": "yes" if row["doubtful"] else "no",
    }


def judge(results):
    """Print what was asked for, and whether it is met, where nothing was chosen."""
    targets = []
    for role in ("fresh", "report"):
        rows = [row for row in results.values() if row["role"] == role]
        if not rows:
            continue
        n_right = sum(is_right(row["ours"], row["classes"]) for row in rows)
        text = f"right on three quarters of the sets: {role}, {n_right} of {len(rows)}"
        targets.append(print_target(text, n_right >= 0.75 * len(rows)))
    return targets


def list_jobs(options):
    """Return what loads each set, and its role, by name; those that chose last."""
    cases = list_cases(options)
    jobs = {
        name: (partial(embed, name, case, options.embeddings), case.role)
        for name, case in cases.items()
    }
    for name, n_classes, seed, role in SUBSETS:
        if name in cases:
            load = partial(load_subset, jobs[name][0], n_classes, seed)
            jobs[f"{name}, {WORDS[n_classes]} classes"] = load, role
    return dict(sorted(jobs.items(), key=lambda job: ROLES.index(job[1][1])))


def load_subset(load, n_classes, seed):
    rows, y, is_learned = load()
    return *take_classes(rows, y, n_classes, seed), is_learned


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cifar10", metavar="PATH", help="see scan_bench/data_sets.py")
    parser.add_argument("--photographs", metavar="FILE", help="F and y; 224 pixels")
    parser.add_argument("--small-photographs", metavar="FILE", help="the same; 64")
    parser.add_argument("--data", nargs="+", metavar="NAME", help="these sets alone")
    parser.add_argument(
        "--seconds", type=float, default=np.inf, help="begin no set after so many"
    )
    parser.add_argument(
        "--embeddings", metavar="FOLDER", default="embeddings", help="are kept there"
    )
    parser.add_argument(
        "--json", metavar="FILE", help="where to write everything; taken up if there"
    )
    return parser.parse_args(arguments)


def main(arguments=None):
    options = parse(arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    results = {}
    if options.json and os.path.exists(options.json):
        with open(options.json) as file:
            results = json.load(file)["results"]
    report = {"run": describe_run(), "results": results}
    print_header("The number of clusters", report["run"])
    started = time.perf_counter()
    for name, (load, role) in list_jobs(options).items():
        known = results.get(name, {})
        if "votes" not in known:  # of an older library
            known = {k: row for k, row in known.items() if k not in ("ours", "median")}
        is_wanted = name in (options.data or [name]) and not set(COLUMNS) <= set(known)
        if not is_wanted or time.perf_counter() - started > options.seconds:
            continue
        # EVoC takes all threads for itself, and leaves OpenMP with them.
        with threadpool_limits(1):
            results[name] = {"role": role} | measure(*load(), known)
        print(name, {c: results[name][c] for c in ("classes", *COLUMNS)}, flush=True)
        if options.json:
            write_json(options.json, report)
    print_results(results)
    report["targets"] = judge(results)
    if options.json:
        write_json(options.json, report)


if __name__ == "__main__":
    main()
