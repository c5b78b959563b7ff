# SPDX-License-Identifier: BSD-3-Clause
"""
============================
How many clusters are there?
============================

SCAN is told the number of clusters and does not find it. Often there is no one right
answer either: animals, dogs and spaniels are all groups. What can be done is to cluster
with several numbers, and to see at what cost each further cluster comes.

Two sets of rows serve as examples, of which we know the number of classes and the
clusterer does not: three kinds of wine, and ten digits.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from sklearn_scan import SCANClustering

wine = StandardScaler().fit_transform(load_wine().data)
digits = PCA(40, random_state=0).fit_transform(load_digits().data)[:900]
numbers_of = {"wine": [2, 3, 4, 5, 6], "digits": [6, 8, 10, 12, 14]}

# %%
# The cut
# -------
#
# A cluster boundary parts neighbours. The share of neighbours that are in different
# clusters, the *cut*, grows with the number of clusters. As long as a further cluster
# only parts what is apart, it grows slowly; once clusters are cut through, it grows
# faster. So look for the number at which the curve bends upwards. (The same ``K`` for
# all numbers, or the cuts could not be compared.)

fig, axes = plt.subplots(1, 2, figsize=(8, 3.5), layout="constrained")
for ax, (name, X) in zip(axes, {"wine": wine, "digits": digits}.items(), strict=True):
    numbers, cuts, fitted = numbers_of[name], [], {}
    for n_clusters in numbers:
        clusterer = SCANClustering(n_clusters, K=10, random_state=0).fit(X)
        fitted[n_clusters] = clusterer
        of_neighbors = clusterer.labels_[clusterer.neighbors_]
        cuts.append((of_neighbors != clusterer.labels_[:, None]).mean())
    slopes = np.diff(cuts) / np.diff(numbers)
    print(f"{name:<7} cut", dict(zip(numbers, np.round(cuts, 3).tolist(), strict=True)))
    print(f"{'':<7} per further cluster", np.round(slopes, 3))
    ax.plot(numbers, cuts, marker="o")
    ax.set(title=name, xlabel="clusters", ylabel="cut", xticks=numbers, ylim=(0, None))

# %%
# Wine bends at three. Digits bend at twelve and not at ten: look at the prototypes of
# the twelve clusters. 1 and 7 are there more than once, since people write them in more
# than one way. These are groups of images, if not classes; the number that you want
# depends on what you want to call a group.

bunch = load_digits()
prototypes = sorted(fitted[12].prototypes_, key=lambda index: bunch.target[index])
fig, axes = plt.subplots(1, 12, figsize=(8, 0.9), layout="constrained")
for ax, index in zip(axes, prototypes, strict=True):
    ax.imshow(bunch.images[index], cmap="gray_r")
    ax.set(xticks=[], yticks=[])

# %%
# A bend may be weak or missing, and other neighbours (another ``K``, another embedding)
# move it. If in doubt, ask for more clusters than there can be, and merge:
# :ref:`sphx_glr_auto_examples_plot_overclustering.py`. The mean confidence does not
# tell: it is high at any number, and falls slowly as that grows.
