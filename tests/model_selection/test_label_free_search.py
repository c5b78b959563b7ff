# SPDX-License-Identifier: BSD-3-Clause
"""`LabelFreeSearch` and `select`: all candidates are judged together."""

import warnings

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClusterMixin, clone
from sklearn.cluster import AgglomerativeClustering, KMeans
from sklearn.decomposition import PCA
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import GridSearchCV, ParameterSampler
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_scan import SCANClustering, TrainingConfig
from sklearn_scan.model_selection import LabelFreeSearch, select
from sklearn_scan.model_selection._pooling import CRITERIA, measure_resemblance, rank


class Told(ClusterMixin, BaseEstimator):
    """Finds the clusters that it is told, in the embedding that it is told."""

    def __init__(self, labels=(0, 1), embedding=None, fails=False):
        self.labels = labels
        self.embedding = embedding
        self.fails = fails

    def fit(self, X, y=None):
        if self.fails:
            raise ValueError("it was told to fail.")
        self.labels_ = np.asarray(self.labels)
        self.embedding_ = X if self.embedding is None else self.embedding
        self.n_features_in_ = X.shape[1]
        return self

    def predict(self, X):
        return self.labels_

    def transform(self, X):
        return self.embedding_


@pytest.fixture(scope="module")
def partitions(blobs):
    """Return the truth, and the truth with more and more samples in other clusters."""
    _, y = blobs
    rng = np.random.default_rng(0)
    found = [y]
    for n_wrong in (20, 60, 120):
        labels = y.copy()
        wrong = rng.permutation(len(y))[:n_wrong]
        labels[wrong] = (labels[wrong] + 1 + rng.integers(2, size=n_wrong)) % 3
        found.append(labels)
    return found


@pytest.mark.parametrize("name", CRITERIA)
def test_every_criterion_ranks_spoiled_partitions(blobs, partitions, name):
    X, _ = blobs
    ranking = rank(partitions, [X, X[:, :1]], [name])
    assert ranking.order.tolist() == [0, 1, 2, 3]
    assert ranking.criteria[name][0] > ranking.criteria[name][-1] + 0.1


@pytest.mark.parametrize("name", ["information", "consistency", "silhouette"])
def test_an_embedding_does_not_vouch_for_itself(blobs, name):
    """The heaps of one embedding are not those that the two others show."""
    X, y = blobs
    rng = np.random.default_rng(0)
    other = rng.integers(3, size=len(X))
    heaps = np.eye(3)[other] + 1e-3 * rng.normal(size=(len(X), 3))
    candidates = [
        {"labels": other, "embedding": heaps.astype(np.float32)},
        {"labels": y, "embedding": X},
        {"labels": y, "embedding": X[:, ::-1] * [1, 1.5]},
    ]
    search = LabelFreeSearch(Told(), tuple(candidates), scoring=name).fit(X)
    assert search.best_index_ == 1
    assert search.ranking_.ranks.tolist() == [3, 1, 1]


def test_the_search_keeps_the_best_and_speaks_for_it(blobs):
    X, y = blobs
    scan = SCANClustering(
        3, n_heads=1, head_search=TrainingConfig(epochs=10), random_state=0
    )
    estimator = make_pipeline(StandardScaler(), scan)
    grid = {"scanclustering__n_clusters": [3], "scanclustering__K": [0, 10, 20]}
    search = LabelFreeSearch(estimator, grid).fit(X)
    best = clone(estimator).set_params(**search.best_params_).fit(X)
    assert adjusted_rand_score(y, search.labels_) > 0.8
    for method in ("predict", "predict_proba", "transform", "score"):
        expected = getattr(best, method)(X[:40])
        np.testing.assert_array_equal(getattr(search, method)(X[:40]), expected)
    np.testing.assert_array_equal(search.labels_, best.predict(X))
    assert search.n_features_in_ == 2
    assert search.best_score_ == search.cv_results_["mean_test_score"].max()
    assert not hasattr(estimator[-1], "labels_"), "what was passed stays as it was"


def test_results_have_the_form_of_those_of_a_grid_search(blobs):
    X, _ = blobs
    grid = [{"n_clusters": [2, 3], "init": ["random"]}, {"n_clusters": [4]}]
    kmeans = KMeans(n_init=1, random_state=0)
    ours = LabelFreeSearch(kmeans, grid).fit(X).cv_results_
    theirs = GridSearchCV(kmeans, grid, cv=5).fit(X).cv_results_
    assert set(theirs) <= set(ours)
    assert ours["params"] == theirs["params"]
    assert ours["param_init"].mask.tolist() == theirs["param_init"].mask.tolist()
    assert ours["param_n_clusters"].tolist() == [2, 3, 4]
    splits = np.stack([ours[f"split{k}_test_score"] for k in range(5)])
    np.testing.assert_allclose(splits.mean(axis=0), ours["mean_test_score"], atol=1e-8)
    np.testing.assert_allclose(splits.std(axis=0), ours["std_test_score"])
    assert sorted(ours["rank_test_score"]) == [1, 2, 3]


def test_candidates_may_be_drawn_or_listed(blobs):
    X, _ = blobs
    drawn = ParameterSampler({"n_clusters": range(2, 9)}, 3, random_state=0)
    kmeans = KMeans(n_init=1, random_state=0)
    search = LabelFreeSearch(kmeans, drawn).fit(X)
    assert search.cv_results_["params"] == list(drawn)
    search.set_params(param_grid=({"n_clusters": 2}, {"n_clusters": 3})).fit(X)
    assert search.cv_results_["param_n_clusters"].tolist() == [2, 3]


