# SPDX-License-Identifier: BSD-3-Clause
"""
=============================
Too many clusters on purpose?
=============================

When the number of groups is not known, ask for more than there can be, and merge. Two
clusters of one group are merged in a moment; one cluster of two groups has to be sorted
image by image.

Ten digits are put into twenty clusters here, and brought back to ten without labels.
"""

import matplotlib.pyplot as plt
from scipy.cluster.hierarchy import cut_tree, dendrogram
from sklearn.datasets import load_digits

from sklearn_scan import SCANClustering, merge, merge_tree
from sklearn_scan.inspection import ConfusionDisplay, PrototypesDisplay
from sklearn_scan.metrics import hungarian_accuracy_score, majority_accuracy_score

digits = load_digits()
images, y = digits.images[:600], digits.target[:600]
clusterer = SCANClustering(n_clusters=20, random_state=0).fit(images)

# %%
# Two accuracies
# --------------
#
# *One to one*: a class has one cluster, and whatever is in the ten surplus clusters
# counts as wrong. *Majority*: each cluster has the name of its most frequent class. The
# second is what over-clustering is for, but it cannot fall when clusters are split, and
# reaches 1 with one image per cluster: compare it only at the same number of clusters.


def print_accuracies(name, labels):
    one_to_one = hungarian_accuracy_score(y, labels)
    majority = majority_accuracy_score(y, labels)
    print(f"{name:<20} one to one {one_to_one:.3f}   majority {majority:.3f}")


print_accuracies("20 clusters", clusterer.labels_)

# %%
# Most digits have more than one cluster. Look for rows of the same digit: are they two
# ways of writing it?

display = PrototypesDisplay.from_estimator(
    clusterer, images, n_members=12, cmap="gray_r"
)

# %%
# Merge what has neighbours in common
# -----------------------------------
#
# Two clusters that cut one group in two share many neighbours. ``merge_tree`` says in
# which order to merge: the lower two clusters are joined, the more neighbours they
# share. It is a linkage of scipy, which draws it and cuts it. (A person does this
# better, in a minute: see :ref:`sphx_glr_auto_examples_plot_rename_merge.py`.)

tree = merge_tree(clusterer)
fig, ax = plt.subplots(figsize=(8, 3), layout="constrained")
dendrogram(tree, ax=ax, color_threshold=0, above_threshold_color="0.4")
ax.set(xlabel="cluster", ylabel="share of neighbours\nthat are not shared")
ax.spines[["top", "right"]].set_visible(False)

# %%
# Merged clusters are a clusterer of their own: probabilities are summed, and it
# predicts new images.

merged = merge(clusterer, cut_tree(tree, 10), images)
print_accuracies("merged to 10", merged.labels_)
print("new images:", merged.predict(digits.images[600:606]), digits.target[600:606])

# %%
# Two pictures of the same images: the twenty clusters, of which ten are surplus and
# stand on the right, and the ten groups that they were merged to.

fig, axes = plt.subplots(
    1, 2, figsize=(10, 3.6), width_ratios=[2, 1], layout="constrained"
)
ConfusionDisplay.from_predictions(y, clusterer.labels_, ax=axes[0])
ConfusionDisplay.from_predictions(y, merged.labels_, ax=axes[1])
axes[0].set_title("20 clusters")
_ = axes[1].set_title("merged to 10")
