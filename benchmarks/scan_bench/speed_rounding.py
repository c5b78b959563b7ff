# SPDX-License-Identifier: BSD-3-Clause
"""The speed benchmark on answers: what bfloat16 changes in them."""

import numpy as np

from scan_bench import data_sets
from scan_bench.report import print_table, print_target
from scan_bench.speed_rows import K, measure_recall
from sklearn_scan import SCANClustering
from sklearn_scan.neighbors import mine_neighbors

LABELS, RECALL = 0.999, 0.99


def measure_rounding(options):
    """Compare the answers of fitted models in bfloat16 with those in float32."""
    rows, targets = [], []
    for name, load in list_sets(options).items():
        X, y = load()
        clusterer = SCANClustering(len(np.unique(y)), random_state=0).fit(X)
        found = {}
        for precision in ("float32", "bfloat16"):
            clusterer.set_params(precision=precision)
            clusterer.pretext_.set_params(precision=precision)
            embedding = clusterer.transform(X)
            neighbors = mine_neighbors(embedding, K, metric="cosine")
            found[precision] = clusterer.predict_proba(X), neighbors
        (exact, near), (rounded, also_near) = found.values()
        agreement = (exact.argmax(axis=1) == rounded.argmax(axis=1)).mean()
        recall = measure_recall(also_near, near, np.arange(len(X)))
        rows.append(
            {
                "data": name,
                "n": f"{len(X):,}",
                "labels that agree": f"{agreement:.4f}",
                "largest difference": f"{np.abs(exact - rounded).max():.3f}",
                f"recall@{K}": f"{recall:.4f}",
            }
        )
        text = f"{name}: labels {agreement:.4f} >= {LABELS}"
        targets.append(print_target(text, agreement >= LABELS))
        text = f"{name}: recall@{K} {recall:.4f} >= {RECALL}"
        targets.append(print_target(text, recall >= RECALL))
    print()
    print_table(rows)
    return {"rounding": rows, "targets": targets}


def list_sets(options):
    """Return what loads each set."""
    sets = {
        "digits": data_sets.digits,
        "letters": lambda: data_sets.letters(1500),
        "shapes": lambda: data_sets.shapes(1500),
    }
    if options.cifar10:
        sets["CIFAR-10"] = lambda: data_sets.cifar10(options.cifar10, 2000)
    return sets