def test_a_candidate_that_fails_is_last(blobs, partitions):
    X, _ = blobs
    grid = {"labels": [list(p) for p in partitions[:2]], "fails": [True, False]}
    with pytest.warns(FitFailedWarning, match="2 of 4 .* ValueError: it was told"):
        search = LabelFreeSearch(Told(), grid).fit(X)
    assert not search.best_params_["fails"]
    scores = search.cv_results_["mean_test_score"]
    assert np.isnan(scores).tolist() == search.cv_results_["param_fails"].tolist()
    ranks = search.cv_results_["rank_test_score"]
    assert ranks[np.isnan(scores)].tolist() == [3, 3]
    assert search.ranking_.p_best.sum() == pytest.approx(1)
    with pytest.raises(ValueError, match="it was told to fail"):
        search.set_params(error_score="raise").fit(X)
    with pytest.raises(ValueError, match="it was told to fail") as caught:
        LabelFreeSearch(Told(fails=True), {"labels": [[0], [1]]}).fit(X)
    assert "2 of 2 candidates could not be fitted" in caught.value.__notes__[0]


def test_the_doubt_grows_where_candidates_are_alike(blobs, partitions):
    X, y = blobs
    alike = [y.copy(), y.copy()]
    for labels, wrong in zip(alike, (slice(0, 8), slice(8, 16)), strict=True):
        labels[wrong] = (labels[wrong] + 1) % 3
    ranking = rank([*alike, partitions[3]], [X], ["modularity", "resemblance"])
    assert min(ranking.p_best[:2]) > 0.01
    assert ranking.p_best[2] == 0
    assert ranking.p_best.sum() == pytest.approx(1)
    best, second = ranking.order[:2]
    assert ranking.errors[best] == 0 < ranking.errors[second]
    assert ranking.errors[second] < ranking.errors[2]
    same = rank([y, y], [X], ["information"])
    np.testing.assert_allclose(same.p_best, [0.5, 0.5])
    assert same.ranks.tolist() == [1, 1]


def test_resemblance_is_the_jaccard_similarity_of_clusters():
    one, other = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 1])
    found = measure_resemblance([one, other, one], [])
    alike = np.array([2 / 3, 2 / 3, 1 / 5, 2 / 3, 2 / 3])
    alike[2] = 1 / 5  # {0, 1, 2} and {2, 3, 4}
    np.testing.assert_allclose(found[1], alike)
    np.testing.assert_allclose(found[0], (alike + 1) / 2)


def test_clusterers_without_an_embedding_are_judged_in_X(blobs):
    X, y = blobs
    grid = {"linkage": ["single", "ward"]}
    search = LabelFreeSearch(AgglomerativeClustering(3), grid).fit(X)
    assert search.best_params_ == {"linkage": "ward"}
    assert not hasattr(search, "predict")
    assert adjusted_rand_score(y, search.labels_) > 0.8


def test_a_single_cluster_and_a_single_candidate_do_no_harm(blobs):
    X, y = blobs
    for name in CRITERIA:
        candidates = [{"labels": np.zeros(len(X), int)}, {"labels": y}]
        search = LabelFreeSearch(Told(), tuple(candidates), scoring=name).fit(X)
        assert search.best_index_ == (0 if name == "resemblance" else 1)
        alone = LabelFreeSearch(Told(), (candidates[0],), scoring=name).fit(X)
        assert alone.best_score_ == 0


def test_select_ranks_what_is_fitted(blobs, partitions):
    X, _ = blobs
    candidates = [Told(labels).fit(X) for labels in partitions[::-1]]
    assert select(candidates, X).order.tolist() == [3, 2, 1, 0]
    kmeans = KMeans(3, n_init=1, random_state=0)
    grid = GridSearchCV(kmeans, {"max_iter": [1, 100]}, cv=2).fit(X)
    fitted = [clone(kmeans).set_params(max_iter=m).fit(X) for m in (1, 100)]
    np.testing.assert_array_equal(select(grid, X).scores, select(fitted, X).scores)


def test_wrong_arguments_are_named(blobs):
    X, _ = blobs
    kmeans = KMeans(3)
    with pytest.raises(ValueError, match=r"one or several of \['cons.*Got \['loss'\]"):
        LabelFreeSearch(kmeans, {"n_init": [1]}, scoring=["loss"]).fit(X)
    with pytest.raises(ValueError, match="param_grid yields no candidate"):
        LabelFreeSearch(kmeans, ()).fit(X)
    with pytest.raises(ValueError, match="candidates is empty"):
        select([], X)
    with pytest.raises(NotFittedError):
        LabelFreeSearch(kmeans, {"n_init": [1]}).predict(X)


def test_images_are_searched_with_the_pretext_trained_once(digits, tmp_path):
    from sklearn_scan.pretext import SimCLR

    images = digits[0][:120]
    scan = SCANClustering(
        3,
        pretext=SimCLR(epochs=1),
        n_heads=1,
        head_search=TrainingConfig(epochs=2),
        clustering=None,
        self_labeling=None,
        memory=str(tmp_path),
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search = LabelFreeSearch(scan, {"K": [2, 5]}).fit(images)
    one, other = (search.best_estimator_.embedding_, search.transform(images))
    np.testing.assert_allclose(one, other, atol=1e-5)


ESTIMATORS = [
    LabelFreeSearch(KMeans(n_init=1, random_state=0), {"n_clusters": [2, 3]}),
    LabelFreeSearch(
        SCANClustering(
            3,
            pretext=PCA(1),
            n_heads=1,
            head_search=TrainingConfig(epochs=5),
            random_state=0,
        ),
        {"K": [2, 5]},
    ),
]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")
@pytest.mark.usefixtures("few_steps")
@parametrize_with_checks(ESTIMATORS)
def test_scikit_learn_checks(estimator, check):
    check(estimator)
