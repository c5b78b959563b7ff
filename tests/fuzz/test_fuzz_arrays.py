# SPDX-License-Identifier: BSD-3-Clause
"""Whatever arrays `fit` and `predict` are given, they answer or refuse."""

import warnings
from functools import lru_cache

import numpy as np
import pandas as pd
import polars as pl
import torch
from fuzzing import attempt, cases, unchanged
from helpers import Reader
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from sklearn_scan import SCANClustering, TrainingConfig
from sklearn_scan.pretext import SimCLR

# Most are what people have, so that most calls come to an answer.
# Most are what people have, so that many calls come to an answer.
_TYPES = (
    *("uint8", "float32", "float64") * 4,
    *("uint8", "float32", "float64") * 4,
    *("uint8", "int8", "int16", "int64", "uint64", "float16", "float32", "float64"),
    *("bool", "complex64", "object", "U3", "datetime64[s]", ">f4", "float128"),
)
_SHAPES = st.one_of(
    st.tuples(st.integers(0, 30), st.integers(0, 9)),
    st.tuples(st.integers(2, 20), st.integers(1, 9), st.integers(1, 9)),
    st.tuples(
        st.integers(2, 20),
        st.sampled_from([1, 2, 3, 4, 8]),
        st.sampled_from([1, 3, 8]),
        st.sampled_from([1, 2, 3, 4, 8]),
    ),
    st.tuples(st.integers(0, 9)),
    st.just(()),
    st.just((2, 3, 4, 3, 2)),
)
_IMAGE_SHAPES = (None, (2, 2), (4, 2, 1))
_METHODS = ("predict", "predict_proba", "transform", "novelty_score", "score")
_SPOILS = (*(None,) * 8, "nan", "inf", "-inf", "huge", "constant", "one differs")
_LAYOUTS = ("C", "F", "reversed", "every second", "repeated", "readonly", "unaligned")
_CONTAINERS = (
    *("array", "array", "array", "list", "tensor", "pandas", "polars", "sparse"),
    *("memmap", "masked", "float grad", "matrix rows"),
)


@st.composite
def arrays(draw, shapes=_SHAPES):
    """Return an array of any type, order and range."""
    shape = draw(shapes)
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    values = random.random(shape) * draw(st.sampled_from([1, 1, 255, 1e-30, 1e30]))
    values = _spoil(values, draw(st.sampled_from(_SPOILS)))
    with np.errstate(all="ignore"):
        array = _cast(values, draw(st.sampled_from(_TYPES)))
    return lay_out(array, draw(st.sampled_from(_LAYOUTS)))


