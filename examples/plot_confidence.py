# SPDX-License-Identifier: BSD-3-Clause
"""
====================================
What does a confidence of 0.99 mean?
====================================

``confidence_`` is the largest cluster probability of an image. Probabilities are
calibrated without labels, so that 0.8 should mean "right in eight of ten cases". Here
that is measured against labels, once with as many clusters as classes, and once with
too few.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import logit
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from sklearn_scan import SCANClustering

X, y = load_digits(return_X_y=True)
X = PCA(40, random_state=0).fit_transform(X)


def find_right(labels):
    """Say of each sample whether it is of the most frequent class of its cluster."""
    clusters = range(labels.max() + 1)
    names = [np.bincount(y[labels == cluster]).argmax() for cluster in clusters]
    return np.array(names)[labels] == y


clusterers, right = {}, {}
for n_clusters in (10, 8):
    clusterer = SCANClustering(n_clusters, random_state=0).fit(X)
    clusterers[n_clusters] = clusterer
    right[n_clusters] = find_right(clusterer.labels_)
    confidence, share = clusterer.confidence_.mean(), right[n_clusters].mean()
    print(f"{n_clusters:>2} clusters: confidence {confidence:.3f}, right {share:.3f}")

# %%
# Sure of what?
# -------------
#
# Without labels, what can be known is how often the neighbours of an image are in its
# cluster, and the confidence is brought to that. With eight clusters for ten digits,
# some clusters have to hold more than one digit; neighbours agree about them all the
# same. So the confidence says how sure it is that an image belongs *to its cluster*. It
# cannot say that the cluster is a class.
#
# On the left, tenths of the images from the least to the most sure. If confidence were
# the share that is right, solid lines would follow the dashed ones. Where they lie
# below, whole clusters are wrong; they rise, so that the order can be trusted. On the
# right, each point is a cluster, and the dashed line is where the two would be equal.

fig, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
for n_clusters, color in ((10, "C0"), (8, "C1")):
    clusterer = clusterers[n_clusters]
    confidence, is_right = clusterer.confidence_, right[n_clusters]
    tenths = np.array_split(np.argsort(confidence), 10)
    shares = [is_right[tenth].mean() for tenth in tenths]
    means = [confidence[tenth].mean() for tenth in tenths]
    axes[0].plot(shares, "o-", color=color, label=f"{n_clusters} clusters: right")
    axes[0].plot(means, "--", color=color, label=f"{n_clusters} clusters: confidence")
    members = [clusterer.labels_ == cluster for cluster in range(n_clusters)]
    axes[1].scatter(
        [confidence[each].mean() for each in members],
        [is_right[each].mean() for each in members],
        color=color,
    )
    print(
        f"{n_clusters:>2} clusters: {shares[0]:.2f} of the least sure tenth are right, "
        f"{shares[-1]:.2f} of the most sure"
    )
axes[0].set(xlabel="from the least to the most sure tenth", ylabel="share of images")
axes[0].legend(fontsize="small")
axes[1].plot([0.5, 1], [0.5, 1], "k--")
_ = axes[1].set(xlabel="mean confidence of a cluster", ylabel="share that is right")

# %%
# Calibrate with some labels
# --------------------------
#
# A hundred and fifty labelled images, drawn at random, say what a confidence is worth
# here: logistic regression from the confidence, on the logit scale, to whether an image
# is right. The gap between confidence and share, over tenths of the other images,
# shrinks. This holds on average: within one cluster the calibrated confidence can still
# be far off.


def find_gap(confidence, is_right):
    """Return the mean distance of confidence and share that is right, over tenths."""
    tenths = np.array_split(np.argsort(confidence), 10)
    gaps = [confidence[tenth].mean() - is_right[tenth].mean() for tenth in tenths]
    return np.abs(gaps).mean()


confidence, is_right = clusterers[8].confidence_, right[8]
logits = logit(confidence.clip(max=1 - 1e-6))[:, None]
order = np.random.default_rng(0).permutation(len(y))
labelled, others = order[:150], order[150:]
calibrator = LogisticRegression().fit(logits[labelled], is_right[labelled])
calibrated = calibrator.predict_proba(logits[others])[:, 1]
print(f"gap without labels: {find_gap(confidence[others], is_right[others]):.3f}")
print(f"gap with 150 labels: {find_gap(calibrated, is_right[others]):.3f}")
