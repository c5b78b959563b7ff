# SPDX-License-Identifier: BSD-3-Clause
"""
===========================================
In which cluster is a new image, if in any?
===========================================

``predict`` puts every new image into one of the clusters, also one that shows something
else. How well does the confidence say that an image is of no cluster?

The clusterer is fitted on digits from 0 to 7. The new images are others of these, and
all 8s and 9s, which it has never seen.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from sklearn_scan import SCANClustering
from sklearn_scan.metrics import hungarian_accuracy_score

digits = load_digits()
images, y = digits.images, digits.target
fitted = np.flatnonzero(y < 8)[:600]
new = np.setdiff1d(np.arange(len(y)), fitted)
clusterer = SCANClustering(n_clusters=8, random_state=0).fit(images[fitted])

# %%
# New images of known kinds
# -------------------------
#
# They are put where the fitted ones of their kind are.

probabilities = clusterer.predict_proba(images[new])
labels, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
is_unknown = y[new] >= 8
before = hungarian_accuracy_score(y[fitted], clusterer.labels_)
after = hungarian_accuracy_score(y[new][~is_unknown], labels[~is_unknown])
print(f"accuracy: {before:.3f} of the fitted images, {after:.3f} of new ones")

# %%
# New images of other kinds
# -------------------------
#
# An 8 has to go somewhere. The network is less sure of it on average, and the area
# under the ROC curve is high. But confidence is not made for this: of some 8s and 9s it
# is as sure as can be.

print(f"area under the ROC curve: {roc_auc_score(is_unknown, -confidence):.3f}")
for least in (0.9, 0.99):
    is_over = confidence > least
    known, unknown = is_over[~is_unknown].mean(), is_over[is_unknown].mean()
    print(f"confidence over {least}: {known:.0%} of 0 to 7, {unknown:.0%} of 8 and 9")

# %%
# A threshold without labels
# --------------------------
#
# The confidence of the fitted images says what is usual. Take what nineteen out of
# twenty of them reach, and set aside new images below it for a person to look at. That
# finds most images of other kinds, not all, and costs five to ten in a hundred of the
# others.

usual = np.quantile(clusterer.confidence_, 0.05)
is_aside = confidence < usual
known, unknown = is_aside[~is_unknown].mean(), is_aside[is_unknown].mean()
print(f"set aside below {usual:.3f}: {known:.0%} of 0 to 7, {unknown:.0%} of 8 and 9")

# %%
# The picture shows where the threshold cuts; the network is sure on the left. The lower
# one has the 8s and 9s of which it is most sure. Are they written like another digit?

fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
doubt = (1 - confidence).clip(1e-5)
bins = np.geomspace(1e-5, 1, 40)
for name, kind in (("0 to 7", ~is_unknown), ("8 and 9, never seen", is_unknown)):
    ax.hist(doubt[kind], bins, alpha=0.6, label=name)
ax.axvline(1 - usual, color="black", linestyle="--", label="threshold")
ax.set(xlabel="1 - confidence", ylabel="images", xscale="log")
_ = ax.legend()

surest = np.flatnonzero(is_unknown)[np.argsort(-confidence[is_unknown])][:10]
fig, axes = plt.subplots(1, 10, figsize=(7, 1.1), layout="constrained")
for ax, sample in zip(axes, surest, strict=True):
    ax.imshow(images[new][sample], cmap="gray_r")
    ax.set(xticks=[], yticks=[])
    ax.set_title(f"{confidence[sample]:.4f}", size=8)
