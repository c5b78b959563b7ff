# SPDX-License-Identifier: BSD-3-Clause
"""
=============================
Does it fit into my pipeline?
=============================

:class:`~sklearn_scan.SCANClustering` is a clusterer and a transformer of scikit-learn.
It takes the images as rows of a table, stands at the end of a pipeline, and what it has
learned without labels can serve a classifier that has few.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from sklearn_scan import SCANClustering
from sklearn_scan.metrics import hungarian_accuracy_score

X, y = load_digits(return_X_y=True)
X, X_new, y, y_new = train_test_split(X, y, train_size=600, random_state=0)

# %%
# At the end of a pipeline
# ------------------------
#
# A pipeline hands on rows, so ``image_shape`` says how a row becomes an image.
# Parameters have the usual names:
# ``pipeline.set_params(scanclustering__n_clusters=12)``.

pipeline = make_pipeline(
    MinMaxScaler(),
    SCANClustering(n_clusters=10, image_shape=(8, 8), random_state=0),
)
pipeline.fit(X)

labels = pipeline.predict(X_new)
print(f"{len(X)} images clustered, {len(labels)} others predicted")
print(f"accuracy on the others: {hungarian_accuracy_score(y_new, labels):.3f}")

# %%
# In front of a classifier
# ------------------------
#
# ``transform`` returns the embedding. Here a few of the 600 images get a label, and a
# linear classifier learns from these, once from pixels and once from the embedding.

embedding, embedding_new = pipeline.transform(X), pipeline.transform(X_new)
numbers_of_labels = [10, 20, 40, 80, 160]
accuracies = {"pixels": [], "embedding": []}
for n_labels in numbers_of_labels:
    for name, rows, rows_new in [
        ("pixels", X / 16, X_new / 16),
        ("embedding", embedding, embedding_new),
    ]:
        repeats = []
        for seed in range(5):
            labelled = np.random.default_rng(seed).permutation(len(X))[:n_labels]
            classifier = LogisticRegression(C=100).fit(rows[labelled], y[labelled])
            repeats.append(classifier.score(rows_new, y_new))
        accuracies[name].append(repeats)

# %%
# The embedding needs far fewer labels than pixels do, since the images without labels
# have already said what belongs together. The bands reach from the worst to the best of
# five draws of the labelled images.

fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for name, repeats in accuracies.items():
    mean = np.mean(repeats, axis=1)
    print(f"{name:<10}", " ".join(f"{value:.3f}" for value in mean))
    ax.plot(numbers_of_labels, mean, marker="o", label=name)
    ax.fill_between(
        numbers_of_labels, np.min(repeats, axis=1), np.max(repeats, axis=1), alpha=0.2
    )
ax.set(
    xlabel="labelled images, of 600", ylabel="accuracy on other images", xscale="log"
)
ax.set_xticks(numbers_of_labels, numbers_of_labels)
ax.minorticks_off()
_ = ax.legend()
