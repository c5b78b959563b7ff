# SPDX-License-Identifier: BSD-3-Clause
"""The numbers of the pages on reproduction and speed, from ``benchmarks/results``.

A page has ``{{ tables.pretext }}`` for a table, and for a single number, say,
``{{ '%.0f' % results.speed.grid.grid.grid.without }}``: `load` returns what these
names stand for. Run as a script, it prints the table of the README:

    PYTHONPATH=.:benchmarks python docs/_results.py
"""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import n_clusters
import numpy as np
import panel
import paper
import speed
from scan_bench.published import CIFAR10, LEGEND, find_published
from tabulate import tabulate

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks" / "results"

# Tables of ``benchmarks/results/speed`` that are shown as they were printed, by name.
_AS_PRINTED = {
    "present": "stages_present",
    "answers": "answers",
    "time_to_accuracy": "time_to_accuracy",
    "time_to_accuracy_tiles": "time_to_accuracy_tiles",
}

# The sets of the panel, as they are called here, and how many samples each has.
_SETS = {
    "digits": ("digits, 8 x 8", 1797),
    "letters": ("ten printed letters in many fonts, 28 x 28", 1500),
    "shapes": ("five drawn shapes in random colours, 32 x 32", 1500),
    "handwriting": ("handwriting, 28 x 28", 5000),
    "digits 10:1": ("digits with class sizes 10:1", 707),
    "digits, half inverted": ("digits, half of them dark on light", 1797),
    "CIFAR-10, 3 classes": ("three classes of CIFAR-10", 1500),
    "CIFAR-10, 5 classes": ("five classes of CIFAR-10", 2000),
    "CIFAR-10": ("CIFAR-10", 2500),
    "digit rows": ("digits as rows", 1797),
    "digit rows, scaled": ("digits as rows, scaled", 1797),
    "digit rows, PCA(40)": ("digits as rows, PCA(40)", 1797),
    "handwriting rows": ("handwriting as rows of pixels", 5000),
    "wine, scaled": ("wine, scaled", 178),
    "breast cancer, scaled": ("breast cancer, scaled", 569),
    "small photographs": ("CIFAR-10 at 64 pixels through an ImageNet network", 5000),
    "photographs": ("CIFAR-10 at 224 pixels through an ImageNet network", 10_000),
    "photographs 10:1": ("the same with class sizes 10:1", 4084),
}
# Those that the README shows: of every kind, those where others are ahead among them.
_IN_README = (
    "digits",
    "digits, half inverted",
    "letters",
    "shapes",
    "handwriting",
    "CIFAR-10, 3 classes",
    "CIFAR-10",
    "digit rows, scaled",
    "breast cancer, scaled",
    "photographs",
    "photographs 10:1",
)
_PANEL_COLUMNS = (
    "data",
    "n",
    "seeds",
    "KMeans",
    "spectral",
    "UMAP + KMeans",
    "before",
    "`SCANClustering`",
    "minimum",
)
# What the stages were called when the older files were written.
_OLD_NAMES = {"clustering": "head search", "fine_tuning": "clustering"}
_OTHER_ROUTES = ("median", *n_clusters.ROUTES)
_SPELLING = {"optimiser": "optimizer"}
_OLD_COLUMNS = {f"{old} s": f"{new} s" for old, new in _OLD_NAMES.items()}


