# SPDX-License-Identifier: BSD-3-Clause
"""
====================================
How do I use the clusters elsewhere?
====================================

A clusterer is fitted once, and then answers for new images in another program, on
another day or on another machine. :func:`sklearn_scan.save` writes one file, and
:func:`sklearn_scan.load` reads it.

The file holds numbers and text, and no code: it may come from somebody else. joblib
works as well, as for any estimator of scikit-learn, but loading such a file runs
whatever code is in it.
"""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import sklearn_scan
from sklearn_scan import SCANClustering

images = load_digits().images
fitted, new = images[:500], images[500:]
clusterer = SCANClustering(n_clusters=10, random_state=0).fit(fitted)

# %%
# Save
# ----
#
# The file holds the network, and what was learned of the fitted images: labels,
# embedding and neighbours, but not the images. Where the encoder is a pretrained one,
# ``Pretrained(..., store_weights=False)`` leaves its weights out of the file.

folder = TemporaryDirectory()
path = Path(folder.name, "clusters.safetensors")
sklearn_scan.save(clusterer, path)
np.save(Path(folder.name, "new.npy"), new)
print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")

# %%
# Load in another process
# -----------------------
#
# This is the whole program that is deployed. It has to find the package. If an encoder
# or views of your own were used, it has to find their module as well, and to say that
# it trusts them: ``load(path, trusted=["my_networks:make_network"])``.

program = """
import numpy as np, sklearn_scan
clusterer = sklearn_scan.load("clusters.safetensors")
np.save("probabilities.npy", clusterer.predict_proba(np.load("new.npy")))
"""
subprocess.run([sys.executable, "-c", program], cwd=folder.name, check=True)
probabilities = np.load(Path(folder.name, "probabilities.npy"))
folder.cleanup()

# %%
# It says what the fitted clusterer says.

here = clusterer.predict_proba(new)
print(f"largest difference of a probability: {np.abs(here - probabilities).max():.1e}")

# %%
# Say "I do not know"
# -------------------
#
# A program that must answer may still leave what is doubtful to a person. Above each
# image stand its cluster and the confidence; compare the rows. (Clusters have numbers:
# name them once, by their prototypes, and keep the names beside the file.)

confidence = probabilities.max(axis=1)
is_sure = confidence > 0.9
print(f"{is_sure.mean():.0%} of {len(new)} new images have a confidence over 0.9")

fig, axes = plt.subplots(2, 10, figsize=(8, 2.2), layout="constrained")
for row, kind in zip(axes, (is_sure, ~is_sure), strict=True):
    for ax, sample in zip(row, np.flatnonzero(kind), strict=False):
        ax.imshow(new[sample], cmap="gray_r")
        ax.set(xticks=[], yticks=[])
        cluster = probabilities[sample].argmax()
        ax.set_title(f"{cluster}: {confidence[sample]:.2f}", size=8)
axes[0, 0].set_ylabel("sure")
_ = axes[1, 0].set_ylabel("not sure")
