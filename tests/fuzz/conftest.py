# SPDX-License-Identifier: BSD-3-Clause
"""Fits of fuzzed tests are short."""

import pytest
from helpers import few_steps


@pytest.fixture(autouse=True, scope="module")
def short_fits():
    """Let heads begin near partitions only."""
    with few_steps():
        yield
