# SPDX-License-Identifier: BSD-3-Clause
"""Whether training a pretrained encoder on helps, on a CPU, in minutes.

    python benchmarks/training_on.py cifar10.npz --n 2000 --side 96

Test images of CIFAR-10 through the EfficientNet-Lite0 of `photographs.py`: as it is,
and trained on by each stage at several learning rates. ACC, seconds of the whole fit,
the share of confident images, and whether the selector kept the result.
"""

import argparse
import time
from functools import partial

import numpy as np
from photographs import Lite0, choose
from scan_bench.report import Table, describe_run, print_header

from sklearn_scan import SCANClustering, TrainingConfig
from sklearn_scan.metrics import hungarian_accuracy_score
from sklearn_scan.pretext import Pretrained

RATES = (1e-4, 1e-5, 1e-6)
STAGES = ("self_labeling", "clustering")


def fit(pictures, y, side, seed, **stages):
    pretext = Pretrained(
        Lite0, image_shape=(side, side, 3), mean=(127 / 255,) * 3, std=(128 / 255,) * 3
    )
    n_clusters = len(np.unique(y))
    begin = time.perf_counter()
    clusterer = SCANClustering(n_clusters, pretext=pretext, random_state=seed, **stages)
    clusterer.fit(pictures)
    judged = clusterer.history_.get("selection", [{}])[-1]
    return {
        "ACC": hungarian_accuracy_score(y, clusterer.labels_),
        "seconds": time.perf_counter() - begin,
        "confident": float((clusterer.confidence_ > 0.99).mean()),
        "kept": str(judged.get("kept", "-")),
    }


def main(arguments=None):
    from PIL import Image

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cifar10", help="an .npz file with X_test and y_test")
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--rates", nargs="+", type=float, default=RATES)
    options = parser.parse_args(arguments)
    print_header("Training on", describe_run("cpu"))
    with np.load(options.cifar10) as archive:
        images, y = choose(archive["X_test"], archive["y_test"], 10, options.n)
    side = options.side
    resize = Image.Resampling.BICUBIC
    images = np.stack(
        [np.asarray(Image.fromarray(i).resize((side, side), resize)) for i in images]
    )
    table = Table({"stage": "", "lr": ".0e", "seed": "d"} | dict.fromkeys(
        ("ACC", "confident"), ".4f") | {"seconds": ".0f", "kept": ""})  # fmt: skip
    print()
    train = partial(TrainingConfig, epochs=options.epochs, batch_size=64)
    for seed in range(options.seeds):
        measure = partial(fit, images, y, side, seed)
        table.add({"stage": "none", "lr": None, "seed": seed} | measure())
        for stage in options.stages:
            for lr in options.rates:
                row = {"stage": stage, "lr": lr, "seed": seed}
                table.add(row | measure(**{stage: train(lr=lr)}))


if __name__ == "__main__":
    main()
