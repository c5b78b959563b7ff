# SPDX-License-Identifier: BSD-3-Clause
"""What bfloat16 costs, and mirrored views bring, in features of photographs.

    python benchmarks/features.py cifar10.npz --n 3000

Embeds test images of CIFAR-10 through the EfficientNet-Lite0 of `photographs.py` in
float32, in bfloat16, and as the mean over each image and its mirror image. Printed are
images/s; `cosine`, the mean cosine with the features in float32; `purity`, the share of
the 20 nearest neighbours (centred cosine) that are of the same class; the ACC of KMeans
and of `SCANClustering` on the rows (means over three seeds); and `probe`, the accuracy
of logistic regression on half of the labels.
"""

import argparse
import time

import numpy as np
from photographs import choose, make_pretext
from scan_bench.report import describe_run, print_header, print_table
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

from sklearn_scan import SCANClustering
from sklearn_scan.metrics import hungarian_accuracy_score, neighbor_purity_score
from sklearn_scan.neighbors import mine_neighbors

_SEEDS = range(3)


def measure(name, embedding, reference, y, rate):
    unit = normalize(embedding)
    neighbors = mine_neighbors(embedding - embedding.mean(axis=0), 20, metric="cosine")
    half = len(y) // 2
    probe = LogisticRegression(max_iter=300).fit(embedding[:half], y[:half])
    n_clusters = len(np.unique(y))
    by_kmeans, by_scan = (
        np.mean(
            [
                hungarian_accuracy_score(y, make(seed).fit(embedding).labels_)
                for seed in _SEEDS
            ]
        )
        for make in (
            lambda seed: KMeans(n_clusters, n_init=10, random_state=seed),
            lambda seed: SCANClustering(n_clusters, random_state=seed),
        )
    )
    return {
        "features": name,
        "images/s": f"{rate:.1f}",
        "cosine": f"{(unit * normalize(reference)).sum(axis=1).mean():.4f}",
        "purity": f"{neighbor_purity_score(neighbors, y):.4f}",
        "KMeans": f"{by_kmeans:.4f}",
        "SCAN": f"{by_scan:.4f}",
        "probe": f"{probe.score(embedding[half:], y[half:]):.4f}",
    }


def embed(images, precision):
    from PIL import Image

    pictures = [Image.fromarray(image).resize((224, 224), 3) for image in images]
    begin = time.perf_counter()
    embedding = make_pretext(precision).fit_transform(pictures)
    return embedding, len(images) / (time.perf_counter() - begin)


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cifar10", help="an .npz file with X_test and y_test")
    parser.add_argument("--n", type=int, default=3000)
    options = parser.parse_args(arguments)
    print_header("Features", describe_run("cpu"))
    with np.load(options.cifar10) as archive:
        images, y = choose(archive["X_test"], archive["y_test"], 10, options.n)
    exact, exact_rate = embed(images, "float32")
    short, short_rate = embed(images, "bfloat16")
    mirrored, _ = embed(images[:, :, ::-1], "bfloat16")
    print()
    print_table(
        [
            measure("float32", exact, exact, y, exact_rate),
            measure("bfloat16", short, exact, y, short_rate),
            measure("mirrored", (short + mirrored) / 2, exact, y, short_rate / 2),
        ]
    )


if __name__ == "__main__":
    main()