def load():
    """Return what pages may name: ``results``, read, and ``tables``, in Markdown."""
    results = {
        folder.name: {file.stem: json.loads(file.read_text()) for file in files}
        for folder in sorted(FOLDER.iterdir())
        if (files := sorted(folder.glob("*.json")))
    }
    tables = {
        name: make_paper_table(report) for name, report in results["paper"].items()
    }
    tables |= make_panel_tables(results["panel"])
    tables |= make_speed_tables(results["speed"])
    tables["pretext_short"] = make_pretext_table(results["paper"]["pretext"])
    tables["published"] = make_published_table()
    tables["n_clusters"] = make_n_clusters_table(results["n_clusters"]["n_clusters"])
    tables["photographs"] = make_photographs_table(results["photographs"]["accuracy"])
    tables["selection"] = make_selection_table(results["selection"]["settings"])
    for name, stem in _AS_PRINTED.items():
        tables[name] = read_table(FOLDER / "speed" / f"{stem}.md")
    facts = {
        name: {stem: describe(report["run"]) for stem, report in group.items()}
        for name, group in results.items()
    }
    return {
        "results": results,
        "tables": tables,
        "facts": facts,
        "panel_means": average_panel(results["panel"]),
        "ceilings": describe_ceilings(results["speed"]["stages"]["stages"]["ceilings"]),
        "missed": list_missed(results["speed"]),
    }


def make_markdown(rows):
    """Return rows, dicts of text with the same keys, as a table in Markdown."""
    alignment = ["left"] + ["right"] * (len(rows[0]) - 1)
    rows = [{_SPELLING.get(k, k): text for k, text in row.items()} for row in rows]
    return tabulate(
        rows,
        headers="keys",
        tablefmt="pipe",
        disable_numparse=True,
        colalign=alignment,
    )


def describe(run):
    """Return when, where and by what a file was written, as a sentence."""
    command = f"`{run['command']}`, " if "command" in run else ""
    day = run["date"].partition("T")[0]
    cores = f"{run['cores']} cores" if run["cores"] > 1 else "one core"
    return (
        f"{command}{day}, commit {run['commit']}, {cores} of an {run['cpu']}, torch "
        f"{run['torch'].partition('+')[0]}"
    )


# The number of clusters.


def make_n_clusters_table(report):
    """Return what every route says of every set, those that chose nothing first."""
    rows, roles = report["results"].items(), n_clusters.ROLES
    ordered = sorted(rows, key=lambda item: roles.index(item[1]["role"]))
    table = []
    for name, row in ordered:
        described = n_clusters.describe(name, row)
        found = {"`auto`": described["ours"], "interval": described["interval"]}
        found |= {k: described[k] for k in _OTHER_ROUTES}
        start = {"data": name, "role": row["role"], "classes": described["classes"]}
        table.append(start | found)
    return make_markdown([*table, *_count_right(report["results"])])


def _count_right(results):
    """Return a line per role that counts where each route is right."""
    columns = {"`auto`": "ours"} | {name: name for name in _OTHER_ROUTES}
    lines = []
    for role in n_clusters.ROLES:
        rows = [row for row in results.values() if row["role"] == role]
        if not rows:
            continue
        line = {"data": "right", "role": role, "classes": f"of {len(rows)}"}
        for title, column in columns.items():
            rights = [n_clusters.is_right(row[column], row["classes"]) for row in rows]
            line[title] = str(sum(rights))
        lines.append(line | {"interval": ""})
    return lines


# The panel.


def make_panel_table(results, names=tuple(_SETS), columns=None):
    """Return the panel: ACC of this library, of others and of the library before."""
    options = SimpleNamespace(cifar10="-", photographs="-", small_photographs="-")
    cases = panel.list_cases(options)
    return make_markdown(
        [
            _make_panel_row(results, name, cases[name].role, columns or _PANEL_COLUMNS)
            for name in names
        ]
    )


def make_panel_tables(results):
    """Return the whole panel, and its part on classes of unequal sizes."""
    unequal = ("digits", "digits 10:1", "photographs", "photographs 10:1")
    columns = [c for c in _PANEL_COLUMNS if c not in ("seeds", "before")]
    return {
        "panel": make_panel_table(results),
        "panel_imbalance": make_panel_table(results, unequal, columns),
    }


def average_panel(results):
    """Return the mean ACC of every set of the panel."""
    rows = results["after"]["results"]
    return {name: _mean(found, "ACC") for name, found in rows.items()}


