# SPDX-License-Identifier: BSD-3-Clause
"""Draw the pictures of docs/inspection.md and docs/diagnosing.md.

    python docs/draw_displays.py
    python docs/draw_displays.py --images cifar10.npz --features lite0.npz

The first draws what is shown of the digits, which scikit-learn bundles, and takes a
minute. The second also draws what is shown of photographs, in three minutes more: the
test images of CIFAR-10 (`X_test`, `y_test` and `class_names` of the first file), and
their features (`F` of the second), as `benchmarks/embed_photographs.py` writes them.
"""

import argparse
import copy
import io
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from sklearn_scan import SCANClustering, diagnose
from sklearn_scan.inspection import (
    ClusterSizesDisplay,
    ConfusionDisplay,
    EmbeddingMapDisplay,
    NeighborsDisplay,
    NumberOfClustersDisplay,
    PrototypesDisplay,
    ReliabilityDisplay,
    StabilityDisplay,
    TrainingCurvesDisplay,
    ViewsDisplay,
)

FOLDER = Path(__file__).parent / "images"


def draw_digits():
    """Draw what is shown of the digits."""
    X = load_digits().images
    ink = {"cmap": "gray_r"}
    clusterer = SCANClustering(n_clusters=10, random_state=0).fit(X)
    save(ViewsDisplay.from_estimator(clusterer, X, n_images=4, random_state=0, **ink))
    save(TrainingCurvesDisplay.from_estimator(clusterer))
    save(NumberOfClustersDisplay.from_estimator(clusterer, random_state=0))
    save(EmbeddingMapDisplay.from_estimator(clusterer, X, thumbnails=True, **ink))
    few = SCANClustering(n_clusters=7, random_state=0).fit(X)
    save(diagnose(few, X).plot(**ink))


def draw_photographs(images, features):
    """Draw what is shown of photographs that are clustered by their features."""
    with np.load(images) as archive:
        images, y = archive["X_test"], archive["y_test"]
        names = archive["class_names"].tolist()
    with np.load(features) as archive:
        X = archive["F"].astype(np.float32)
    clusterer = SCANClustering(n_clusters=10, random_state=0).fit(X)
    save(PrototypesDisplay.from_estimator(clusterer, X, images=images, n_members=4))
    shown = {"indices": clusterer.confidence_.argsort()[:7], "n_neighbors": 6}
    save(NeighborsDisplay.from_estimator(clusterer, X, images=images, **shown))
    save(ClusterSizesDisplay.from_estimator(clusterer))
    save(StabilityDisplay.from_estimator(clusterer, random_state=0))
    save(ConfusionDisplay.from_predictions(y, clusterer.labels_, class_names=names))
    draw_reliability(clusterer, X, y)


def draw_reliability(clusterer, X, y):
    """Draw the reliability as the network was trained, and calibrated."""
    _, axes = plt.subplots(1, 2, figsize=(8.6, 4.9), layout="constrained")
    trained = copy.copy(clusterer)
    trained.temperature_ = 1.0
    pairs = (trained, "as the network was trained"), (clusterer, "calibrated")
    for ax, (asked, title) in zip(axes, pairs, strict=True):
        display = ReliabilityDisplay.from_estimator(asked, X, y, ax=ax)
        ax.set(xlabel=f"confidence, {title}")
    save(display)


def save(display):
    """Write the figure of a display, named after it, as a small file."""
    name = type(display).__name__.removesuffix("Display").lower()
    file = io.BytesIO()
    display.figure_.savefig(file, dpi=100, bbox_inches="tight", pad_inches=0.1)
    plt.close(display.figure_)
    # Of 256 colours a picture takes a third of the bytes.
    picture = Image.open(file).convert("RGB").quantize(256)
    path = FOLDER / f"{name}.png"
    picture.save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} KB")


def main():
    """Read the command line, and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, help="the .npz file of CIFAR-10")
    parser.add_argument("--features", type=Path, help="the .npz file of its features")
    options = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    if options.images and options.features:
        draw_photographs(options.images, options.features)
    draw_digits()


if __name__ == "__main__":
    main()
