# SPDX-License-Identifier: BSD-3-Clause
"""The batteries of scikit-learn, on every public estimator, with nothing excused."""

from unittest import SkipTest

import pytest
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_get_feature_names_out_error,
    check_global_output_transform_pandas,
    check_inplace_ensure_writeable,
    check_param_validation,
    check_set_output_transform,
    check_set_output_transform_pandas,
    check_transformer_get_feature_names_out,
    check_transformer_get_feature_names_out_pandas,
    estimator_checks_generator,
    parametrize_with_checks,
)

import sklearn_scan
from sklearn_scan import SCANClustering, TrainingConfig, pretext
from sklearn_scan.pretext import SimCLR

# Settings that make every estimator fast; checks change n_clusters themselves.
FAST = {"Pretrained": {}}
QUICK = {
    "n_clusters": 3,
    "n_heads": 2,
    "head_search": TrainingConfig(epochs=20),
    "random_state": 0,
}
ESTIMATORS = [
    SCANClustering(**QUICK),
    SCANClustering(
        pretext=SimCLR(epochs=10),
        clustering=TrainingConfig(epochs=2),
        self_labeling=TrainingConfig(epochs=2),
        **QUICK,
    ),
    SCANClustering(pretext=PCA(1), **QUICK),
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
pytestmark = [
    pytest.mark.usefixtures("few_steps"),
    pytest.mark.filterwarnings(
        "ignore::sklearn.exceptions.ConvergenceWarning",
        # The set_output checks mix data frames and arrays on purpose; that there is no
        # such warning elsewhere is what check_dataframe_column_names_consistency turns
        # into an error of its own.
        "ignore:X (has|does not have valid) feature names:UserWarning",
    ),
]


@parametrize_with_checks(ESTIMATORS)
def test_scikit_learn_checks(estimator, check):
    try:
        check(estimator)
    except SkipTest as reason:
        # Array API input is not claimed; its check needs an environment variable.
        assert check.func.__name__ == "check_array_api_input", reason
        raise


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
@pytest.mark.parametrize("check", FURTHER_CHECKS, ids=lambda check: check.__name__)
def test_further_checks(estimator, check):
    check(type(estimator).__name__, clone(estimator))


def test_there_are_many_checks():
    assert len(list(estimator_checks_generator(ESTIMATORS[0]))) > 40


def test_all_public_estimators_are_checked():
    exported = [
        member
        for module in (sklearn_scan, pretext)
        for member in (getattr(module, name) for name in module.__all__)
        if isinstance(member, type) and hasattr(member, "fit")
    ]
    assert {type(estimator) for estimator in ESTIMATORS} == set(exported)
    assert len(exported) >= 3
