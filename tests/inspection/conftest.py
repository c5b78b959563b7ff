# SPDX-License-Identifier: BSD-3-Clause
"""What tests of the page share."""

import pytest
from sklearn.decomposition import PCA

from sklearn_scan import SCANClustering


@pytest.fixture(scope="session")
def X(digits):
    """Return 300 gray images."""
    return digits[0][:300]


@pytest.fixture(scope="session")
def clusterer(X):
    """Return a clusterer that was fitted on them."""
    return SCANClustering(n_clusters=5, pretext=PCA(9), random_state=0).fit(X)
