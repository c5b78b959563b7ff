# SPDX-License-Identifier: BSD-3-Clause
"""How far answers can be believed: calibrated probabilities, and samples refused."""

import copy

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_digits, make_blobs
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from sklearn_scan import SCANClustering
from sklearn_scan._calibration import (
    find_temperature,
    match_confidence,
    measure_agreement,
    soften,
)
from sklearn_scan._novelty import KnownSamples
from sklearn_scan.metrics import expected_calibration_error

N_FITTED = 900


@pytest.fixture(scope="module")
def overlapping():
    """Four groups of which a twelfth lies among another one; samples and groups."""
    centers = [[0, 0], [3.5, 0], [0, 3.5], [3.5, 3.5]]
    return make_blobs(2400, centers=centers, cluster_std=1.0, random_state=0)


@pytest.fixture(scope="module")
def clusterer(overlapping):
    return SCANClustering(4, random_state=0).fit(overlapping[0][:N_FITTED])


@pytest.fixture(scope="module")
def some_digits():
    """Half of the digits but 0; the other half and all 0s, with their classes."""
    X, y = load_digits(return_X_y=True)
    is_seen = (y != 0) & (np.arange(len(y)) % 2 == 0)
    return X[is_seen], y[is_seen], X[~is_seen], y[~is_seen]


@pytest.fixture(scope="module")
def clusterer_of_digits(some_digits):
    return SCANClustering(9, n_heads=1, random_state=0).fit(some_digits[0])


def find_rows(clusterer):
    """Return the embedding as it is compared, and the metric."""
    return clusterer._backbone.compare(clusterer.embedding_)


def as_trained(clusterer, X):
    """Return the probabilities of the network as it was trained."""
    asked = copy.copy(clusterer)
    asked.temperature_ = 1.0
    return asked.predict_proba(X)


# Calibration.


def test_probabilities_of_new_samples_mean_what_they_say(clusterer, overlapping):
    X, y = (part[N_FITTED:] for part in overlapping)
    assert expected_calibration_error(y, clusterer.predict_proba(X)) < 0.04


def test_a_network_that_is_too_sure_is_mended(clusterer, overlapping):
    X, y = overlapping
    sure = soften(as_trained(clusterer, X), 0.2)
    temperature = find_temperature(sure[:N_FITTED], *find_rows(clusterer))
    before, after = (
        expected_calibration_error(y[N_FITTED:], proba[N_FITTED:])
        for proba in (sure, soften(sure, temperature))
    )
    assert before > 0.05, "there is something to mend"
    assert after < 0.04


def test_how_sure_the_network_was_makes_no_difference(clusterer, overlapping):
    proba = as_trained(clusterer, overlapping[0][:N_FITTED]).astype(np.float64)
    rows = find_rows(clusterer)
    sure, surer = (find_temperature(soften(proba, by), *rows) for by in (0.2, 0.1))
    assert surer == pytest.approx(2 * sure, rel=1e-3)


def test_nothing_becomes_surer_than_the_network(clusterer, overlapping):
    proba = as_trained(clusterer, overlapping[0][:N_FITTED])
    assert find_temperature(soften(proba, 5.0), *find_rows(clusterer)) == 1


def test_clusters_are_those_of_the_network(clusterer_of_digits, some_digits):
    clusterer, (seen, _, _, _) = clusterer_of_digits, some_digits
    assert clusterer.temperature_ > 1.1
    trained, proba = as_trained(clusterer, seen), clusterer.predict_proba(seen)
    assert proba.max(axis=1).mean() < trained.max(axis=1).mean() - 0.005
    np.testing.assert_array_equal(clusterer.predict(seen), trained.argmax(axis=1))
    np.testing.assert_array_equal(clusterer.labels_, trained.argmax(axis=1))
    np.testing.assert_allclose(clusterer.confidence_, proba.max(axis=1), rtol=1e-4)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-5)
    [record] = clusterer.history_["calibration"]
    share = (trained.max(axis=1) > clusterer.threshold).mean()
    assert record["confident"] == pytest.approx(share)
    assert record["temperature"] == clusterer.temperature_


def test_probabilities_of_new_digits_come_nearer_to_the_truth(
    clusterer_of_digits, some_digits
):
    _, _, others, y = some_digits
    others, y = others[y != 0], y[y != 0]
    before = expected_calibration_error(y, as_trained(clusterer_of_digits, others))
    after = expected_calibration_error(y, clusterer_of_digits.predict_proba(others))
    assert after < before - 0.005


def test_the_mean_confidence_is_what_was_asked_for():
    rng = np.random.default_rng(0)
    proba = rng.dirichlet(np.full(5, 0.1), size=300)
    for confidence in (0.5, 0.8):
        temperature = match_confidence(proba, confidence)
        found = soften(proba, temperature).max(axis=1).mean()
        assert found == pytest.approx(confidence, abs=1e-4)
    lowest, highest = match_confidence(proba, 1.0), match_confidence(proba, 0.0)
    assert (lowest, highest) == (1.0, 32.0)


