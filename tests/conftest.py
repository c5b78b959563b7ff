# SPDX-License-Identifier: BSD-3-Clause
"""Options and data that all tests share."""

import os

# Before torch is imported: tests run in several processes, which share the cores, and
# another number of threads acts like another seed.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import helpers
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, make_blobs


def pytest_addoption(parser):
    parser.addoption(
        "--device", default="cpu", help='where tensors live: "cpu" or "cuda"'
    )
    parser.addoption(
        "--fuzz", type=float, default=1, help="how many times 2,000 cases are tried"
    )
    parser.addoption("--slow", action="store_true", help="run the slow tests as well")
    parser.addoption(
        "--mutations", type=int, default=60, help="how many saved models to damage"
    )


def pytest_configure(config):
    # Read where tests are decorated; see fuzzing.py.
    os.environ["SKLEARN_SCAN_FUZZ"] = str(config.getoption("--fuzz"))


# With --dist loadfile and --no-loadscope-reorder, workers take files in this order: a
# long one that is begun last is waited for.
LONG_FILES = [
    "test_scan.py",
    "test_common.py",
    "test_benchmarks.py",
    "test_two_processes.py",
    "test_head_search.py",
    "test_pretrained.py",
    "test_variants.py",
    "test_promises.py",
    "test_contrastive_tasks.py",
    "test_docs.py",
    "test_scorers.py",
    "test_n_clusters.py",
    "test_search.py",
]


def pytest_collection_modifyitems(config, items):
    places = {name: place for place, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="slow; run with --slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def device(request):
    """Return the device under test; ask for another with `pytest --device cuda`."""
    name = request.config.getoption("--device")
    if name.startswith("cuda") and not torch.cuda.is_available():
        pytest.exit(f"--device {name} was asked for, and torch has no CUDA device")
    return name


@pytest.fixture(scope="session")
def digits():
    """Return 600 images (n, 8, 8) and their classes."""
    bunch = load_digits()
    return bunch.images[:600], bunch.target[:600]


@pytest.fixture(scope="session")
def blobs():
    """Return 150 rows of three clusters, and their classes."""
    X, y = make_blobs(n_samples=150, centers=3, cluster_std=0.6, random_state=0)
    return X.astype(np.float32), y


@pytest.fixture(scope="module", name="few_steps")
def use_few_steps():
    """Let heads begin near partitions only, in all tests of a file."""
    with helpers.few_steps():
        yield


@pytest.fixture
def no_sizes(monkeypatch):
    """Let no head give way to one that follows a partition."""
    monkeypatch.setattr("sklearn_scan._stages._following._LESS_CUT", 1)
    monkeypatch.setattr("sklearn_scan._stages._following._LESS_CUT_TRAINED", 1)
