# SPDX-License-Identifier: BSD-3-Clause
"""Threads and processes: no hang, no more threads than cores, the same results."""

import os
import subprocess
import sys

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import make_blobs

from sklearn_scan import SCANClustering, TrainingConfig
from sklearn_scan._inputs import _files

# With two threads: that is where a forked process waits for ever, if it does.
SCRIPT = """
import multiprocessing, os, sys
import numpy as np, torch
from torch.utils.data import DataLoader, Dataset
from sklearn_scan import SCANClustering, TrainingConfig
from sklearn_scan.pretext import SimCLR

torch.set_num_threads(2)
images = np.random.default_rng(0).integers(0, 256, (96, 16, 16, 3), dtype=np.uint8)
clusterer = SCANClustering(
    2, K=3, n_heads=2, pretext=SimCLR(epochs=1), head_search=TrainingConfig(epochs=1),
    clustering=None, self_labeling=None, random_state=0,
).fit(images)
alone = clusterer.predict_proba(images)

def predict(queue):
    queue.put((clusterer.predict_proba(images), torch.get_num_threads()))

class Labelled(Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, i):
        return clusterer.predict_proba(images)

if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    children = [context.Process(target=predict, args=(queue,)) for _ in "ab"]
    for child in children:
        child.start()
    answers = [queue.get(timeout=50) for _ in children]
    found = [probabilities for probabilities, _ in answers]
    assert {n for _, n in answers} == {1}, answers
    loader = DataLoader(Labelled(), batch_size=None, num_workers=2)
    found += [np.asarray(each) for each in loader]
    for probabilities in found:
        np.testing.assert_allclose(probabilities, alone, atol=1e-6)
    np.testing.assert_array_equal(clusterer.predict_proba(images), alone)
    print(len(found))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_process_that_was_forked_predicts(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", path],
        env=environment, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.stdout == "4\n", done.stderr


def fit_predict(clusterer, X):
    clusterer = clone(clusterer).fit(X)
    return clusterer.predict_proba(X), torch.get_num_threads()


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_parallel_fits_are_those_of_fits_alone(backend):
    X, _ = make_blobs(120, centers=3, random_state=0)
    few = TrainingConfig(epochs=20)
    clusterer = SCANClustering(3, n_heads=2, head_search=few, random_state=0)
    expected, _ = fit_predict(clusterer, X)
    with joblib.parallel_config(backend=backend, n_jobs=2):
        found = joblib.Parallel()(
            joblib.delayed(fit_predict)(clusterer, X) for _ in range(2)
        )
    for probabilities, n_threads in found:
        np.testing.assert_array_equal(probabilities, expected)
        assert n_threads <= max(1, joblib.cpu_count() // 2)


@pytest.mark.parametrize(("given", "expected"), [("1", 1), ("999", None), ("x", None)])
def test_decoding_takes_its_share_of_the_cores(monkeypatch, given, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert _files._count_threads() == (expected or joblib.cpu_count())