def test_agreement_is_that_of_the_nearest_tenth_of_a_cluster():
    """Of a line of 41 samples the last of one half is among the other half."""
    rows = np.arange(41.0)[:, None]
    labels = (rows[:, 0] > 20).astype(int)
    # Of 21 and 20 samples a tenth is two: one on each side of a sample.
    agreement = measure_agreement(labels, rows, "euclidean")
    assert agreement == pytest.approx((39 + 2 * 0.5) / 41)
    assert measure_agreement(labels, rows, "euclidean", share=0.5) < agreement
    # By direction there are two groups, and neighbours agree.
    turned = np.where(labels[:, None] == 1, rows, -1 - rows) * [[1.0, 0.0]]
    assert measure_agreement(labels, turned, "cosine") == 1


@pytest.mark.parametrize(
    "proba", [np.ones((9, 1)), np.ones((1, 3)) / 3, np.full((9, 2), np.nan)]
)
def test_where_nothing_can_be_compared_nothing_changes(proba):
    rows = np.zeros((len(proba), 2))
    assert find_temperature(proba, rows, "euclidean") == 1
    np.testing.assert_array_equal(soften(proba, 1.0), proba)


# Novelty.


def test_what_is_far_from_all_that_was_fitted_is_novel(clusterer, overlapping):
    X = overlapping[0][N_FITTED:]
    rng = np.random.default_rng(0)
    others = np.concatenate([rng.normal([9, 9], 1, (200, 2)), [[50.0, -40.0]] * 10])
    scores = clusterer.novelty_score(np.concatenate([X, others]))
    is_new = np.arange(len(scores)) >= len(X)
    assert roc_auc_score(is_new, scores) > 0.99
    # The network is sure of them.
    confidence = clusterer.predict_proba(others).max(axis=1)
    assert np.median(confidence) > 0.95
    assert (clusterer.predict(others, novelty_rate=0.01) == -1).mean() > 0.95


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.3])
def test_as_many_known_samples_are_refused_as_was_asked_for(
    clusterer, overlapping, rate
):
    X = overlapping[0][N_FITTED:]
    labels = clusterer.predict(X, novelty_rate=rate)
    refused = labels == -1
    assert refused.mean() == pytest.approx(rate, abs=0.02 + 0.15 * rate)
    np.testing.assert_array_equal(labels[~refused], clusterer.predict(X)[~refused])


def test_nothing_is_refused_unless_it_is_asked_for(clusterer):
    far = np.full((3, 2), 1e3)
    assert (clusterer.predict(far) >= 0).all()
    for rate in (-0.1, 1.0):
        with pytest.raises(ValueError, match=r"must be in \[0, 1\)"):
            clusterer.predict(far, novelty_rate=rate)


def test_novelty_is_measured_by_what_is_usual_nearby():
    """A gap that is nothing in a thin group is novel beside a dense one."""
    rng = np.random.default_rng(0)
    dense = rng.normal([0, 0], 0.1, (200, 2))
    thin = rng.normal([20, 0], 2.0, (200, 2))
    known = KnownSamples.learn(np.concatenate([dense, thin]), "euclidean")
    beside_dense, within_thin = known.score(np.array([[0.0, 1.5], [20.0, 1.5]]))
    assert beside_dense > 5 * within_thin
    assert within_thin < known.find_limit(0.05) < beside_dense


def test_a_refit_forgets_what_was_known(clusterer, overlapping):
    X = overlapping[0][:150] + 100
    before = clusterer.novelty_score(X)
    after = copy.deepcopy(clusterer).set_params(n_heads=1).fit(X).novelty_score(X)
    assert after.max() < 5 < before.min()


def test_rounded_duplicates_are_not_new():
    """Images may be embedded in bfloat16, and asked for in float32."""
    random = np.random.default_rng(0)
    rows = 5 + random.normal(size=(200, 16)).astype(np.float32)
    rows[:8] = rows[0]
    known = KnownSamples.learn(rows, "cosine")
    rounded = rows[:8] * (1 + 0.004 * random.uniform(-1, 1, size=(8, 16)))
    assert (known.score(rounded) < 1).all()
    assert (known.score(random.normal(size=(8, 16)) - 5) > 2).all()


def test_novelty_passes_through_pipelines_and_pickles(overlapping, tmp_path):
    X = overlapping[0][:300]
    pipeline = make_pipeline(
        MinMaxScaler(), SCANClustering(4, n_heads=1, random_state=0)
    ).fit(X)
    far = np.array([[30.0, -30.0]])
    assert pipeline.predict(far, novelty_rate=0.05).tolist() == [-1]
    joblib.dump(pipeline, tmp_path / "pipeline.joblib")
    again = joblib.load(tmp_path / "pipeline.joblib")
    assert again.predict(far, novelty_rate=0.05).tolist() == [-1]
    np.testing.assert_array_equal(again.predict_proba(X), pipeline.predict_proba(X))


def test_digits_that_were_left_out_are_novel(clusterer_of_digits, some_digits):
    _, _, others, y = some_digits
    scores = clusterer_of_digits.novelty_score(others)
    assert roc_auc_score(y == 0, scores) > 0.9
