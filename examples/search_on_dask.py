# SPDX-License-Identifier: BSD-3-Clause
"""
==============================================
A grid search on the workers of a Dask cluster
==============================================

This is a program, and not run for this page::

    python examples/search_on_dask.py
    python examples/search_on_dask.py --scheduler tcp://10.0.0.1:8786

Without ``--scheduler`` it starts two workers on this machine, processes of their own;
with it, those of a cluster that runs elsewhere fit the candidates. It needs the extra
"dask". The scores are those of a search in one process.
"""

import argparse

import joblib
from distributed import Client, LocalCluster
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from sklearn_scan import SCANClustering
from sklearn_scan.metrics import hungarian_accuracy_scorer


def search(X, y):
    """Fit all candidates with whatever joblib is told to use, and print the scores."""
    search = GridSearchCV(
        SCANClustering(n_heads=2, random_state=0),
        {"K": [5, 20]},
        scoring=hungarian_accuracy_scorer,
        cv=StratifiedKFold(2),
        n_jobs=-1,
    ).fit(X, y)
    results = search.cv_results_
    for params, score in zip(
        results["params"], results["mean_test_score"], strict=True
    ):
        print(f"{score:.3f}  {params}")


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Search for settings on Dask.")
    parser.add_argument("--scheduler", help="the address of a cluster; none for here")
    parser.add_argument("--n-samples", type=int, default=600)
    options = parser.parse_args(arguments)
    X, y = load_digits(return_X_y=True)
    X, y = X[: options.n_samples], y[: options.n_samples]
    cluster = options.scheduler or LocalCluster(n_workers=2, threads_per_worker=1)
    with Client(cluster) as client, joblib.parallel_config("dask"):
        print(f"{len(client.nthreads())} workers")
        search(X, y)


# Workers of this machine begin by importing this file.
if __name__ == "__main__":
    main()
