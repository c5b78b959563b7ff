# SPDX-License-Identifier: BSD-3-Clause
"""
============================================
Which settings: with labels, or without any?
============================================

``GridSearchCV`` works as for a classifier. If some samples have labels, a scorer
compares with them, while the clusterer never sees them. If there are none, the
clusterer's own ``score`` says how well neighbours agree. This page searches once,
computes both, and shows what the second can choose, and what it cannot.
"""

from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from sklearn_scan import SCANClustering
from sklearn_scan.metrics import hungarian_accuracy_scorer

X, y = load_digits(return_X_y=True)
X, y = PCA(40, random_state=0).fit_transform(X)[:800], y[:800]

# %%
# One search, two scores
# ----------------------
#
# A scorer is a function of the fitted clusterer, the samples of a fold and their
# labels. With ``memory=`` each part of a fit is done once: candidates that differ in a
# later part alone share the earlier ones, and a repeated search reads all of it. On
# images this is what makes a search possible, as the pretext is then trained once per
# fold.


def label_free_score(clusterer, X, y=None):
    return clusterer.score(X)


folder = TemporaryDirectory()
search = GridSearchCV(
    SCANClustering(K=10, memory=folder.name, random_state=0),
    {"n_clusters": [8, 10, 12], "entropy_weight": [0.5, 5.0]},
    scoring={"accuracy": hungarian_accuracy_scorer, "score": label_free_score},
    refit="accuracy",
    cv=StratifiedKFold(2, shuffle=True, random_state=0),
)
search.fit(X, y)
folder.cleanup()
print("with labels:", search.best_params_)

# %%
# What each can choose
# --------------------
#
# With labels, the peak is at ten clusters, as it should be. ``score`` grows with the
# number of clusters, whatever is in them, so it cannot choose that number; nor can it
# compare different ``K`` or different pretexts, with which the neighbours change that
# it is computed from. What it can do is to compare other settings at one number of
# clusters. At ten, both prefer the larger weight of the entropy. At eight and twelve
# the weight makes little difference, and they need not agree.

results = search.cv_results_
table = {
    (params["n_clusters"], params["entropy_weight"]): row
    for row, params in enumerate(results["params"])
}
numbers, weights = [8, 10, 12], [0.5, 5.0]
fig, axes = plt.subplots(1, 2, figsize=(8, 3.5), layout="constrained")
for ax, name in zip(axes, ("accuracy", "score"), strict=True):
    for weight in weights:
        means = [results[f"mean_test_{name}"][table[n, weight]] for n in numbers]
        ax.plot(numbers, means, marker="o", label=f"entropy_weight={weight}")
        print(f"{name:<9} weight {weight}:", " ".join(f"{mean:.3f}" for mean in means))
    ax.set(xlabel="n_clusters", xticks=numbers)
axes[0].set_title("accuracy, needs labels")
axes[1].set_title("score, needs none")
_ = axes[1].legend()

# %%
# Without any labels the search is ``GridSearchCV(clusterer, grid).fit(X)``, with the
# number of clusters given.
