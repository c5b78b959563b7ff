# SPDX-License-Identifier: BSD-3-Clause
r"""Which label-free scorer finds the best of many settings.

    python benchmarks/selection.py --embeddings FOLDER --cache FOLDER --json FILE
    python benchmarks/selection.py --grid n_clusters ...
    python benchmarks/selection.py --embed FOLDER --cifar10 ... --photographs ...

For every data set, 24 candidates are fitted: six settings of `SCANClustering` in each
of four embeddings of the same samples; with ``--grid n_clusters``, up to eight numbers
of clusters in each of two. Every scorer ranks them without labels. Printed are
Spearman's correlation with ACC (`hungarian_accuracy_score`), and the regret: the best
ACC minus that of the candidate with the highest score. Candidates are fitted on at most
1,000 samples (20 per class, where these are more), and heads alone, on the embedding.

The default scorer was chosen on the sets of role "choose"; those of role "report" had
no part in it. Candidates, and what scorers need of them, are kept in `--cache`, so that
scorers can be studied again in seconds. `--embed` writes the embeddings, as
``NAME-SEED.npz``: of images, those that the clusterer trains; of rows, the rows.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
import panel
from scan_bench import data_sets
from scan_bench.report import describe_run, print_header, print_table, write_json
from scan_bench.selection_candidates import list_problems, name_file, read_candidates
from scan_bench.selection_scores import measure, score_all
from scipy.stats import spearmanr

from sklearn_scan import SCANClustering

_ROLES = ("choose", "report")
# Of which every data set is printed.
_SHOWN = (
    "modularity, pooled",
    "modularity, own",
    "information, pooled",
    "resemblance",
    "silhouette, pooled",
    "SCAN objective, own",
)


def judge(scores, accuracies):
    """Return Spearman's correlation with ACC, and the regret.

    A scorer for which all candidates are equal has chosen nothing: its correlation is
    0, and its regret that of the mean candidate.
    """
    if np.ptp(scores) < 1e-12:
        return {"spearman": 0.0, "regret": float(np.ptp(accuracies) / 2)}
    return {
        "spearman": float(spearmanr(scores, accuracies).statistic),
        "regret": float(accuracies.max() - accuracies[np.argmax(scores)]),
    }


def study(name, grid, options):
    """Return what every scorer makes of the candidates of a data set."""
    spaces, _, candidates = read_candidates(
        name, grid, options.embeddings, options.cache
    )
    file = Path(options.cache) / f"{name_file(name, grid)}-measured.npz"
    if not file.exists():
        np.savez_compressed(file, **measure(list(spaces.values()), candidates))
    with np.load(file) as archive:
        measured = dict(archive)
    accuracies = candidates["ACC"]
    return {
        "role": list_problems()[name].role,
        "n_samples": int(candidates["labels"].shape[1]),
        "ACC": accuracies.round(4).tolist(),
        "scorers": {
            scorer: judge(scores, accuracies)
            for scorer, scores in score_all(candidates, measured).items()
        },
    }


def summarize(results):
    """Return means over the data sets of each role, by scorer."""
    summary = {}
    for role in _ROLES:
        rows = [row["scorers"] for row in results.values() if row["role"] == role]
        for scorer in rows[0] if rows else ():
            found = [row[scorer] for row in rows]
            regrets = [each["regret"] for each in found]
            summary.setdefault(scorer, {})[role] = {
                "spearman": float(np.mean([each["spearman"] for each in found])),
                "least": float(min(each["spearman"] for each in found)),
                "regret": float(np.mean(regrets)),
                "worst": float(max(regrets)),
            }
    return summary


def print_summary(summary):
    """Print scorers, those with the highest correlation where they choose first."""
    rows = []
    for scorer, found in summary.items():
        row = {"scorer": scorer}
        for role, s in found.items():
            row[f"{role}: Spearman"] = f"{s['spearman']:.3f}"
            row[f"{role}: regret"] = f"{s['regret']:.3f}"
            row[f"{role}: worst"] = f"{s['worst']:.3f}"
        rows.append(row)
    rows.sort(key=lambda row: -float(row["choose: Spearman"]))
    print_table(rows)


def print_sets(results, scorers):
    """Print for each data set the correlation and the regret of some scorers."""
    rows = []
    for name, row in results.items():
        accuracies = row["ACC"]
        line = {
            "data": name,
            "role": row["role"],
            "ACC": f"{min(accuracies):.3f} to {max(accuracies):.3f}",
        }
        for scorer in scorers:
            found = row["scorers"][scorer]
            line[scorer] = f"{found['spearman']:.2f} / {found['regret']:.3f}"
        rows.append(line)
    print_table(rows)


def embed(options):
    """Write embeddings of the sets of the panel, and of 26 letters."""
    warnings.simplefilter("ignore")
    folder = Path(options.embed)
    folder.mkdir(parents=True, exist_ok=True)
    loaders = {name: case.load for name, case in panel.list_cases(options).items()}
    loaders["26 letters"] = lambda: data_sets.letters(1500, alphabet=data_sets.ALPHABET)
    problems = list_problems()
    wanted = {f for name in options.data or problems for f in problems[name].files}
    for name, load in loaders.items():
        for seed in (0, 1):
            file = f"{name_file(name)}-{seed}"
            if file not in wanted or (folder / f"{file}.npz").exists():
                continue
            Z, y = load()
            if Z.ndim > 2:
                Z = embed_images(Z, len(np.unique(y)), seed)
            np.savez(folder / f"{file}.npz", Z=Z.astype(np.float32), y=y)
            print(file, Z.shape, flush=True)


def embed_images(X, n_clusters, seed):
    """Return the embedding that a clusterer with the defaults trains."""
    clusterer = SCANClustering(
        n_clusters, clustering=None, self_labeling=None, random_state=seed
    )
    return clusterer.fit(X).embedding_


def parse(arguments=None):
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--embeddings", metavar="FOLDER", help="NAME-SEED.npz: Z and y")
    parser.add_argument("--cache", metavar="FOLDER", help="where candidates are kept")
    parser.add_argument(
        "--grid", choices=("settings", "n_clusters"), default="settings"
    )
    parser.add_argument("--data", nargs="+", metavar="NAME", help="these sets alone")
    parser.add_argument("--json", metavar="FILE", help="where to write everything")
    parser.add_argument("--embed", metavar="FOLDER", help="write embeddings there")
    parser.add_argument("--cifar10", metavar="PATH", help="as in panel.py")
    parser.add_argument("--photographs", metavar="FILE", help="as in panel.py")
    parser.add_argument("--small-photographs", metavar="FILE", help="as in panel.py")
    return parser.parse_args(arguments)


def main(arguments=None):
    """Study all scorers on all sets."""
    options = parse(arguments)
    if options.embed:
        embed(options)
        return
    names = options.data or list_problems()
    run = describe_run() | {"grid": options.grid}
    print_header("Choosing without labels", run)
    results = {name: study(name, options.grid, options) for name in names}
    summary = summarize(results)
    print()
    print_summary(summary)
    print()
    print_sets(results, _SHOWN)
    if options.json:
        write_json(options.json, {"run": run, "summary": summary, "results": results})


if __name__ == "__main__":
    main()
