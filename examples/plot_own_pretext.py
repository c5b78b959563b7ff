# SPDX-License-Identifier: BSD-3-Clause
"""
================================
Can I bring my own pretext task?
================================

In two ways. Whatever has ``fit`` and ``transform`` gives an embedding, and heads are
trained on it. A task of :mod:`sklearn_scan.pretext` trains an encoder, which the later
steps train on; to make one, say what is shown to the network, and what the loss is.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from torch import nn

from sklearn_scan import SCANClustering
from sklearn_scan.inspection import PrototypesDisplay
from sklearn_scan.metrics import hungarian_accuracy_score, neighbor_purity_score
from sklearn_scan.pretext import SimCLR

digits = load_digits()
images, y = digits.images[:600], digits.target[:600]


def describe(name, clusterer):
    purity = neighbor_purity_score(clusterer.neighbors_, y)
    accuracy = hungarian_accuracy_score(y, clusterer.labels_)
    print(f"{name:<16} neighbours {purity:.3f}   accuracy {accuracy:.3f}")


# %%
# Any transformer
# ---------------
#
# It is given images as rows, and what it returns is clustered as it is. A pipeline will
# do as well.

pca = PCA(20, random_state=0)
clusterer = SCANClustering(n_clusters=10, pretext=pca, random_state=0)
describe("PCA", clusterer.fit(images))

# %%
# A loss of your own
# ------------------
#
# Barlow Twins (Zbontar et al., 2021) shows two views of each image, as SimCLR does, and
# asks that the features of both be alike and say different things: their correlation
# matrix C is to be the identity. The loss is the sum of (1 - C_ii)² and of λ C_ij² for
# all i other than j; λ is one by the number of features here.
#
# A loss is a module. It returns what is to be minimised, and what is worth a column in
# ``history_``. The task is a subclass that puts its network and its loss together; here
# the network is SimCLR's.


def standardize(features):
    return (features - features.mean(dim=0)) / features.std(dim=0)


class BarlowTwinsLoss(nn.Module):
    """The squared distance of a correlation matrix from the identity."""

    def forward(self, first, second):
        first, second = standardize(first.float()), standardize(second.float())
        correlation = first.T @ second / len(first)
        diagonal = correlation.diagonal()
        alike = (1 - diagonal).square().sum()
        repeated = correlation.square().sum() - diagonal.square().sum()
        loss = alike + repeated / len(diagonal)
        return loss, {"loss": loss, "alike": diagonal.mean()}


class BarlowTwins(SimCLR):
    """The loss of Barlow Twins on SimCLR's two views."""

    def make_task(self, encoder, views, n_samples):
        network, _ = super().make_task(encoder, views, n_samples)
        return network, BarlowTwinsLoss()


clusterer = SCANClustering(n_clusters=10, pretext=BarlowTwins(), random_state=0)
describe("Barlow Twins", clusterer.fit(images))

# %%
# A task that needs parameters of its own, another network or other data is one file
# more: the page on adding a pretext task has the parts.
#
# Does it learn?
# --------------
#
# What the loss records is in ``history_``. The correlation of a feature of one view
# with the same feature of the other rises towards one: views change less and less of
# what the network sees.

fig, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
for ax, key in zip(axes, ("loss", "alike"), strict=True):
    ax.plot([record[key] for record in clusterer.history_["pretext"]])
    ax.set(title=key, xlabel="epoch", ylim=(0, None))

# %%
# And the clusters: most rows show one digit.

display = PrototypesDisplay.from_estimator(
    clusterer, images, n_members=12, cmap="gray_r"
)
