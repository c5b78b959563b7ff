# SPDX-License-Identifier: BSD-3-Clause
"""Print a checksum of labels and probabilities for many settings, at small size.

    python benchmarks/bits.py > after.txt; diff before.txt after.txt

A change that should change nothing is shown to change nothing: run this before and
after, on the same machine, on one thread. Settings take seconds each, so that what they
find is of no use.
"""

import argparse
import hashlib
import tempfile
import warnings

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator

import sklearn_scan
from sklearn_scan import SCANClustering, pretext, recipes

X, _ = load_digits(return_X_y=True)
X = X[:240].astype(np.float32)
IMAGES = X.reshape(-1, 8, 8)
COLOURS = np.repeat(IMAGES[..., None], 3, axis=3)
WIDE = np.tile(X, 5)
TASKS = (
    "SimCLR",
    "MoCo",
    "BYOL",
    "VICReg",
    "InstanceDiscrimination",
    "RotNet",
    "FeatureDecoupling",
    "DeepCluster",
)


def name_stages():
    """Return what this commit calls the two stages of step 2, and a stage's config."""
    if "head_search" in SCANClustering().get_params():
        return "head_search", "clustering", sklearn_scan.TrainingConfig
    return "clustering", "fine_tuning", sklearn_scan.Training


HEADS, WHOLE, Config = name_stages()


def quick(**parameters):
    """Return a clusterer of a few epochs."""
    short = {
        HEADS: Config(epochs=3),
        WHOLE: Config(epochs=2),
        "self_labeling": Config(epochs=2),
        "pretext": pretext.SimCLR(epochs=2),
        "n_heads": 4,
        "threshold": 0.2,
        "keep": "last",
        "random_state": 0,
    }
    return SCANClustering(10, **(short | parameters))


def list_settings(folder):
    """Return functions that fit, by name."""
    frozen = FrozenEstimator(pretext.SimCLR(epochs=2, random_state=0).fit(IMAGES))
    settings = {
        "images": lambda: quick().fit(IMAGES),
        "images, best": lambda: quick(keep="best").fit(IMAGES),
        "rows": lambda: quick(pretext="auto").fit(X),
        "wide rows": lambda: quick(pretext="auto").fit(WIDE),
        "image_shape": lambda: quick(image_shape=(8, 8)).fit(X),
        "PCA": lambda: quick(pretext=PCA(10)).fit(X),
        "frozen pretext": lambda: quick(pretext=frozen).fit(IMAGES),
        "random heads on the encoder": lambda: quick(**{HEADS: None}).fit(IMAGES),
        "heads alone": lambda: quick(**{WHOLE: None, "self_labeling": None}).fit(
            IMAGES
        ),
        "frozen encoder": lambda: quick(
            **{WHOLE: Config(epochs=2, freeze_encoder=True)}
        ).fit(IMAGES),
        "K=0": lambda: quick(K=0).fit(IMAGES),
        "K=0, rows": lambda: quick(K=0, pretext="auto").fit(X),
        "given neighbours": lambda: quick().fit(
            IMAGES, neighbors=np.roll(np.arange(240), 1)[:, None]
        ),
        "recipe": fit_recipe,
        "checkpoint": lambda: quick(checkpoint=f"{folder}/checkpoint").fit(IMAGES),
        "checkpoint again": lambda: quick(checkpoint=f"{folder}/checkpoint").fit(
            IMAGES
        ),
        "cache": lambda: quick(memory=f"{folder}/cache").fit(IMAGES),
        "cache again": lambda: quick(memory=f"{folder}/cache").fit(IMAGES),
    }
    for task in TASKS:
        settings[task] = lambda task=task: quick(
            pretext=getattr(pretext, task)(epochs=2)
        ).fit(IMAGES)
    return settings


def fit_recipe():
    """Fit the paper's settings for CIFAR-10, with a small network."""
    clusterer = recipes.paper_recipe(
        "cifar10", effort=0.002, pretext__encoder="convnet", random_state=0
    )
    return clusterer.fit(COLOURS)


def describe(clusterer, samples):
    probabilities = clusterer.predict_proba(samples)
    checksum = hashlib.sha256(clusterer.labels_.tobytes())
    checksum.update(clusterer.confidence_.tobytes() + probabilities.tobytes())
    sizes = np.bincount(clusterer.labels_, minlength=10)
    return f"{checksum.hexdigest()[:16]}  {sizes.tolist()}"


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="these settings alone"
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        for name, fit in list_settings(folder).items():
            if options.only and name not in options.only:
                continue
            clusterer = fit()
            samples = WIDE if "wide" in name else COLOURS if name == "recipe" else None
            if samples is None:
                samples = X if clusterer.n_features_in_ == 64 else IMAGES
            print(f"{name:30s} {describe(clusterer, samples)}", flush=True)


if __name__ == "__main__":
    main()
