# SPDX-License-Identifier: BSD-3-Clause
"""Whether digits of a class that was left out, or letters, are told from known ones.

    python benchmarks/novelty.py --classes 0 3 8 --fits fits

A clusterer is fitted on 70 % of the digits' images of all classes but one, and asked
about the others and all images of that class: printed is the area under the ROC curve
with which each score tells that class from the known ones, and the share of known
images that ``predict(novelty_rate=...)`` refuses. ``letters`` are printed capitals,
brought to 8 x 8 pixels and to the range of the digits, against held-out digits, for a
clusterer of all ten classes.

- *novelty*: `novelty_score`;
- *distance*: the mean distance to the five nearest in the embedding;
- *density*: the local outlier factor in the embedding, of 20 neighbours;
- *confidence*: one minus the largest probability;
- *energy*: minus the log of the sum of exponentials of the logits;
- *pixels*: the mean distance to the five nearest in the pixels.

A folder given as `--fits` keeps the fitted clusterers.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from scan_bench import data_sets
from scan_bench.held_out import fit_part
from scan_bench.report import Table, describe_run, print_header
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors

from sklearn_scan._engine import infer

SCORES = ("novelty", "distance", "density", "confidence", "energy", "pixels")
RATES = (0.05, 0.1)


def small_letters():
    """Return capitals of 8 x 8 pixels in 0 to 16."""
    images = torch.from_numpy(data_sets.letters(600)[0]).float()[:, None]
    small = torch.nn.functional.adaptive_avg_pool2d(images, 8)[:, 0].numpy()
    return small * (16 / small.max())


def mean_distance(known, new):
    return NearestNeighbors(n_neighbors=5).fit(known).kneighbors(new)[0].mean(axis=1)


def score(clusterer, seen, new):
    """Return every score of new images."""
    known, embedding = clusterer.embedding_, clusterer.transform(new)
    logits = find_logits(clusterer, new)
    factor = LocalOutlierFactor(20, novelty=True).fit(known)
    pixels = (images.reshape(len(images), -1) for images in (seen, new))
    return {
        "novelty": clusterer.novelty_score(new),
        "distance": mean_distance(known, embedding),
        "density": -factor.score_samples(embedding),
        "confidence": -clusterer.predict_proba(new).max(axis=1),
        "energy": -np.logaddexp.reduce(logits, axis=1),
        "pixels": mean_distance(*pixels),
    }


def find_logits(clusterer, images):
    runtime = clusterer._resolve_runtime()
    network = clusterer._network(runtime)
    source = clusterer._open(clusterer._check_samples(images), runtime)
    return infer(lambda batch: network.logits(batch)[0], source).numpy()


def measure(name, run, known, new):
    """Return a row of the table."""
    images = np.concatenate([known, new])
    is_new = np.arange(len(images)) >= len(known)
    scores = score(run.clusterer, run.seen, images)
    areas = {name: roc_auc_score(is_new, scores[name]) for name in SCORES}
    refused = {
        f"at {rate}": (run.clusterer.predict(known, novelty_rate=rate) == -1).mean()
        for rate in RATES
    }
    return {"left out": name} | areas | refused


def list_rows(options):
    X, y = data_sets.digits()
    folder = options.fits and Path(options.fits)
    for digit in options.classes:
        path = folder and folder / f"not{digit}-0.joblib"
        run = fit_part(X, y, 0, left_out=digit, path=path)
        is_new = run.y_others == digit
        yield measure(str(digit), run, run.others[~is_new], run.others[is_new])
    run = fit_part(X, y, 0, path=folder and folder / "digits-0.joblib")
    yield measure("letters", run, run.others, small_letters())


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--classes", type=int, nargs="*", default=range(10))
    parser.add_argument("--fits", help="folder of fitted clusterers")
    options = parser.parse_args(arguments)
    if options.fits:
        Path(options.fits).mkdir(parents=True, exist_ok=True)
    print_header("New among known digits", describe_run("cpu"))
    print()
    columns = dict.fromkeys([*SCORES, *(f"at {rate}" for rate in RATES)], ".3f")
    table = Table({"left out": ""} | columns)
    for row in list_rows(options):
        table.add(row)


if __name__ == "__main__":
    main()
