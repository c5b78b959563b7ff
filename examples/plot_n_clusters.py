# SPDX-License-Identifier: BSD-3-Clause
"""
============================
How many clusters are there?
============================

With ``n_clusters="auto"`` the number is estimated, without labels, by what stands apart
in the embedding. Often there is no one right answer: animals, dogs and spaniels are all
groups. So look at the curve behind the number, and at its doubt.

Three sets of rows serve as examples, of which we know the number of classes and the
estimate does not: three kinds of wine, ten digits, and noise.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits, load_wine
from sklearn.preprocessing import StandardScaler

from sklearn_scan import SCANClustering
from sklearn_scan.inspection import NumberOfClustersDisplay
from sklearn_scan.model_selection import estimate_n_clusters

digits = load_digits()
sets = {
    "wine": StandardScaler().fit_transform(load_wine().data),
    "digits": digits.data[:900],
    "noise": np.random.default_rng(0).normal(size=(300, 5)),
}

# %%
# The curve
# ---------
#
# Three criteria say how many clusters there are: the silhouette, or how much nearer
# samples are to their own cluster than to the next; whether clusters are found again in
# fewer samples; and the silhouette of k-means alone. The first decides, and is the
# curve. The gray interval has all three votes, and what parts of the samples say: where
# it is wide, believe no single number.

estimates = {name: estimate_n_clusters(X, random_state=0) for name, X in sets.items()}
fig, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
for ax, (name, estimate) in zip(axes, estimates.items(), strict=True):
    NumberOfClustersDisplay.from_estimate(estimate, ax=ax)
    ax.set_title(name, pad=75)
    low, high = estimate.interval
    doubt = ", doubtful" if estimate.is_doubtful else ""
    print(f"{name:<7} {estimate.n_clusters:2d}, from {low} to {high}{doubt}")
    print(estimate.votes)

# %%
# In noise there are no clusters: nothing is stable. (The estimate is at least
# two: whether there are groups at all is for you to see.)
#
# In a fit
# --------
#
# ``n_clusters="auto"`` estimates the number after the pretext, and goes on as if it had
# been given. It warns where the number is doubtful.

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    clusterer = SCANClustering(n_clusters="auto", random_state=0).fit(sets["digits"])
print(clusterer.n_clusters_, "clusters")

prototypes = [index for index in clusterer.prototypes_ if index >= 0]
prototypes.sort(key=lambda index: digits.target[index])
fig, axes = plt.subplots(1, len(prototypes), figsize=(8, 0.9), layout="constrained")
for ax, index in zip(axes, prototypes, strict=True):
    ax.imshow(digits.images[index], cmap="gray_r")
    ax.set(xticks=[], yticks=[])

# %%
# Look for digits that are missing, or there twice: people write the 1 in more than one
# way. These are groups of images, if not classes; the number that you want depends on
# what you want to call a group. If in doubt, ask for more clusters than there can be,
# and merge: :ref:`sphx_glr_auto_examples_plot_overclustering.py`.
