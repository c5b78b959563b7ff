# SPDX-License-Identifier: BSD-3-Clause
"""
=========================================
How do I use a network trained elsewhere?
=========================================

A pretrained encoder sees each image once, and nothing is trained but heads on what it
says of them. With a connection to the internet, photographs need no more than this::

    SCANClustering(n_clusters=12, pretext=Pretrained("dinov2"), memory="cache")

and without one, the weights as a file that was fetched elsewhere::

    Pretrained("torchvision/ResNet50_Weights.IMAGENET1K_V2", weights="resnet50.pth")

This page is built without a connection, so it shows the third way: a network of one's
own, and a file of its weights. "Elsewhere" is the first block below.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import torch
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from torch import nn
from torchvision.ops import Conv2dNormActivation

from sklearn_scan import SCANClustering
from sklearn_scan.metrics import hungarian_accuracy_score
from sklearn_scan.pretext import Pretrained, SimCLR

digits = load_digits()
theirs = digits.images[:900]
mine, y = digits.images[900:], digits.target[900:]
folder = TemporaryDirectory()
weights = Path(folder.name, "weights.pt")

# %%
# Elsewhere: train and save
# -------------------------
#
# Somebody has trained a network on digits, by whatever means, and has saved its
# weights. A function is given the shape of an image and returns the network, from
# images to features. (If it is defined in a module, and not in a script, the fitted
# clusterer can be pickled.)


def make_network(shape):
    return nn.Sequential(
        Conv2dNormActivation(shape[0], 32),
        Conv2dNormActivation(32, 64, stride=2),
        Conv2dNormActivation(64, 128),
        Conv2dNormActivation(128, 128, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


trained = SimCLR(encoder=make_network, random_state=0).fit(theirs)
torch.save(trained.net_.module_.encoder.network.state_dict(), weights)

# %%
# Here: load and cluster
# ----------------------
#
# ``mean`` and ``std`` are those that the network was trained with, of pixels from 0 to
# 1. (Encoders with a name know theirs, and the size of their images.) The same network
# with random weights shows how much of the result is owed to the file.

mean, std = float(theirs.mean() / 16), float(theirs.std() / 16)
encoder = Pretrained(make_network, weights, mean=(mean,), std=(std,))
untrained = Pretrained(make_network, mean=(mean,), std=(std,), random_state=0)
clusterer = SCANClustering(n_clusters=10, pretext=encoder, random_state=0).fit(mine)
baseline = SCANClustering(n_clusters=10, pretext=untrained, random_state=0).fit(mine)

pixels = mine.reshape(len(mine), -1)
labels_of = {
    "KMeans on pixels": KMeans(10, n_init=10, random_state=0).fit_predict(pixels),
    "random weights": baseline.labels_,
    "weights from the file": clusterer.labels_,
}
accuracies = {
    name: hungarian_accuracy_score(y, labels) for name, labels in labels_of.items()
}
for name, accuracy in accuracies.items():
    print(f"{name:<24}{accuracy:.3f}")

# %%
# The pictures were never trained on, and their groups are found all the same, since the
# network knows from similar ones what to look at. A network that has learned from
# images of another kind may be worse than none: look at what it takes for neighbours.

fig, axes = plt.subplots(4, 9, figsize=(6, 3), layout="constrained")
for sample, row in enumerate(axes):
    shown = [sample, *clusterer.neighbors_[sample, :8]]
    for ax, index in zip(row, shown, strict=True):
        ax.imshow(mine[index], cmap="gray_r")
        ax.set(xticks=[], yticks=[])
    row[0].spines[:].set(color="tab:red", linewidth=2)
_ = fig.suptitle("Four images, and the nearest eight of each", fontsize="medium")

# %%
# Each image is looked at once
# ----------------------------
#
# With ``memory=``, features are kept by the content of each image. Another number of
# clusters, or a folder to which some images were added, embeds only what is new.

cached = SCANClustering(n_clusters=10, pretext=encoder, memory=folder.name)
cached.set_params(random_state=0).fit(mine[:600])
first = cached.history_["pretext"][-1]
second = cached.set_params(n_clusters=12).fit(mine).history_["pretext"][-1]
for record in (first, second):
    print(f"{record['images']} images, {record['embedded']} of them embedded")
folder.cleanup()
