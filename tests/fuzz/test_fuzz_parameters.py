# SPDX-License-Identifier: BSD-3-Clause
"""Whatever parameters are set, `fit` finds clusters or says what is wrong."""

import numpy as np
from fuzzing import attempt, cases
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.decomposition import PCA

from sklearn_scan import SCANClustering, TrainingConfig
from sklearn_scan.pretext import SimCLR

ROWS = make_blobs(40, 4, centers=3, random_state=0)[0].astype(np.float32)
IMAGES = np.random.default_rng(0).random((20, 6, 6)).astype(np.float32)
_ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.floats(),
    st.sampled_from(
        ["", "auto", "none", "nan", b"x", (), [], {}, (1,), np.nan, object]
    ),
    st.sampled_from([np.int64(2), np.float32(0.5), np.array([1]), 10**30, -0.0]),
)
_SCHEDULES = st.one_of(
    st.builds(
        TrainingConfig,
        epochs=st.sampled_from([0, 1, 2]),
        lr=st.sampled_from([0.0, 1e-3, 1.0, 1e30, np.nan, "auto"]),
        batch_size=st.sampled_from([1, 2, 7, 1000, "auto"]),
        optimizer=st.sampled_from(["sgd", "adam", "adamw", "lion"]),
    ),
    st.none(),
)
_GOOD = {
    "n_clusters": st.sampled_from([1, 2, 3, 5, 19, "auto"]),
    "K": st.integers(0, 25),
    "threshold": st.floats(0, 1),
    "entropy_weight": st.floats(0, 100),
    "cluster_sizes": st.sampled_from(["auto", "equal", [0.5, 0.3, 0.2], [1, 2, 3]]),
    "n_heads": st.integers(1, 3),
    "pretext": st.sampled_from([None, PCA(2), SimCLR(epochs=1)]),
    "views": st.sampled_from(["auto", "none", "vector", "strong", ("flip",)]),
    "head_search": _SCHEDULES,
    "clustering": _SCHEDULES,
    "self_labeling": _SCHEDULES,
    "class_weight": st.sampled_from([None, "balanced"]),
    "keep": st.sampled_from(["best", "last"]),
    "batch_size": st.sampled_from([1, 2, 16, 512, 10**6]),
    "image_shape": st.sampled_from([None, (2, 2), (6, 6), (2, 2, 1), (9, 9)]),
    "on_error": st.sampled_from(["raise", "skip"]),
    "device": st.sampled_from(["auto", "cpu"]),
    "precision": st.sampled_from(["auto", "float32", "bfloat16"]),
    "random_state": st.integers(0, 2**32 - 1),
}
_QUICK = {
    "n_clusters": 3,
    "K": 3,
    "n_heads": 2,
    "head_search": TrainingConfig(epochs=1),
    "clustering": TrainingConfig(epochs=1),
    "self_labeling": None,
    "random_state": 0,
}


def check_fit(parameters, X):
    """Fit, and assert that what comes of it is whole."""
    clusterer = SCANClustering(**(_QUICK | parameters))
    before = repr(clusterer.get_params())
    if attempt(clusterer.fit, X) is None:
        return
    assert repr(clusterer.get_params()) == before
    assert clusterer.labels_.shape == (len(X),)
    assert ((clusterer.labels_ >= 0) & (clusterer.labels_ < len(X))).all()
    assert clusterer.labels_.max() < clusterer.n_clusters_
    assert np.isfinite(clusterer.confidence_).all()
    again = attempt(clusterer.predict_proba, X)
    assert again.shape == (len(X), clusterer.n_clusters_)
    clone(clusterer)


@cases(90)
@given(st.fixed_dictionaries({}, optional=_GOOD))
def test_good_parameters_together_fit_or_are_refused(parameters):
    check_fit(parameters, ROWS)


@cases(40)
@given(st.fixed_dictionaries({}, optional=_GOOD))
def test_good_parameters_together_fit_images_or_are_refused(parameters):
    check_fit({"pretext": SimCLR(epochs=1)} | parameters, IMAGES)


@cases(250)
@given(st.sampled_from(sorted(SCANClustering().get_params(deep=False))), _ODD)
def test_odd_values_fit_or_are_refused(name, value):
    if name in ("memory", "checkpoint") and isinstance(value, (str, bytes)):
        return  # names of folders
    if name == "random_state" and value is None:
        return  # which moves the generator of numpy
    check_fit({name: value}, ROWS)