def _spoil(values, how):
    if values.size and how:
        with np.errstate(all="ignore"):
            values = np.asarray(values, dtype=np.float64)
            if how in ("nan", "inf", "-inf"):
                values.flat[values.size // 2] = float(how)
            elif how == "huge":
                values.flat[0] = 1e300
            else:
                values = np.full_like(values, 3)
                values.flat[-1] += how == "one differs"
    return values


def _cast(values, name):
    try:
        return np.asarray(values).astype(name)
    except (TypeError, ValueError):  # not on this machine, or not of these values
        return np.asarray(values)


def lay_out(array, layout):
    """Return an array of the same values, in another place or order."""
    if layout == "F":
        return np.asfortranarray(array)
    if layout == "reversed" and array.ndim:
        return array[::-1].copy()[::-1]
    if layout == "every second" and array.ndim:
        return np.repeat(array, 2, axis=0)[::2]
    if layout == "repeated" and array.ndim and len(array):
        return np.broadcast_to(array[:1], array.shape)
    if layout == "unaligned" and array.dtype != object:
        held = np.zeros(array.nbytes + 1, np.uint8)[1:]
        moved = held.view(array.dtype).reshape(array.shape) if array.size else array
        if array.size:
            moved[...] = array
        return moved
    array = array.copy()
    array.setflags(write=layout != "readonly")
    return array


def contain(array, container, path):
    """Return an array as a user may hold it."""
    try:
        if container == "list":
            return array.tolist()
        if container in ("tensor", "float grad"):
            tensor = torch.from_numpy(array.copy())
            return tensor.requires_grad_() if container == "float grad" else tensor
        if container == "pandas":
            return pd.DataFrame(array)
        if container == "polars":
            return pl.DataFrame(array, schema=[f"x{i}" for i in range(array.shape[1])])
        if container == "sparse":
            return csr_array(array)
        if container == "masked":
            return np.ma.masked_array(array, mask=np.zeros(array.shape, bool))
        if container == "matrix rows":
            return list(array)
        if container == "memmap" and array.size and array.dtype != object:
            held = np.memmap(path, array.dtype, "w+", shape=array.shape)
            held[...] = array
            return held
    except (TypeError, ValueError, RuntimeError, IndexError, pl.exceptions.PolarsError):
        pass  # no such container of these values
    return array


def make_clusterer(array):
    """Return a clusterer that fits such an array in a fraction of a second."""
    short = TrainingConfig(epochs=1)
    return SCANClustering(
        2,
        K=2,
        n_heads=2,
        pretext=SimCLR(epochs=1) if array.ndim > 2 else "auto",
        head_search=short,
        clustering=short if array.ndim > 2 else "auto",
        self_labeling=None,
        batch_size=16,
        random_state=0,
    )


def check_answers(clusterer, X, n_samples):
    """Assert that a fitted clusterer answers for every sample, as documented."""
    assert clusterer.labels_.shape == clusterer.confidence_.shape == (n_samples,)
    assert clusterer.labels_.dtype == np.int64
    assert set(clusterer.labels_) <= {0, 1}
    assert ((clusterer.confidence_ > 0) & (clusterer.confidence_ <= 1)).all()
    assert np.isfinite(clusterer.embedding_).all()
    probabilities = attempt(clusterer.predict_proba, X)
    assert probabilities.shape == (n_samples, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-4)
    assert attempt(clusterer.predict, X).shape == (n_samples,)


@cases(120)
@given(arrays(), st.sampled_from(_CONTAINERS))
def test_fit_answers_or_refuses(tmp_path_factory, array, container):
    X = contain(array, container, tmp_path_factory.getbasetemp() / "array")
    with unchanged(array):
        clusterer = attempt(make_clusterer(array).fit, X)
        if clusterer is not None:
            check_answers(clusterer, X, len(array))


@cases(400)
@given(
    arrays(), st.sampled_from(_CONTAINERS), st.sampled_from([None, (2, 2), (4, 2, 1)])
)
def test_samples_are_read_or_refused(tmp_path_factory, array, container, image_shape):
    X = contain(array, container, tmp_path_factory.getbasetemp() / "array")
    with unchanged(array):
        found = attempt(Reader().learn, X, image_shape)
    if found is not None:
        assert len(found) == len(array) >= 2
        assert np.isfinite(found).all()


_FITTED = {"rows": (20, 4), "images": (20, 4, 4), "colors": (20, 4, 4, 3)}


_FITTED = {"rows": (20, 4), "images": (20, 4, 4), "colors": (20, 4, 4, 3)}


@lru_cache
def fitted(kind):
    """Return a fitted clusterer of rows or of images."""
    X = np.random.default_rng(0).random(_FITTED[kind]).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make_clusterer(X).fit(X)


@cases(250)
@given(st.data(), st.sampled_from(_CONTAINERS), st.sampled_from(_METHODS))
def test_fitted_clusterers_answer_or_refuse(tmp_path_factory, data, container, method):
    kind = data.draw(st.sampled_from(list(_FITTED)))
    alike = st.integers(0, 9).map(lambda n: (n, *_FITTED[kind][1:]))
    array = data.draw(arrays(st.one_of(alike, alike, alike, _SHAPES)))
    X = contain(array, container, tmp_path_factory.getbasetemp() / "array")
    with unchanged(array):
        found = attempt(getattr(fitted(kind), method), X)
    if found is not None and method != "score":
        assert len(found) == len(array)
        # The novelty of what is farther off than float32 can tell is infinite.
        assert not np.isnan(found).any()
        assert np.isfinite(found).all() or method == "novelty_score"
