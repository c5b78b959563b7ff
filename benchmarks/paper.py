# SPDX-License-Identifier: BSD-3-Clause
"""The tables and figures of the SCAN paper, each from one command.

    python benchmarks/paper.py --table ablation --data digits --seeds 3
    python benchmarks/paper.py --table neighbors --data cifar10.npz --n 5000 \
--budget 120 --cache cache --json neighbors.json

* ``ablation``: Table 1, what each step adds;
* ``pretext``: Table 2, SCAN after each pretext task;
* ``comparison``: Table 3, other clusterings, on images that were not seen;
* ``neighbors``: Figure 7, the number of neighbours;
* ``oracle``: Figure 8, what false neighbours cost (this one uses labels on purpose);
* ``overcluster``: more clusters than classes;
* ``selflabel``: Figure 6, self-labelling epoch by epoch.

Scores are in percent, mean ± standard deviation over seeds, and ``lowest`` is the worst
seed's ACC (`hungarian_accuracy_score`). Except in ``comparison``, the images that are
clustered are those that are scored. ``s`` is the seconds of one fit with its pretext.
A pretext is trained once per seed, and kept in `--cache`.

What is done is written to `--json` after every fit, as fractions of one, and the
figures are drawn to `--plot` at the end. When `--budget` minutes are spent, no new fit
is begun.
"""

import argparse
import shlex
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import numpy as np
from scan_bench.paper_figures import Neighbors, Oracle, SelfLabeling
from scan_bench.paper_setting import Setting, load
from scan_bench.paper_tables import (
    PERCENT,
    Ablation,
    Comparison,
    Overclustering,
    PretextTasks,
)
from scan_bench.published import LEGEND, find_published
from scan_bench.report import describe_run, print_header, print_table, write_json

TABLES = {
    "ablation": Ablation(),
    "pretext": PretextTasks(),
    "comparison": Comparison(),
    "neighbors": Neighbors(),
    "oracle": Oracle(),
    "overcluster": Overclustering(),
    "selflabel": SelfLabeling(),
}
PLOTTED = ("neighbors", "oracle", "selflabel")


def as_is(estimator):
    return estimator


def run_table(
    name,
    setting,
    *,
    names=(),
    budget=float("inf"),
    prepare=as_is,
    save=lambda r: None,
):
    """Fit all rows of a table, seed by seed, and return the report.

    Parameters
    ----------
    name : str
        A key of `TABLES`.
    setting : Setting
        Data and estimators.
    names : sequence of str, default=()
        Names of the rows to fit; empty for all.
    budget : float, default=inf
        Seconds after which no new fit is begun.
    prepare : callable
        Given every estimator before it is fitted; tests shorten the training here.
    save : callable
        Given the report after every fit.
    """
    deadline = time.monotonic() + budget
    table = TABLES[name]
    report = {"table": name, "fits": [], "missing": [], "summary": {}}
    for seed in range(setting.n_seeds):
        rows = table.rows(setting, seed)
        if unknown := set(names) - set(rows):
            raise ValueError(f"There are no rows {unknown}; there are {list(rows)}.")
        for row, estimator in rows.items():
            if names and row not in names:
                continue
            if time.monotonic() >= deadline:
                report["missing"].append({"row": row, "seed": seed})
                continue
            fit = run_row(table, prepare(estimator), setting, seed)
            report["fits"].append({"row": row, "seed": seed} | fit)
            report["summary"] = summarize(table, report["fits"])
            tell(report["fits"][-1])
            save(report)
    save(report)
    return report