def _make_panel_row(results, name, role, columns):
    title, n_samples = _SETS[name]
    rows = results["after"]["results"][name]
    accuracies = [row["ACC"] for row in rows]
    before = results["before"]["results"][name]
    seeds = {row["seed"] for row in rows}
    means = {
        "KMeans": _mean(rows, "KMeans"),
        "spectral": _mean(rows, "spectral"),
        "UMAP + KMeans": _mean(results["peers"]["results"][name], "UMAP + KMeans"),
        "before": _mean([row for row in before if row["seed"] in seeds], "ACC"),
        "`SCANClustering`": float(np.mean(accuracies)),
    }
    best = f"{max(means[column] for column in columns if column in means):.3f}"
    cells = {column: f"{mean:.3f}" for column, mean in means.items()}
    is_best = {column: text == best for column, text in cells.items()}
    cells["`SCANClustering`"] += f" ± {np.std(accuracies):.3f}"
    cells = {k: f"**{text}**" if is_best[k] else text for k, text in cells.items()}
    row = {
        "data": title + (" \\*" if role == "report" else ""),
        "n": f"{n_samples:,}",
        "seeds": str(len(rows)),
        **cells,
        "minimum": f"{min(accuracies):.3f}",
    }
    return {column: row[column] for column in columns}


def _mean(rows, key):
    return float(np.mean([row[key] for row in rows]))


def make_readme_table():
    """Return the table of the README."""
    files = {
        name: json.loads((FOLDER / "panel" / f"{name}.json").read_text())
        for name in ("after", "peers", "before")
    }
    columns = [c for c in _PANEL_COLUMNS if c not in ("seeds", "before")]
    lines = make_panel_table(files, _IN_README, columns).split("\n")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    rows[1] = ["---"] * len(columns)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


# The tables of the paper.


def make_paper_table(report):
    """Return a table of the paper, with what was published where that compares."""
    table = paper.TABLES[report["table"]]
    is_cifar10 = report["run"]["data"].startswith("cifar10")
    rows = []
    for name, statistics in report["summary"].items():
        row = {"": name, "seeds": str(max(s["n"] for s in statistics.values()))}
        row |= paper.format_columns(table.columns, statistics)
        if is_cifar10:
            row["published"] = find_published(report["table"], name, True) or "-"
        rows.append(row)
    notes = [*table.notes, *(LEGEND if is_cifar10 else ())]
    return "\n".join([make_markdown(rows), "", *(f"- {note}" for note in notes)])


def make_pretext_table(report):
    """Return what most ask of a pretext task: neighbours, KMeans, and the clusters."""
    columns = {"purity": "pure neighbours", "KMeans": "KMeans", "ACC": "SCANClustering"}
    return make_markdown(
        [
            {"pretext": name}
            | {
                title: paper.format_mean(statistics[column], paper.PERCENT)
                for column, title in columns.items()
            }
            for name, statistics in report["summary"].items()
        ]
    )


def make_published_table():
    """Return what the paper and its authors report on CIFAR-10."""
    names = {
        "SCAN (strong)": "after the SCAN loss",
        "SCAN (strong) + self-labels (strong)": "after self-labelling",
    }
    return make_markdown(
        [
            {
                "": title,
                "ACC / NMI / ARI": found.figure,
                "of runs": found.runs,
                "chosen": found.selection,
                "source": found.trust,
            }
            for row, title in names.items()
            for found in CIFAR10["ablation"][row]
        ]
    )


# Speed.


