# SPDX-License-Identifier: BSD-3-Clause
"""Does the package work where it was installed? What a release is tried with.

    make dist
    make smoke PYTHON=python3.13

The second command installs the wheel in ``dist`` into a new environment of that Python,
and runs this script there. It needs nothing but what the wheel brings along, and takes
a minute or two. The first thing that fails ends it.
"""

import platform
import subprocess
import sys
import tempfile
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path

import joblib
import numpy as np
import sklearn
import torch
from PIL import Image
from sklearn.datasets import load_digits, make_blobs

import sklearn_scan
from sklearn_scan import SCANClustering
from sklearn_scan.inspection import write_gallery
from sklearn_scan.metrics import hungarian_accuracy_score

ROOT = Path(__file__).resolve().parents[2]
N_SAMPLES = 200

PREDICT = """
import sys, joblib, numpy
clusterer, images = joblib.load(sys.argv[1])
numpy.save(sys.argv[2], clusterer.predict(images))
"""


def main():
    """Try one thing after the other."""
    print(
        f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"scikit-learn {sklearn.__version__}"
    )
    digits = load_digits()
    images = (digits.images[:N_SAMPLES] * 15).astype(np.uint8)
    y = digits.target[:N_SAMPLES]
    clusterer = SCANClustering(n_clusters=10, random_state=0, verbose=1)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for try_it in (
            try_versions,
            try_rows,
            partial(try_images, clusterer, images, y),
            partial(try_folder, clusterer, images, folder / "digits"),
            partial(try_gallery, clusterer, images, folder / "clusters.html"),
            partial(try_pickle, clusterer, images, folder),
        ):
            begin = time.perf_counter()
            found = try_it()
            print(f"{time.perf_counter() - begin:6.1f} s  {found}", flush=True)
    print("all well")


def try_versions():
    """Hold the versions that the package, its metadata and its command say together."""
    found, home = sklearn_scan.__version__, Path(sklearn_scan.__file__).parent
    assert home.parent != ROOT, f"{home} is the checkout, and not what was installed"
    assert version("sklearn-scan") == found
    assert found in run("-m", "sklearn_scan", "--version")
    return f"version {found}, from the command line as well"


def try_rows():
    """Tell three heaps of rows apart."""
    X, y = make_blobs(N_SAMPLES, centers=3, cluster_std=0.5, random_state=0)
    labels = SCANClustering(n_clusters=3, random_state=0).fit(X).labels_
    return f"{N_SAMPLES} rows: ACC {check_accuracy(y, labels):.3f}"


def try_images(clusterer, images, y):
    """Tell ten digits apart, in all stages."""
    labels = clusterer.fit(images).labels_
    assert clusterer.history_["self_labeling"]
    return f"{N_SAMPLES} images: ACC {check_accuracy(y, labels):.3f}"


def try_folder(clusterer, images, folder):
    """Predict files as the images that they were written from."""
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i:03}.png")
    np.testing.assert_array_equal(clusterer.predict(folder), clusterer.labels_)
    return "the same images as files: the same labels"


def try_gallery(clusterer, images, path):
    """Write the page, of which style and script are files of the package."""
    write_gallery(clusterer, images, path)
    page = path.read_text()
    assert page.count("<script") > 1 and "</style>" in page
    return f"the page has {len(page) / 1024:.0f} KiB"


def try_pickle(clusterer, images, folder):
    """Predict in another process."""
    fitted, labels = folder / "fitted.joblib", folder / "labels.npy"
    joblib.dump((clusterer, images), fitted)
    run("-c", PREDICT, fitted, labels)
    np.testing.assert_array_equal(np.load(labels), clusterer.labels_)
    return "a pickle predicts the same in another process"


def check_accuracy(y, labels):
    """Return the accuracy, if it is what anybody would expect."""
    accuracy = hungarian_accuracy_score(y, labels)
    assert accuracy > 0.9, f"the accuracy is {accuracy:.3f}"
    return accuracy


def run(*arguments):
    """Run this Python; return what it prints."""
    command = [sys.executable, "-I", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
