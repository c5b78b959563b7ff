# SPDX-License-Identifier: BSD-3-Clause
"""
=======================
What is in this folder?
=======================

A folder of pictures goes in, groups of files come out.
:class:`~sklearn_scan.SCANClustering` reads the files itself, in any format of Pillow,
brings them to one size, and remembers their paths.

So that this page needs no download, the folder holds pieces of two photographs that
come with scikit-learn: a pavilion in a park, and a flower. Nobody has said what is on
the pieces.
"""

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from sklearn_scan import SCANClustering
from sklearn_scan.inspection import PrototypesDisplay

folder = TemporaryDirectory()
SIDE, STEP = 64, 54
photographs = load_sample_images()
for file, pixels in zip(photographs.filenames, photographs.images, strict=True):
    height, width, _ = pixels.shape
    for top in range(0, height - SIDE + 1, STEP):
        for left in range(0, width - SIDE + 1, STEP):
            piece = Image.fromarray(pixels[top : top + SIDE, left : left + SIDE])
            piece.save(Path(folder.name, f"{Path(file).stem}-{top:03}-{left:03}.png"))

# %%
# Cluster the folder
# ------------------
#
# A network is trained on these few pictures alone, at 12 x 12 pixels, which is enough
# for sky, leaves and petals. Photographs of your own are better looked at by a network
# that has seen millions: ``SCANClustering(n_clusters=12, pretext=Pretrained("dinov2"),
# memory="cache")``. See :ref:`sphx_glr_auto_examples_plot_pretrained.py`.

clusterer = SCANClustering(n_clusters=5, image_shape=(12, 12, 3), random_state=0)
clusterer.fit(folder.name)

print(f"{len(clusterer.paths_)} files; the first is {Path(clusterer.paths_[0]).name}")

# %%
# Look at the groups
# ------------------
#
# A row is a cluster. Its most typical piece stands in the frame; the others are drawn
# at random, so that they show the cluster as it is, and not only where it is sure. Look
# for rows that you could give a name to, such as sky, petals or roofs.

display = PrototypesDisplay.from_estimator(clusterer, folder.name, n_members=12)

# %%
# From which photograph does each group come? The names of the files say so, which the
# clusterer did not read. Most groups are of one photograph alone.

sources = np.array([Path(path).name.split("-")[0] for path in clusterer.paths_])
for cluster in range(clusterer.n_clusters):
    counts = Counter(sources[clusterer.labels_ == cluster].tolist())
    print(f"cluster {cluster}:", dict(counts.most_common()))

# %%
# Sort the files
# --------------
#
# ``paths_`` is in the order of ``labels_`` and ``confidence_``. That is all that is
# needed to copy files into folders or to write a table; here are the three files of
# which the clusterer is least sure.

for sample in np.argsort(clusterer.confidence_)[:3]:
    name = Path(clusterer.paths_[sample]).name
    cluster, confidence = clusterer.labels_[sample], clusterer.confidence_[sample]
    print(f"{name}: cluster {cluster}, confidence {confidence:.2f}")

folder.cleanup()
