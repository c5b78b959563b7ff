# SPDX-License-Identifier: BSD-3-Clause
"""Fitted estimators that tests share."""

import warnings
from functools import cache

import numpy as np
import pytest
from persistence_helpers import KINDS


@pytest.fixture(scope="session")
def images(digits):
    """Return 60 images (n, 8, 8), dtype float32."""
    return digits[0][:60].astype(np.float32)


@pytest.fixture(scope="session")
def fit(images):
    """Return a function from the name of a kind to a clusterer and its `X`.

    The clusterer is shared, and not to be changed.
    """

    @cache
    def fit(kind):
        X = images.reshape(len(images), -1) if kind == "rows" else images
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one epoch does not find every cluster
            return KINDS[kind](images).fit(X), X

    return fit
