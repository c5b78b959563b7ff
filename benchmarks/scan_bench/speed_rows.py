# SPDX-License-Identifier: BSD-3-Clause
"""The speed benchmark on rows: mining, and fits of embeddings."""

import time

import numpy as np
from sklearn.cluster import KMeans
from torch import nn

from scan_bench import data_sets
from scan_bench.report import print_table, print_target
from sklearn_scan import SCANClustering
from sklearn_scan._devices import has_tiles
from sklearn_scan._nets._encoders import ConvNet
from sklearn_scan.metrics import hungarian_accuracy_score
from sklearn_scan.neighbors import mine_neighbors
from sklearn_scan.pretext import SimCLR

K = 20
_N_QUERIES = 2000
# Up to so many rows all are compared with all.
_MOST_EXACT = 100_000
_N_TURNS = 3


def make_embedding(n, n_features, seed=0):
    """Return rows like those of a network: unit length, 100 groups, 24 dimensions.

    A random network bends the 24 dimensions into all of the features.
    """
    random = np.random.default_rng(seed)
    centers = random.normal(size=(100, 24))
    first, second = (
        random.normal(size=shape).astype(np.float32) / np.sqrt(shape[0])
        for shape in ((24, 256), (256, n_features))
    )
    rows = np.empty((n, n_features), dtype=np.float32)
    for part in np.array_split(np.arange(n), max(1, n // 50_000)):
        latent = centers[random.integers(0, 100, len(part))]
        latent = latent + 0.5 * random.normal(size=latent.shape)
        rows[part] = np.maximum(latent.astype(np.float32) @ first, 0) @ second
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


# Mining.


def measure_mining(sizes):
    """Compare `mine_neighbors` with exact search by faiss, for each (n, d).

    Up to 100,000 rows by an exact search as well, and beyond by cells.
    """
    rows, targets = [], []
    for n, n_features in sizes:
        embedding = make_embedding(n, n_features)
        queries = np.random.default_rng(0).choice(n, min(n, _N_QUERIES), replace=False)
        is_small = n <= _MOST_EXACT
        algorithm = "brute" if is_small else "auto"
        times = {"exact": [], "library": []}
        # In turn, as the speed of a machine drifts.
        for _ in range(_N_TURNS if is_small else 1):
            exact, seconds = search_exactly(embedding, None if is_small else queries)
            times["exact"].append(seconds)
            started = time.perf_counter()
            found = mine_neighbors(embedding, K, algorithm=algorithm)
            times["library"].append(time.perf_counter() - started)
        seconds, exact_seconds = (np.median(times[k]) for k in ("library", "exact"))
        if is_small:
            exact = exact[queries]
        else:
            exact_seconds *= n / len(queries)
        recall = measure_recall(found[queries], exact, queries)
        ratio = exact_seconds / seconds
        rows.append(
            {
                "rows": f"{n:,} x {n_features}",
                "exact s": f"{exact_seconds:.1f}" + ("" if is_small else " (est.)"),
                "library s": f"{seconds:.1f}",
                "exact / library": f"{ratio:.2f}",
                f"recall@{K}": f"{recall:.4f}",
            }
        )
        at_least = (2 if has_tiles() else 1) if is_small else 10
        text = f"{n:,} x {n_features}: exact / library {ratio:.2f} >= {at_least}"
        targets.append(print_target(text, ratio >= at_least))
        least = 0.9999 if is_small else 0.95
        text = f"{n:,} x {n_features}: recall@{K} {recall:.4f} >= {least}"
        targets.append(print_target(text, recall >= least))
    print()
    print_table(rows)
    return {"mining": rows, "targets": targets}


def search_exactly(embedding, queries=None):
    """Search with faiss alone; return candidates with the row itself, and seconds."""
    import faiss

    started = time.perf_counter()
    index = faiss.IndexFlatIP(embedding.shape[1])
    index.add(embedding)
    asked = embedding if queries is None else embedding[queries]
    found = index.search(asked, K + 1)[1]
    return found, time.perf_counter() - started


def measure_recall(found, exact, queries):
    """Return the share of the exact neighbours that were found."""
    shares = []
    for mine, true, query in zip(found, exact, queries, strict=True):
        true = true[true != query][:K]
        shares.append(np.isin(true, mine).mean())
    return float(np.mean(shares))


# Fits.


def convnet_with_384_features(shape):
    """Return the library's small network with one more layer."""
    network = ConvNet(shape[0], min(shape[1:]))
    return nn.Sequential(network, nn.Linear(256, 384))


def list_embeddings(cifar10_path, n_cifar10, epochs):
    """Yield name, rows and classes (None for rows that are made up)."""
    yield "made up", make_embedding(50_000, 384), None
    X, y = data_sets.digits()
    yield "digits", SimCLR(random_state=0).fit_transform(X), y
    if cifar10_path is not None:
        X, y = data_sets.cifar10(cifar10_path, n_cifar10)
        pretext = SimCLR(
            encoder=convnet_with_384_features, epochs=epochs, random_state=0
        )
        # Trained on a part: the encoder need not be good, but it must be real.
        yield "CIFAR-10", pretext.fit(X[:10_000]).transform(X), y


def describe_scores(scores):
    if not scores:
        return "-"
    mean, spread = np.mean(scores), np.std(scores)
    return f"{mean:.4f} ± {spread:.4f} (min {min(scores):.4f})"


def measure_embeddings(options):
    """Compare fits of rows with KMeans: seconds, and accuracy over some seeds."""
    rows, targets = [], []
    cases = list_embeddings(options.cifar10, options.n_cifar10, options.pretext_epochs)
    for name, embedding, y in cases:
        scores = {"KMeans": [], "SCAN": []}
        times = {"KMeans": [], "SCAN": []}
        for seed in range(options.seeds):
            for method, clusterer in {
                "KMeans": KMeans(10, n_init=10, random_state=seed),
                "SCAN": SCANClustering(10, n_heads=10, random_state=seed),
            }.items():
                started = time.perf_counter()
                labels = clusterer.fit(embedding).labels_
                times[method].append(time.perf_counter() - started)
                if y is not None:
                    scores[method].append(hungarian_accuracy_score(y, labels))
        ratio = float(np.median(np.divide(times["SCAN"], times["KMeans"])))
        row = {"embedding": f"{name} {embedding.shape}"}
        for method in scores:
            row[f"{method} s"] = f"{np.median(times[method]):.2f}"
            row[f"{method} ACC"] = describe_scores(scores[method])
        rows.append(row | {"ratio": f"{ratio:.2f}"})
        if len(embedding) >= 10_000:
            text = f"{name}: {ratio:.2f} x the time of KMeans <= 2"
            targets.append(print_target(text, ratio <= 2))
        if y is not None:
            gain = np.mean(scores["SCAN"]) - np.mean(scores["KMeans"])
            targets.append(print_target(f"{name}: {gain:+.4f} ACC > 0", gain > 0))
    print()
    print_table(rows)
    return {"embedding": rows, "targets": targets}