def run_row(table, estimator, setting, seed):
    """Fit one row; what goes wrong is written down, and the others go on."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            fit = table.run(estimator, setting, seed)
        except Exception as error:
            traceback.print_exc()
            fit = {"error": f"{type(error).__name__}: {error}"}
    messages = dict.fromkeys(str(warning.message) for warning in caught)
    return fit | {"warnings": list(messages)}


def summarize(table, fits):
    """Return, for every line and every column, the statistics over seeds."""
    values = {}
    for line in (line for fit in fits for line in table.lines(fit)):
        columns = values.setdefault(line["row"], {})
        for key in table.columns:
            if key in line:
                columns.setdefault(key, []).append(line[key])
    return {
        row: {
            key: {
                "mean": float(np.mean(found)),
                "std": float(np.std(found)),
                "min": float(np.min(found)),
                "n": len(found),
            }
            for key, found in columns.items()
        }
        for row, columns in values.items()
    }


def tell(fit):
    """Say on the terminal how far the run has come."""
    outcome = fit.get("error") or f"ACC {fit['ACC']:.4f}, {fit['s']:.1f} s"
    print(f"seed {fit['seed']}, {fit['row']}: {outcome}", file=sys.stderr, flush=True)


# The table as it is printed.


def print_report(report, is_cifar10):
    table = TABLES[report["table"]]
    rows = [
        {"row": row, "seeds": str(max(s["n"] for s in statistics.values()))}
        | format_columns(table.columns, statistics)
        | {"published": find_published(report["table"], row, is_cifar10) or "-"}
        for row, statistics in report["summary"].items()
        if statistics
    ]
    print()
    if rows:
        print_table(rows)
    print()
    for note in (*table.notes, *(LEGEND if is_cifar10 else ())):
        print(f"- {note}")
    print_incidents(report)


def format_columns(columns, statistics):
    cells = {}
    for key, spec in columns.items():
        found = statistics.get(key)
        cells[key] = format_mean(found, spec)
        if key == "ACC":
            cells["lowest"] = format_number(found["min"], spec) if found else "-"
    return cells


def format_mean(found, spec):
    """Return mean ± deviation; what is measured in counts or seconds needs none."""
    if found is None:
        return "-"
    mean = format_number(found["mean"], spec)
    if spec != PERCENT:
        return mean
    return f"{mean} ± {format_number(found['std'], spec)}"


def format_number(value, spec):
    return format(value, spec).removesuffix("%")


def print_incidents(report):
    """Print what warned, what failed, and what was not run."""
    incidents = {}
    for fit in report["fits"]:
        failed = [f"failed with {fit['error']}"] if "error" in fit else []
        for text in (*fit["warnings"], *failed):
            incidents.setdefault((fit["row"], text), []).append(str(fit["seed"]))
    lines = [
        f"{row}, seed {', '.join(seeds)}: {text}"
        for (row, text), seeds in incidents.items()
    ]
    left_out = {}
    for missing in report["missing"]:
        left_out.setdefault(missing["seed"], []).append(missing["row"])
    lines += [
        f"not run with seed {seed}, because the budget was spent: {'; '.join(rows)}"
        for seed, rows in left_out.items()
    ]
    if lines:
        print("", *(f"- {line}" for line in lines), sep="\n")


# The command.


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", choices=list(TABLES), required=True)
    parser.add_argument(
        "--data", default="digits", help='"digits", or a path; see data_sets.cifar10'
    )
    parser.add_argument(
        "--n", type=int, help="images, of all digits or 10,000 photographs"
    )
    parser.add_argument(
        "--rows", nargs="+", default=(), metavar="ROW", help="these rows alone"
    )
    parser.add_argument("--seeds", type=int, default=3, help="fits per row")
    parser.add_argument("--budget", type=float, default=float("inf"), metavar="MINUTES")
    parser.add_argument("--cache", metavar="DIR", help="where pretexts are kept")
    parser.add_argument("--json", metavar="FILE", type=Path)
    parser.add_argument(
        "--plot", metavar="FILE.png", type=Path, help="default: next to --json"
    )
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        parser.error("--seeds must be at least 1")
    if options.json and not options.plot:
        options.plot = options.json.with_suffix(".png")
    return options


def describe(options, setting):
    """Return the facts of a run, without the folders of the machine that it is on."""
    given = {
        "table": options.table,
        "data": setting.name,
        "n": options.n,
        "rows": shlex.join(options.rows) or None,
        "seeds": options.seeds,
        "budget": None if np.isinf(options.budget) else f"{options.budget:g}",
        "device": None if options.device == "auto" else options.device,
    }
    words = [f"--{name} {value}" for name, value in given.items() if value is not None]
    shape = " x ".join(map(str, setting.X.shape[1:]))
    return {
        "command": " ".join(("python benchmarks/paper.py", *words)),
        "data": f"{setting.name}, {len(setting.X):,} images {shape}, "
        f"{setting.n_classes} classes",
        "seeds": ", ".join(map(str, range(setting.n_seeds))),
    } | describe_run(options.device)


def main(arguments=None, *, prepare=as_is):
    options = parse(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        name, X, y = load(options.data, options.n)
        cache = options.cache or temporary
        setting = Setting(name, X, y, cache, options.seeds, options.device)
        facts = describe(options, setting)
        print_header(TABLES[options.table].title, facts)

        def save(report):
            if options.json:
                write_json(options.json, {"run": facts} | report)

        report = run_table(
            options.table,
            setting,
            names=options.rows,
            budget=60 * options.budget,
            prepare=prepare,
            save=save,
        )
    print_report(report, setting.is_cifar10)
    if options.plot and options.table in PLOTTED:
        from scan_bench.paper_plots import draw

        draw({"run": facts} | report, options.plot)
    return int(any("error" in fit for fit in report["fits"]))


if __name__ == "__main__":
    sys.exit(main())
