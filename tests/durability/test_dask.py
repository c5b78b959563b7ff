# SPDX-License-Identifier: BSD-3-Clause
"""A search on the workers of a Dask cluster: what a search in one process finds."""

import os
import runpy
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.callback import ScoringMonitor
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from sklearn_scan import SCANClustering, TrainingConfig
from sklearn_scan.metrics import hungarian_accuracy_scorer
from sklearn_scan.pretext import SimCLR

EXAMPLE = Path(__file__).parents[2] / "examples" / "search_on_dask.py"

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def client():
    """Return the client of two workers, each a process of its own."""
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    )
    with cluster, distributed.Client(cluster) as client:
        yield client


def get_threads():
    import torch

    return os.getpid(), torch.get_num_threads()


# Fifty samples and one epoch may leave clusters without members.
@pytest.mark.filterwarnings(
    "default:The samples fill:sklearn.exceptions.ConvergenceWarning"
)
def test_a_search_on_dask_is_the_serial_search(client, digits, tmp_path):
    workers = dict(client.run(get_threads).values())
    assert len(workers) == 2 and os.getpid() not in workers
    assert set(workers.values()) == {1}, "as many as the tests compute with"
    X, y = digits[0][:100], digits[1][:100]
    once = TrainingConfig(epochs=1)

    def search(name, n_jobs):
        clusterer = SCANClustering(
            n_heads=2,
            pretext=SimCLR(encoder="convnet", epochs=1),
            head_search=once,
            clustering=once,
            self_labeling=None,
            # Workers are given all of these, pickled.
            memory=str(tmp_path / name / "cache"),
            checkpoint=tmp_path / name / "state",
            verbose=1,
            random_state=0,
        )
        clusterer.set_callbacks(ScoringMonitor(scoring=hungarian_accuracy_scorer))
        return GridSearchCV(
            clusterer,
            {"n_clusters": [5, 10]},
            scoring=hungarian_accuracy_scorer,
            cv=StratifiedKFold(2),
            error_score="raise",
            refit=False,
            n_jobs=n_jobs,
        ).fit(X, y)

    serial = search("serial", None)
    with joblib.parallel_config("dask"):
        spread = search("dask", -1)
    for name, values in serial.cv_results_.items():
        if not name.endswith("_time"):
            np.testing.assert_array_equal(spread.cv_results_[name], values, name)
    assert serial.cv_results_["mean_test_score"].std() > 0


def test_the_example_runs(client, capsys):
    example = runpy.run_path(str(EXAMPLE))
    example["main"](
        ["--scheduler", client.scheduler.address, "--n-samples", "60"],
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 workers" and len(lines) == 3
