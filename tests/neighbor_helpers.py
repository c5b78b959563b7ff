# SPDX-License-Identifier: BSD-3-Clause
"""What tests of nearest neighbours need."""

import numpy as np
from sklearn.metrics import pairwise_distances


def make_groups(n_samples=3000, n_features=16, seed=0):
    """Return rows in groups, as embeddings are."""
    random = np.random.default_rng(seed)
    centers = random.normal(size=(30, n_features))
    X = centers[random.integers(30, size=n_samples)]
    return (X + 0.5 * random.normal(size=X.shape)).astype(np.float32)


def assert_nearest(found, X, metric, *, rtol=1e-7, atol=1e-5):
    """The K nearest others in order, where ties may come in any order."""
    distances = pairwise_distances(np.asarray(X, dtype=np.float64), metric=metric)
    np.fill_diagonal(distances, np.inf)
    expected = np.sort(distances, axis=1)[:, : found.shape[1]]
    got = np.take_along_axis(distances, found, axis=1)
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=atol)
    assert all(len(set(row)) == len(row) for row in found.tolist())
