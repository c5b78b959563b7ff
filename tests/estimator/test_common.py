# SPDX-License-Identifier: BSD-3-Clause
"""The batteries of scikit-learn, on every public estimator, with nothing excused."""

import pytest
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_estimator,
    check_get_feature_names_out_error,
    check_global_output_transform_pandas,
    check_inplace_ensure_writeable,
    check_param_validation,
    check_set_output_transform,
    check_set_output_transform_pandas,
    check_transformer_get_feature_names_out,
    check_transformer_get_feature_names_out_pandas,
    parametrize_with_checks,
)

import sklearn_scan
from sklearn_scan import SCANClustering, TrainingConfig, pretext
from sklearn_scan.pretext import SimCLR

# Settings that make every estimator fast; checks change n_clusters themselves.
FAST = {"Pretrained": {}}
ESTIMATORS = [
    SCANClustering(n_clusters=3, random_state=0),
    SCANClustering(
        n_clusters=3,
        pretext=SimCLR(epochs=20),
        head_search=TrainingConfig(epochs=20),
        clustering=TrainingConfig(epochs=2),
        self_labeling=TrainingConfig(epochs=2),
        random_state=0,
    ),
    SCANClustering(
        n_clusters=3,
        pretext=PCA(1),
        head_search=TrainingConfig(epochs=20),
        random_state=0,
    ),
    *(
        getattr(pretext, name)(random_state=0, **FAST.get(name, {"epochs": 2}))
        for name in pretext.__all__
    ),
]

# What is not part of `check_estimator`, though scikit-learn runs it on its own.
FURTHER_CHECKS = [
    check_dataframe_column_names_consistency,
    check_get_feature_names_out_error,
    check_global_output_transform_pandas,
    check_inplace_ensure_writeable,
    check_param_validation,
    check_set_output_transform,
    check_set_output_transform_pandas,
    check_transformer_get_feature_names_out,
    check_transformer_get_feature_names_out_pandas,
]

# Checks fit as few samples as there are; three clusters need not all be found.
pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning",
    # The set_output checks mix data frames and arrays on purpose; that there is no such
    # warning elsewhere is what check_dataframe_column_names_consistency turns into an
    # error of its own.
    "ignore:X (has|does not have valid) feature names:UserWarning",
)


@parametrize_with_checks(ESTIMATORS)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
@pytest.mark.parametrize("check", FURTHER_CHECKS, ids=lambda check: check.__name__)
def test_further_checks(estimator, check):
    check(type(estimator).__name__, clone(estimator))


def test_no_check_fails_or_is_excused():
    estimator = SCANClustering(
        n_clusters=3, n_heads=2, head_search=TrainingConfig(epochs=20), random_state=0
    )
    results = check_estimator(estimator, on_fail=None, on_skip=None)
    assert len(results) > 40
    bad = [r for r in results if r["status"] not in ("passed", "skipped")]
    assert bad == []
    # Array API input is not claimed; its check needs an environment variable.
    skipped = {r["check_name"] for r in results if r["status"] == "skipped"}
    assert skipped <= {"check_array_api_input"}


def test_all_public_estimators_are_checked():
    exported = [
        member
        for module in (sklearn_scan, pretext)
        for member in (getattr(module, name) for name in module.__all__)
        if isinstance(member, type) and hasattr(member, "fit")
    ]
    assert {type(estimator) for estimator in ESTIMATORS} == set(exported)
    assert len(exported) >= 3
