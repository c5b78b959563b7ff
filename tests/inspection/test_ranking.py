# SPDX-License-Identifier: BSD-3-Clause
"""A ranking is drawn from the best candidate, with what it cannot tell apart."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError

from sklearn_scan.inspection import RankingDisplay
from sklearn_scan.inspection._ranking import name_candidates
from sklearn_scan.model_selection import LabelFreeSearch, Ranking

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def no_figure_is_left():
    yield
    plt.close("all")


@pytest.fixture
def ranking():
    return Ranking(
        scores=np.array([-1.0, 0.5, np.nan, 0.4]),
        errors=np.array([0.2, 0.0, np.nan, 0.1]),
        p_best=np.array([0.0, 0.7, 0.0, 0.3]),
        part_scores=np.zeros((4, 5)),
        criteria={},
    )


def read_rows(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def test_rows_are_by_score_and_failed_candidates_are_left_out(ranking):
    display = RankingDisplay(ranking, names=list("abcd")).plot()
    assert read_rows(display.ax_) == ["b", "d", "a"]
    assert display.ax_.yaxis_inverted(), "the best is above"
    assert [t.get_text() for t in display.ax_.texts] == ["70%", "30%"]
    few = RankingDisplay(ranking).plot(n_candidates=2)
    assert read_rows(few.ax_) == ["1", "3"]


def test_what_reaches_the_best_may_be_the_best(ranking):
    ax = RankingDisplay(ranking).plot().ax_
    drawn = {c.get_label(): c.lines[0].get_xdata().tolist() for c in ax.containers}
    assert drawn["may be the best"] == [0.5, 0.4]
    assert drawn["worse, beyond two standard errors"] == [-1.0]


def test_candidates_are_called_by_what_they_differ_in():
    candidates = [
        {"pretext__n_components": 5, "K": 10, "seed": 0},
        {"pretext__n_components": 9, "K": 10, "seed": 0},
    ]
    assert name_candidates(candidates) == ["n_components=5", "n_components=9"]
    ambiguous = [{"a__lr": 1, "b__lr": 2}, {"a__lr": 2, "b__lr": 1}]
    assert name_candidates(ambiguous)[0] == "a__lr=1, b__lr=2"
    assert name_candidates([{"K": 1}, {}]) == ["K=1", "the defaults"]
    long = name_candidates([{"pretext": PCA(svd_solver="full" * 20)}, {"pretext": 0}])
    assert len(long[0]) == 60


def test_a_search_is_drawn(blobs):
    X, _ = blobs
    search = LabelFreeSearch(
        KMeans(n_init=1, random_state=0), {"n_clusters": [2, 3, 4]}
    )
    with pytest.raises(NotFittedError):
        RankingDisplay.from_estimator(search)
    _, ax = plt.subplots()
    display = RankingDisplay.from_estimator(search.fit(X), ax=ax)
    assert display.ax_ is ax
    best = search.best_params_["n_clusters"]
    assert read_rows(ax)[0] == f"n_clusters={best}"
