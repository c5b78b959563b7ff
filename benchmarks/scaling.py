# SPDX-License-Identifier: BSD-3-Clause
"""How time and memory grow with the number of samples.

    python benchmarks/scaling.py --rows 1000 10000 100000 1000000
    python benchmarks/scaling.py --images 1000 4000 16000 --json s.json --plot s.png

One fit per size, with the defaults but for what keeps the sizes comparable: rows have
128 features and `n_heads` is 10; images are 32 x 32 x 3, on the default small network,
and every stage takes one epoch, so that the seconds are those of an epoch. Every fit
runs in a process of its own, whose peak memory is given beyond what it held before the
fit, the samples included.

The exponent of a column is the slope of the logarithm of its figures over that of n,
by least squares: 1 where twice the samples take twice as long. Mining changes its
algorithm at 100,000 rows; its exponents below and above are fitted apart where there
are two sizes on either side.
"""

import argparse
import multiprocessing
import time
from unittest.mock import patch

import numpy as np
from scan_bench.report import (
    current_memory,
    describe_run,
    peak_memory,
    print_header,
    print_table,
    write_json,
)

from sklearn_scan import SCANClustering, TrainingConfig
from sklearn_scan._stages import _mining
from sklearn_scan.neighbors import _MOST_FOR_BRUTE
from sklearn_scan.pretext import SimCLR


def fit_rows(n):
    from scan_bench.speed_rows import make_embedding

    X = make_embedding(n, 128)
    return X, SCANClustering(10, n_heads=10, random_state=0)


def fit_images(n):
    from speed import make_images

    once = TrainingConfig(epochs=1)
    return make_images(n), SCANClustering(
        10,
        pretext=SimCLR(epochs=1),
        clustering=once,
        self_labeling=once,
        keep="last",
        random_state=0,
    )


KINDS = {"rows": fit_rows, "images": fit_images}


def measure(kind, n):
    """Fit once; return seconds per stage, and the peak of the memory in GiB."""
    SCANClustering(2, random_state=0).fit(np.random.default_rng(0).random((50, 4)))
    X, clusterer = KINDS[kind](n)
    mining = []
    mine = _mining.mine_neighbors

    def timed(*args, **kwargs):
        started = time.perf_counter()
        neighbors = mine(*args, **kwargs)
        mining.append(time.perf_counter() - started)
        return neighbors

    before = current_memory()
    started = time.perf_counter()
    with patch.object(_mining, "mine_neighbors", timed):
        clusterer.fit(X)
    seconds = time.perf_counter() - started
    parts = {"mining s": mining[0]}
    for stage, records in clusterer.history_.items():
        if "seconds" in records[-1]:
            parts[f"{stage} s"] = records[-1]["seconds"]
    parts["rest s"] = seconds - sum(parts.values())
    data = X.nbytes / 2**30
    memory = {"data GiB": data, "peak GiB": peak_memory() - before + data}
    return {"n": n, "fit s": seconds} | parts | memory


def measure_apart(kind, n):
    """Measure in a process of its own, whose peak no other fit has raised."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, (kind, n))


def fit_exponents(rows):
    """Return the slope of each column over n, in logarithms."""
    exponents = {"n": "exponent"}
    for name in rows[0]:
        points = [(row["n"], row[name]) for row in rows if row.get(name, 0) > 0.01]
        if name != "n" and len(points) > 1:
            exponents[name] = slope(points)
    return exponents


def mining_exponents(rows):
    sides = {
        f"up to {_MOST_FOR_BRUTE:,}": [r for r in rows if r["n"] <= _MOST_FOR_BRUTE],
        f"above {_MOST_FOR_BRUTE:,}": [r for r in rows if r["n"] > _MOST_FOR_BRUTE],
    }
    return {
        side: slope([(r["n"], r["mining s"]) for r in part])
        for side, part in sides.items()
        if len(part) > 1
    }


def slope(points):
    n, figures = np.log(np.array(points, dtype=float)).T
    return float(np.polyfit(n, figures, 1)[0])


def show(kind, rows):
    """Print a table of sizes with the exponents; return these."""
    exponents = fit_exponents(rows)
    lines = [
        {k: f"{v:,}" if k == "n" else f"{v:.2f}" for k, v in row.items()}
        for row in rows
    ]
    last = {k: v if k == "n" else f"{v:.2f}" for k, v in exponents.items()}
    print(f"\n## {kind}\n")
    print_table([*lines, {name: last.get(name, "-") for name in lines[0]}])
    mining = mining_exponents(rows)
    for side, exponent in mining.items():
        print(f"\nmining, {side}: exponent {exponent:.2f}")
    return exponents | {"mining": mining}


def plot(results, path):
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(results), figsize=(6 * len(results), 4))
    for axis, (kind, rows) in zip(np.atleast_1d(axes), results.items(), strict=True):
        n = [row["n"] for row in rows]
        for name in rows[0]:
            if name.endswith(" s"):
                seconds = [row[name] for row in rows]
                style = {"color": "black", "linewidth": 2} if name == "fit s" else {}
                axis.loglog(n, seconds, "o-", label=name.removesuffix(" s"), **style)
        axis.set(xlabel="samples", ylabel="seconds", title=kind)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sizes = {"nargs": "*", "type": int, "metavar": "N"}
    parser.add_argument("--rows", default=[1000, 10_000, 100_000], **sizes)
    parser.add_argument("--images", default=[1000, 4000], **sizes)
    parser.add_argument("--json", metavar="FILE", help="where to write everything")
    parser.add_argument("--plot", metavar="FILE", help="where to draw a picture")
    options = parser.parse_args()

    facts = describe_run("cpu")
    print_header("Growth", facts)
    report, results = {"run": facts}, {}
    for kind in KINDS:
        for n in sorted(getattr(options, kind)):
            results.setdefault(kind, []).append(measure_apart(kind, n))
            print(f"{kind} {n:,}: {results[kind][-1]['fit s']:.1f} s", flush=True)
            report[kind] = {"sizes": results[kind]}
            if options.json:
                write_json(options.json, report)
    for kind, rows in results.items():
        if len(rows) > 1:
            report[kind]["exponents"] = show(kind, rows)
    if options.json:
        write_json(options.json, report)
    if options.plot and results:
        plot(results, options.plot)


if __name__ == "__main__":
    main()
