# SPDX-License-Identifier: BSD-3-Clause
"""
=======================================
Is it better than KMeans on embeddings?
=======================================

You have embeddings already: rows of DINOv2, CLIP or a network of your own. Rows are
clustered as they are: nothing but linear heads is trained on them, which takes seconds.

KMeans asks how far a row is from the centre of its cluster. SCAN asks whether a row and
its nearest neighbours are in the same cluster, so that a cut goes where there are few
neighbours to part. The rows of this page are the first 40 principal components of
handwritten digits, in place of an embedding.
"""

import matplotlib.pyplot as plt
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from sklearn_scan import SCANClustering
from sklearn_scan.metrics import align_labels, hungarian_accuracy_score

X, y = load_digits(return_X_y=True)
X = PCA(40, random_state=0).fit_transform(X)

clusterer = SCANClustering(n_clusters=10, random_state=0).fit(X)
labels_of = {
    "KMeans": KMeans(10, n_init=10, random_state=0).fit_predict(X),
    "SCANClustering": clusterer.labels_,
}

# %%
# Two figures
# -----------
#
# The first needs no labels: how many of the twenty nearest neighbours of a row are in
# its cluster? The second compares with the classes, which neither method has seen.

print(f"{'':<16}{'neighbours':>12}{'accuracy':>10}")
for method, labels in labels_of.items():
    together = (labels[clusterer.neighbors_] == labels[:, None]).mean()
    accuracy = hungarian_accuracy_score(y, labels)
    print(f"{method:<16}{together:>12.3f}{accuracy:>10.3f}")

# %%
# Where they differ
# -----------------
#
# A map of the rows in two dimensions, with a colour for each cluster. Rows whose
# cluster stands for another class are black. Look for islands that are black, or in
# part black: these are groups that a method has cut, or has given to the island beside
# it.

places = TSNE(init="pca", random_state=0).fit_transform(X)
fig, axes = plt.subplots(1, 2, figsize=(9, 4.5), layout="constrained")
for ax, (method, labels) in zip(axes, labels_of.items(), strict=True):
    named = align_labels(y, labels)
    wrong = named != y
    ax.scatter(*places[~wrong].T, c=named[~wrong], cmap="tab10", s=6)
    ax.scatter(*places[wrong].T, c="black", s=6)
    ax.set(title=f"{method}: {wrong.sum()} black", xticks=[], yticks=[])

# %%
# Rows keep the scale that they come with, as in KMeans: a feature of large values
# counts for more. Scale them first, for example by
# :class:`~sklearn.preprocessing.StandardScaler`, where their units say nothing. New
# rows are for ``clusterer.predict``. On other rows KMeans may do as well, or UMAP
# followed by KMeans better: the first of the two figures can be had for any of them.
