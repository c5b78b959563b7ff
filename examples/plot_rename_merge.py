# SPDX-License-Identifier: BSD-3-Clause
"""
================================
How do I correct what was found?
================================

Nobody knows better than you what the groups should be. :func:`write_gallery
<sklearn_scan.inspection.write_gallery>` makes a page on which clusters are looked at,
renamed and merged, and images moved or marked as wrong.
:func:`~sklearn_scan.inspection.apply_edits` takes the result back into Python.
"""

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from sklearn.datasets import load_digits

from sklearn_scan import SCANClustering
from sklearn_scan.inspection import (
    ConfusionDisplay,
    PrototypesDisplay,
    apply_edits,
    write_gallery,
)

digits = load_digits()
images, y = digits.images[:600], digits.target[:600]
clusterer = SCANClustering(n_clusters=14, random_state=0).fit(images)

# %%
# Write the page
# --------------
#
# One file, for any browser. It needs no server and no network.

folder = TemporaryDirectory()
page = write_gallery(clusterer, images, Path(folder.name, "clusters.html"))
print(f"{page.name}: {page.stat().st_size / 1e3:.0f} kB")

# %%
# On the page, each cluster is shown as in this picture, with what is doubtful and what
# is nearest. Fourteen clusters were asked for, so some digits have more than one.

display = PrototypesDisplay.from_estimator(
    clusterer, images, n_members=12, cmap="gray_r"
)

# %%
# Edit
# ----
#
# A person would now give each cluster a name, and merge those of the same name. Nobody
# sits in front of this page, so the lines below do it: they name each cluster after the
# digit that its prototype shows, and write the file that a download from the page would
# be.

names = [str(y[prototype]) for prototype in clusterer.prototypes_]
merged = {
    str(cluster): names.index(name)
    for cluster, name in enumerate(names)
    if names.index(name) < cluster
}
digest = re.search('"digest":"(\\w+)"', page.read_text())[1]
edits_file = Path(folder.name, "edits.json")
edits_file.write_text(
    json.dumps(
        {
            "format": "sklearn_scan.gallery",
            "version": 1,
            "digest": digest,
            "names": names,
            "merged": merged,
        }
    )
)
print(f"{len(names)} clusters, {len(merged)} of them merged into others")

# %%
# Take it back
# ------------

edits = apply_edits(clusterer, edits_file)
print("names:", edits.names)

# %%
# Fourteen glances have named six hundred images. What is wrong still lies in clusters
# that hold more than one digit, off the diagonal below: names cannot mend these. On the
# page, images are moved one by one or many at a time, the least sure first.

named = np.array(edits.names)[edits.labels]
print(f"named rightly: {(named == y.astype(str)).mean():.3f}")
display = ConfusionDisplay.from_predictions(y.astype(str), named)
folder.cleanup()

# %%
# ``edits.labels`` can train a classifier. ``edits.must_link`` and ``edits.cannot_link``
# are pairs of images that you have joined or parted, for methods that take such hints.

print(f"pairs that belong together: {edits.must_link.tolist()}")
