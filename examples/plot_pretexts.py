# SPDX-License-Identifier: BSD-3-Clause
"""
======================================
Which pretext task suits these images?
======================================

A pretext task says which images are alike, and the later steps of SCAN learn from that,
its mistakes included. Pretext tasks are transformers of their own, so they can be
compared before anything is clustered.

Each task is given 500 digits and 40 epochs, a fifth of its default here, so that this
page is quick.
"""

import matplotlib.pyplot as plt
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits

from sklearn_scan.metrics import hungarian_accuracy_score, neighbor_purity_score
from sklearn_scan.neighbors import mine_neighbors
from sklearn_scan.pretext import (
    BYOL,
    InstanceDiscrimination,
    Pretrained,
    RotNet,
    SimCLR,
)

digits = load_digits()
images, y = digits.images[:500], digits.target[:500]
tasks = {
    "SimCLR": SimCLR(epochs=40, random_state=0),
    "InstanceDiscrimination": InstanceDiscrimination(epochs=40, random_state=0),
    "BYOL": BYOL(epochs=40, random_state=0),
    "RotNet": RotNet(epochs=40, random_state=0),
    "untrained network": Pretrained(random_state=0),
}
embeddings = {name: task.fit_transform(images) for name, task in tasks.items()}
embeddings["pixels"] = images.reshape(len(images), -1)

# %%
# With some labels
# ----------------
#
# Of the ten nearest neighbours of an image, how many are of its class? And does KMeans
# find the classes?

neighbors = {name: mine_neighbors(rows, K=10) for name, rows in embeddings.items()}
print(f"{'':<24}{'neighbours':>12}{'KMeans':>10}")
purities = {}
for name, rows in embeddings.items():
    purities[name] = neighbor_purity_score(neighbors[name], y)
    labels = KMeans(10, n_init=10, random_state=0).fit_predict(rows)
    accuracy = hungarian_accuracy_score(y, labels)
    print(f"{name:<24}{purities[name]:>12.3f}{accuracy:>10.3f}")

fig, ax = plt.subplots(figsize=(6, 2.6), layout="constrained")
order = sorted(purities, key=purities.get)
bars = ax.barh(order, [1 - purities[name] for name in order])
ax.bar_label(bars, fmt="{:.1%}", padding=3)
ax.set(xlabel="neighbours of another class", xticks=[])
ax.margins(x=0.15)
ax.spines[["top", "right", "bottom"]].set_visible(False)

# %%
# The three tasks that compare views do better than pixels, since their views say what
# does not matter: where a digit stands, and how it leans. Rotation does worse than no
# training: a 0 looks the same upside down, and to tell how an image was turned, a
# network need not know what it shows.
#
# Without labels
# --------------
#
# Look at neighbours. The same images, on the left, with their nearest eight as two
# tasks see them. Count the rows in which you see more than one digit.

shown = range(4, 10)
fig, axes = plt.subplots(len(shown), 17, figsize=(9, 3.4), layout="constrained")
for row, sample in zip(axes, shown, strict=True):
    nearest = [neighbors[name][sample, :8] for name in ("SimCLR", "RotNet")]
    indices = [sample, *nearest[0], *nearest[1]]
    for ax, index in zip(row, indices, strict=True):
        ax.imshow(images[index], cmap="gray_r")
        ax.set(xticks=[], yticks=[])
    row[0].spines[:].set(color="tab:red", linewidth=2)
axes[0, 4].set_title("SimCLR", fontsize="medium")
_ = axes[0, 12].set_title("RotNet", fontsize="medium")
