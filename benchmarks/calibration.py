# SPDX-License-Identifier: BSD-3-Clause
r"""Whether probabilities mean what they say, on samples that were held out.

    python benchmarks/calibration.py --photographs lite0.npz --fits fits
    python benchmarks/calibration.py --embeddings letters.npz wine.npz ... --fits fits

Clusterers are fitted on a random part of the samples, and asked about others: on 70 %
of the digits' images and on the others; on 3,000 rows of `photographs` (see
`embed_photographs.py`) and on 2,000 others; and so on `embeddings`, files with rows "Z"
and classes "y". Printed is `expected_calibration_error` on the others (15 bins), which
sees labels, by how the temperature was found, which does not:

- *network*: it is 1, the probabilities are those that were trained;
- *tenth*, *quarter*, *half*: the mean confidence is the share of near samples in the
  cluster of a sample, near being that part of its cluster; `fit` takes the tenth;
- *k-means*: it is the share of samples that k-means on halves of them puts into the
  same cluster (the mean of ten);
- *mixture*: it is the mean probability that a mixture of Gaussians with one covariance,
  fitted to ten principal components from the clusters on, gives the cluster;
- *labels*: it is the accuracy on the seen samples, for comparison.

A folder given as `--fits` keeps the fitted clusterers.
"""

import argparse
from pathlib import Path

import numpy as np
from scan_bench import data_sets
from scan_bench.held_out import fit_part
from scan_bench.report import Table, describe_run, print_header
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from sklearn_scan._calibration import match_confidence, measure_agreement
from sklearn_scan.metrics import (
    align_labels,
    expected_calibration_error,
    hungarian_accuracy_score,
)

SHARES = {"tenth": 0.1, "quarter": 0.25, "half": 0.5}


def estimate(run, probabilities):
    """Return the estimates of the accuracy on the seen samples, by name."""
    clusterer, labels = run.clusterer, probabilities.argmax(axis=1)
    rows = clusterer._backbone.compare(clusterer.embedding_)
    near = {k: measure_agreement(labels, *rows, share) for k, share in SHARES.items()}
    return near | {
        "k-means": agree_with_kmeans(labels, rows[0]),
        "mixture": believe_mixture(labels, rows[0]),
        "labels": hungarian_accuracy_score(run.y_seen, labels),
    }


def agree_with_kmeans(labels, rows):
    n_clusters, random = labels.max() + 1, np.random.default_rng(0)
    shares = []
    for seed in range(10):
        half = rows[random.permutation(len(rows))[: len(rows) // 2]]
        others = KMeans(n_clusters, random_state=seed).fit(half).predict(rows)
        shares.append((align_labels(labels, others) == labels).mean())
    return float(np.mean(shares))


def believe_mixture(labels, rows):
    rows = PCA(min(10, rows.shape[1]), random_state=0).fit_transform(rows)
    rows, clusters = rows.astype(np.float64), np.unique(labels)
    means = np.stack([rows[labels == cluster].mean(axis=0) for cluster in clusters])
    mixture = GaussianMixture(
        len(clusters), covariance_type="tied", means_init=means, random_state=0
    ).fit(rows)
    places = np.searchsorted(clusters, labels)
    return float(mixture.predict_proba(rows)[np.arange(len(rows)), places].mean())


def measure(name, run):
    """Return a row of the table."""
    probabilities, _ = run.ask(temperature=1.0)
    temperatures = {"network": 1.0}
    for rule, confidence in estimate(run, probabilities).items():
        temperatures[rule] = match_confidence(probabilities, confidence)
    errors = {
        rule: expected_calibration_error(run.y_others, run.ask(temperature)[1])
        for rule, temperature in temperatures.items()
    }
    labels = run.ask(1.0)[1].argmax(axis=1)
    accuracy = hungarian_accuracy_score(run.y_others, labels)
    return {"data": name, "ACC": accuracy, "T": temperatures["tenth"]} | errors


def list_runs(options):
    """Yield each name and a clusterer with its samples."""

    def keep(name, seed):
        return options.fits and Path(options.fits) / f"{name}-{seed}.joblib"

    part = {"n_fitted": 3000, "n_others": 2000}
    for seed in range(options.seeds):
        if options.photographs:
            with np.load(options.photographs) as archive:
                X, y = archive["F"].astype(np.float32), archive["y"]
            path = keep("photographs", seed)
            yield f"photographs {seed}", fit_part(X, y, seed, **part, path=path)
        if not options.embeddings:
            path = keep("digits", seed)
            yield f"digits {seed}", fit_part(*data_sets.digits(), seed, path=path)
    for file in map(Path, options.embeddings):
        with np.load(file) as archive:
            X, y = archive["Z"], archive["y"]
        size = {"n_fitted": min(3000, int(0.7 * len(y))), "n_others": 2000}
        yield file.stem, fit_part(X, y, 0, **size, path=keep(file.stem, 0))


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photographs", help="an .npz file with F and y")
    parser.add_argument("--embeddings", nargs="*", default=[])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--fits", help="folder of fitted clusterers")
    options = parser.parse_args(arguments)
    if options.fits:
        Path(options.fits).mkdir(parents=True, exist_ok=True)
    print_header("Calibration error on held-out samples", describe_run("cpu"))
    print()
    rules = ("network", *SHARES, "k-means", "mixture", "labels")
    table = Table({"data": "", "ACC": ".3f", "T": ".2f"} | dict.fromkeys(rules, ".3f"))
    for name, run in list_runs(options):
        table.add(measure(name, run))


if __name__ == "__main__":
    main()
