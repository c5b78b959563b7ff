# SPDX-License-Identifier: BSD-3-Clause
# ruff: noqa: D205, D400 (sphinx-gallery wants a title, not a sentence)
"""
=========================================
Ten groups of digits that nobody labelled
=========================================

:class:`~sklearn_scan.SCANClustering` is given 1,797 handwritten digits of 8 x 8 pixels,
and that there are ten kinds of them. It is not told which is which. The picture shows
what a person without labels would look at: each cluster's prototype, and members drawn
at random. The classes, which scikit-learn has, serve only to score the result.

Run as a script, it writes the picture to ``docs/digits.png``, or to where ``--output``
says.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from sklearn_scan import SCANClustering
from sklearn_scan.metrics import hungarian_accuracy_score

default_output = Path(__file__).resolve().parent.parent / "docs" / "digits.png"
parser = argparse.ArgumentParser(description="Cluster digits, and draw the clusters.")
parser.add_argument("--output", type=Path, default=default_output)
output = parser.parse_args().output

# %%
# Cluster the images
# ------------------
#
# The images are all that is given, and the defaults are left as they are. For every
# epoch a line says how long the stage will take.

digits = load_digits()
images = digits.images
clusterer = SCANClustering(n_clusters=10, random_state=0, verbose=1).fit(images)

# %%
# Compare with KMeans
# -------------------
#
# KMeans on pixels is the usual baseline. KMeans on the embedding shows how much of the
# result is due to the pretext, and how much to the steps after it.


def kmeans_labels(rows):
    return KMeans(10, n_init=10, random_state=0).fit_predict(rows)


labels_of = {
    "SCANClustering": clusterer.labels_,
    "KMeans on pixels": kmeans_labels(images.reshape(len(images), -1)),
    "KMeans on the embedding": kmeans_labels(clusterer.embedding_),
}
print(f"\n{'':<24}{'ACC':>7}{'NMI':>7}{'ARI':>7}")
for method, labels in labels_of.items():
    accuracy = hungarian_accuracy_score(digits.target, labels)
    information = normalized_mutual_info_score(digits.target, labels)
    rand = adjusted_rand_score(digits.target, labels)
    print(f"{method:<24}{accuracy:>7.3f}{information:>7.3f}{rand:>7.3f}")

# %%
# Look at the clusters
# --------------------
#
# A row is a cluster: its prototype in the frame, and twelve of its members.

N_SHOWN = 12
INK, ACCENT = "0.15", "#d1495b"


def draw_image(axes, image):
    axes.imshow(image, cmap="gray_r", vmin=0, vmax=16, interpolation="nearest")
    for spine in axes.spines.values():
        spine.set(visible=True, color="0.85", linewidth=0.6)


def draw_cluster(row, cluster, random):
    """Draw a cluster into a row of axes: label, prototype, gap, members."""
    label, prototype, _, *others = row
    members = np.flatnonzero(clusterer.labels_ == cluster)
    text = f"cluster {cluster} \N{EN DASH} {len(members)} images"
    label.text(0.96, 0.5, text, ha="right", va="center", color=INK, fontsize=10)
    if len(members) == 0:
        return
    draw_image(prototype, images[clusterer.prototypes_[cluster]])
    for spine in prototype.spines.values():
        spine.set(color=ACCENT, linewidth=2)
    shown = random.choice(members, size=min(N_SHOWN, len(members)), replace=False)
    for axes, member in zip(others, shown, strict=False):
        draw_image(axes, images[member])


# Inches: margins around the grid; images are 0.46 wide, the label and the gap differ.
widths = [1.65, 0.46, 0.14, *[0.46] * N_SHOWN]
space, top, margin = 0.06, 0.7, 0.15
n_rows = clusterer.n_clusters
width = sum(widths) + space * (len(widths) - 1) + 2 * margin
height = n_rows * 0.46 + space * (n_rows - 1) + top + margin
figure, grid = plt.subplots(
    n_rows,
    len(widths),
    figsize=(width, height),
    gridspec_kw={
        "width_ratios": widths,
        "wspace": space / np.mean(widths),
        "hspace": space / 0.46,
        "left": margin / width,
        "right": 1 - margin / width,
        "bottom": margin / height,
        "top": 1 - top / height,
    },
)
for axes in grid.flat:
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
random = np.random.default_rng(0)
for cluster, row in enumerate(grid):
    draw_cluster(row, cluster, random)

heading = {"color": "0.4", "fontsize": 9, "pad": 7}
grid[0, 1].set_title("prototype", **heading | {"color": ACCENT})
grid[0, 3].set_title("members drawn at random", loc="left", **heading)
figure.suptitle(
    f"SCANClustering of {len(images):,} digits, without labels",
    x=0.5,
    y=1 - 0.12 / height,
    va="top",
    color=INK,
    fontsize=13,
)

output.parent.mkdir(parents=True, exist_ok=True)
figure.savefig(output, dpi=150, facecolor="white")
print(f"\nThe picture is at {output}")
