# SPDX-License-Identifier: BSD-3-Clause
"""
============================================
Which settings: with labels, or without any?
============================================

If some samples have labels, ``GridSearchCV`` compares with them, while the clusterer
never sees them. If there are none, ``LabelFreeSearch`` fits all candidates, and judges
every one in the embeddings of all. This page does both, and shows how far the second
agrees with the first.
"""

import matplotlib.pyplot as plt
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from sklearn_scan import SCANClustering
from sklearn_scan.inspection import RankingDisplay
from sklearn_scan.metrics import hungarian_accuracy_score, hungarian_accuracy_scorer
from sklearn_scan.model_selection import LabelFreeSearch

X, y = load_digits(return_X_y=True)
X, y = X[:800], y[:800]
clusterer = SCANClustering(10, pretext=PCA(random_state=0), n_heads=2, random_state=0)
grid = {"pretext__n_components": [4, 10, 40], "K": [5, 20]}

# %%
# With labels
# -----------
#
# A scorer is a function of the fitted clusterer, the samples of a fold and their
# labels.

cv = StratifiedKFold(2, shuffle=True, random_state=0)
with_labels = GridSearchCV(clusterer, grid, scoring=hungarian_accuracy_scorer, cv=cv)
print(with_labels.fit(X, y).best_params_)

# %%
# Without
# -------
#
# Each partition is judged in the embeddings of all candidates, here three numbers of
# components, and compared with all other partitions. The bars are two standard errors
# of the difference to the best: what reaches the dashed line may be as good. The
# percentage says how often a candidate is the best of a bootstrap sample.

search = LabelFreeSearch(clusterer, grid).fit(X)
print(search.best_params_)
_ = RankingDisplay.from_estimator(search)

# %%
# Do they agree?
# --------------
#
# The accuracy of each candidate, which the search has not seen, over its score.

accuracies = [
    hungarian_accuracy_score(y, clusterer.set_params(**params).fit(X).labels_)
    for params in search.cv_results_["params"]
]
scores = search.cv_results_["mean_test_score"]
regret = max(accuracies) - accuracies[search.best_index_]
print(f"Spearman's correlation {spearmanr(scores, accuracies).statistic:.2f}")
print(f"accuracy lost to the best candidate {regret:.3f}")

fig, ax = plt.subplots(figsize=(4.5, 3.5), layout="constrained")
ax.scatter(scores, accuracies)
ax.scatter(*[[values[search.best_index_]] for values in (scores, accuracies)], s=90)
ax.set(xlabel="score, needs no labels", ylabel="accuracy, needs labels")
_ = ax.set_title("each candidate; the chosen one is large")
