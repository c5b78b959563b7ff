# SPDX-License-Identifier: BSD-3-Clause
"""
=============================================
The paper's recipe on a folder of photographs
=============================================

This is a program, and not run for this page::

    python examples/cluster_folder.py photographs --n-clusters 12
    python examples/cluster_folder.py classes --classes --effort 0.01 --side 224

The ImageNet recipe: a ResNet-50 at 224 pixels, MoCo, ten heads on the frozen encoder,
self-labelling. Give it weights that MoCo has trained elsewhere (``--weights``), or it
trains on the folder alone, which wants a GPU and many images. Writes one row of
pictures per cluster, and a table of files.

With ``--classes`` the sub-folders are the classes: they are not shown to the clusterer,
but its answer is compared with them.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from sklearn_scan.inspection import PrototypesDisplay
from sklearn_scan.metrics import (
    hungarian_accuracy_score,
    neighbor_purity_score,
    top_k_hungarian_accuracy_score,
)
from sklearn_scan.recipes import paper_recipe


def compare_with_classes(clusterer, folder):
    """Print how well clusters agree with the names of the sub-folders."""
    classes = [Path(path).parent.name for path in clusterer.paths_]
    probabilities = clusterer.predict_proba(folder)
    print(f"ACC   {hungarian_accuracy_score(classes, clusterer.labels_):.4f}")
    top_5 = top_k_hungarian_accuracy_score(classes, probabilities, k=5)
    print(f"top-5 {top_5:.4f}")
    purity = neighbor_purity_score(clusterer.neighbors_, classes)
    print(f"neighbours of the same class {purity:.4f}")


def write_table(clusterer, path):
    """Write the file, the cluster and the confidence of every image."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "cluster", "confidence"])
        writer.writerows(
            zip(
                clusterer.paths_,
                clusterer.labels_.tolist(),
                clusterer.confidence_.tolist(),
                strict=True,
            )
        )


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        description="Cluster a folder by the paper's recipe for large images."
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n-clusters", type=int, default=10)
    parser.add_argument("--classes", action="store_true")
    parser.add_argument("--weights", type=Path, help="of a ResNet-50 that MoCo trained")
    parser.add_argument("--prefix", default="module.encoder_q.")
    parser.add_argument("--effort", type=float, default=1.0, help="share of all epochs")
    parser.add_argument("--side", type=int, default=224, help="pixels")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path, default=Path("clusters"))
    return parser.parse_args(arguments)


def main(arguments=None):
    options = parse(arguments)
    clusterer = paper_recipe(
        "imagenet50",
        n_clusters=options.n_clusters,
        effort=options.effort,
        weights=options.weights,
        prefix=options.prefix,
        image_shape=(options.side, options.side, 3),
        device=options.device,
        random_state=0,
        verbose=1,
    ).fit(options.folder)
    print(f"images per cluster: {np.bincount(clusterer.labels_).tolist()}")
    if options.classes:
        compare_with_classes(clusterer, options.folder)
    options.output.mkdir(parents=True, exist_ok=True)
    write_table(clusterer, options.output / "clusters.csv")
    display = PrototypesDisplay.from_estimator(clusterer, options.folder)
    display.figure_.savefig(options.output / "clusters.png")
    print(f"see {options.output / 'clusters.png'} and clusters.csv beside it")


if __name__ == "__main__":
    main()
