# SPDX-License-Identifier: BSD-3-Clause
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

from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from sklearn_scan import SCANClustering
from sklearn_scan.inspection import PrototypesDisplay
from sklearn_scan.metrics import hungarian_accuracy_score

default_output = Path(__file__).resolve().parent.parent / "docs" / "digits.png"
parser = argparse.ArgumentParser(description="Cluster digits, and draw the clusters.")
parser.add_argument("--output", type=Path, default=default_output)
output = parser.parse_args().output

# %%
# Cluster the images
# ------------------
#
# The images are all that is given, and the defaults are left as they are. One line per
# stage says how long it will take, and then what came of it.

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

display = PrototypesDisplay.from_estimator(
    clusterer, images, n_members=12, cmap="gray_r"
)
display.figure_.suptitle(f"SCANClustering of {len(images):,} digits, without labels")

output.parent.mkdir(parents=True, exist_ok=True)
display.figure_.savefig(output, dpi=150, bbox_inches="tight", pad_inches=0.15)
print(f"\nThe picture is at {output}")
