# SPDX-License-Identifier: BSD-3-Clause
"""
===========================
Can I bring my own network?
===========================

Any function or class that is given the shape of a sample and returns a
``torch.nn.Module`` will do as ``encoder``. The module turns a batch of images into a
row of features for each; views, heads, losses, devices and precision are seen to.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from torch import nn

from sklearn_scan import SCANClustering
from sklearn_scan.metrics import hungarian_accuracy_score, neighbor_purity_score

digits = load_digits()
images, y = digits.images[:600], digits.target[:600]

# %%
# A network
# ---------
#
# The shape is (c, h, w), whatever the layout of the array was; pixels are standardised
# before they arrive. Give a class or a function, not a network: each fit begins with a
# new one, whose random weights follow from ``random_state``. To set arguments of your
# own, pass ``functools.partial(SmallNet, width=64)``.


class SmallNet(nn.Sequential):
    """Three convolutions; where in the image something is stays known."""

    def __init__(self, shape, width=32):
        layers, n_in = [], shape[0]
        for n_out, stride in [(width, 1), (width, 2), (2 * width, 2)]:
            layers += [
                nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(n_out),
                nn.ReLU(),
            ]
            n_in = n_out
        super().__init__(*layers, nn.Flatten())


# %%
# Beside one of the library's
# ---------------------------
#
# ``"mlp"`` sees an image as a row of pixels without neighbours. Both are trained in the
# same way.

clusterers = {}
for encoder in (SmallNet, "mlp"):
    clusterer = SCANClustering(n_clusters=10, encoder=encoder, random_state=0)
    clusterer.fit(images)
    name = encoder if isinstance(encoder, str) else encoder.__name__
    clusterers[name] = clusterer
    n_weights = sum(weight.numel() for weight in clusterer.net_.module_.parameters())
    purity = neighbor_purity_score(clusterer.neighbors_, y)
    accuracy = hungarian_accuracy_score(y, clusterer.labels_)
    print(
        f"{name:<9} {n_weights:>6} weights, neighbours of the same class {purity:.3f}, "
        f"accuracy {accuracy:.3f}"
    )

# %%
# Which is better, without labels
# -------------------------------
#
# The pretext task has to find the second view of an image among the views of all
# others. ``history_`` says how often it did. At the same views and the same batch size,
# a network that finds more of them sees more in these images. (This is a hint, no
# proof: not all that tells images apart tells what they show.)

fig, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
for name, clusterer in clusterers.items():
    found = [record["found"] for record in clusterer.history_["pretext"]]
    ax.plot(range(1, len(found) + 1), found, label=name)
ax.set(xlabel="epoch of the pretext task", ylabel="share of views found")
_ = ax.legend()