def make_speed_tables(results):
    """Return the tables of ``benchmarks/speed.py`` and ``benchmarks/scaling.py``."""
    stages = results["stages"]["stages"]["stages"]
    scaling = results["scaling"]
    tiles = results["tiles"]
    convolutions = results["convolutions"]["convolutions"]
    return {
        "rates": make_rates(stages),
        "rates_float32": make_rates(results["float32"]["stages"]["stages"]),
        "shares": make_markdown(
            [
                {"stage": row["stage"]} | speed.format_shares(row["shares"])
                for row in stages
                if "shares" in row
            ]
        ),
        "digits": make_markdown(
            [
                row | {"stage": _OLD_NAMES.get(row["stage"], row["stage"])}
                for row in results["stages"]["digits"]["digits"]
            ]
        ),
        "mining": make_markdown(results["mining"]["mining"]["mining"]),
        "tiles_rates": make_rates(tiles["stages"]["stages"]),
        "convolution_tiny": make_markdown(convolutions["tiny"]),
        "convolution_gradients": make_markdown(convolutions["layers"]),
        "convolution_networks": make_markdown(convolutions["networks"]),
        "tiles_mining": make_markdown(tiles["mining"]["mining"]),
        "embedding": make_markdown(results["embedding"]["embedding"]["embedding"]),
        "growth_rows": make_growth(scaling["rows"], {"clustering s": "head search s"}),
        # Beyond the images themselves, the peak is that of making them.
        "growth_images": make_growth(
            scaling["images"], _OLD_COLUMNS, left_out=("peak GiB",)
        ),
    }


def make_rates(stages):
    """Return samples per second of each stage."""
    return make_markdown([speed.describe_rate(row) for row in stages])


def make_growth(part, names, left_out=()):
    """Return seconds and memory over the number of samples, with the exponents."""
    kept = [key for key in part["sizes"][0] if key not in left_out]
    rows = [*part["sizes"], part["exponents"]]
    return make_markdown(
        [{names.get(k, k): _format_growth(k, row.get(k)) for k in kept} for row in rows]
    )


def _format_growth(key, value):
    if value is None or isinstance(value, str):
        return value or "-"
    return f"{value:,}" if key == "n" else f"{value:.2f}"


def describe_ceilings(rates):
    """Return the rates that the machine reached."""
    return ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items())


def list_missed(results):
    """Return the targets that were missed, as a list."""
    targets = {
        f"- {target['target']}"
        for report in results.values()
        for part in report.values()
        for target in part.get("targets", [])
        if not target["met"]
    }
    return "\n".join(sorted(targets))


def read_table(file):
    """Return the first table of a file in Markdown, where there is no JSON."""
    return re.search(r"(?:^\|.*\n)+", file.read_text(), re.MULTILINE)[0]


# Photographs.


def make_photographs_table(report):
    """Return the ACC of every method on the features of photographs."""
    return make_markdown(
        [
            {
                "method": method,
                "seeds": str(len(found)),
                "ACC": f"{np.mean(found):.3f}",
                "standard deviation": f"{np.std(found):.3f}" if len(found) > 1 else "",
                "minimum": f"{min(found):.3f}",
            }
            for method, found in report["ACC"].items()
        ]
    )


# Choosing without labels.


def make_selection_table(report):
    """Return how well some label-free scorers choose among settings."""
    names = {
        "modularity + information + resemblance": "`LabelFreeSearch`, the default",
        "modularity, pooled": "modularity, in all embeddings",
        "silhouette, pooled": "silhouette, in all embeddings",
        "modularity, own": "modularity, in its own: `score`",
        "silhouette, own": "silhouette, in its own",
        "SCAN objective, own": "SCAN objective, in its own",
    }
    rows = []
    for scorer, title in names.items():
        row = {"scorer": title}
        for role, when in (("choose", "chosen on"), ("report", "reported on")):
            found = report["summary"][scorer][role]
            row[f"correlation, {when}"] = f"{found['spearman']:.2f}"
            row[f"regret, {when}"] = f"{found['regret']:.3f}"
            row[f"worst, {when}"] = f"{found['worst']:.3f}"
        rows.append(row)
    return make_markdown(rows)


if __name__ == "__main__":
    print(make_readme_table())
