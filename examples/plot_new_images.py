# SPDX-License-Identifier: BSD-3-Clause
"""
===========================================
In which cluster is a new image, if in any?
===========================================

``predict`` puts every new image into one of the clusters, also one that shows something
else, unless it is told to refuse some. Which ones, and how many images of known kinds
are lost?

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

labels, is_unknown = clusterer.predict(images[new]), y[new] >= 8
before = hungarian_accuracy_score(y[fitted], clusterer.labels_)
after = hungarian_accuracy_score(y[new][~is_unknown], labels[~is_unknown])
print(f"accuracy: {before:.3f} of the fitted images, {after:.3f} of new ones")

# %%
# New images of other kinds
# -------------------------
#
# An 8 has to go somewhere. Two numbers may tell that it belongs nowhere: the network is
# less sure of it, and it is farther from the images that were fitted than these are
# from each other, which is what ``novelty_score`` measures. The area under the ROC
# curve says how often an 8 or 9 scores higher than another digit.

confidence = clusterer.predict_proba(images[new]).max(axis=1)
novelty = clusterer.novelty_score(images[new])
for name, score in (("confidence", -confidence), ("novelty", novelty)):
    print(f"area under the ROC curve, {name}: {roc_auc_score(is_unknown, score):.3f}")

# %%
# None of these
# -------------
#
# With ``novelty_rate=0.05``, images are refused whose novelty exceeds what one in
# twenty of the fitted images reach, each compared with the others. No label is needed
# for it, and the price is known: about that share of images of known kinds.

for rate in (0.01, 0.05, 0.1):
    is_refused = clusterer.predict(images[new], novelty_rate=rate) == -1
    known, unknown = is_refused[~is_unknown].mean(), is_refused[is_unknown].mean()
    print(f"rate {rate:.2f} refuses {known:.0%} of 0 to 7, {unknown:.0%} of 8 and 9")

# %%
# The picture shows both kinds. Below are the 8s and 9s that look most familiar. Are
# they written like another digit?

fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
bins = np.linspace(novelty.min(), np.quantile(novelty, 0.995), 40)
for name, kind in (("0 to 7", ~is_unknown), ("8 and 9, never seen", is_unknown)):
    ax.hist(novelty[kind], bins, alpha=0.6, label=name)
ax.set(xlabel="novelty", ylabel="images")
_ = ax.legend()

familiar = np.flatnonzero(is_unknown)[np.argsort(novelty[is_unknown])][:10]
fig, axes = plt.subplots(1, 10, figsize=(7, 1.1), layout="constrained")
for ax, sample in zip(axes, familiar, strict=True):
    ax.imshow(images[new][sample], cmap="gray_r")
    ax.set(xticks=[], yticks=[])
    ax.set_title(f"{novelty[sample]:.2f}", size=8)
