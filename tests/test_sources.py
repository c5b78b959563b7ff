# SPDX-License-Identifier: BSD-3-Clause
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator

from sklearn_scan._sources import (
    ArraySource,
    ImageFormat,
    RowFormat,
    check_samples,
    learn_format,
)
from sklearn_scan._sources._formats import find_channel_axis

RNG = np.random.default_rng(0)
UNIT = RNG.random((12, 3, 8, 6), dtype=np.float32)  # (n, c, h, w) in [0, 1]
UNIT[0, :, 0, 0], UNIT[0, :, 0, 1] = 0, 1


def read_all(X, device="cpu"):
    return ArraySource(X, learn_format(X), device).read(torch.arange(len(X)))


def check(X, **kwargs):
    return check_samples(BaseEstimator(), X, reset=True, **kwargs)


# --- layout ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sample_shape", "axis"),
    [
        ((28, 28), None),
        ((2, 2), None),
        ((32, 32, 1), 2),
        ((32, 32, 3), 2),
        ((32, 32, 4), 2),
        ((3, 32, 32), 0),
        ((1, 32, 32), 0),
        ((4, 5, 6), 0),
        ((3, 3, 3), 2),
        ((1, 1, 1), 2),
    ],
)
def test_channels_are_the_last_axis_if_it_is_short_else_the_first(sample_shape, axis):
    assert find_channel_axis(sample_shape) == axis


@pytest.mark.parametrize("sample_shape", [(5, 32, 32), (32, 32, 5), (7,), (2, 3, 4, 5)])
def test_a_shape_without_channels_is_refused(sample_shape):
    with pytest.raises(ValueError, match=r"Cannot read samples of shape .* 1 to 4 cha"):
        find_channel_axis(sample_shape)


@pytest.mark.parametrize(
    ("X", "expected"),
    [
        pytest.param(UNIT[:, 0], UNIT[:, :1], id="n h w"),
        pytest.param(UNIT, UNIT, id="n c h w"),
        pytest.param(UNIT[:, :1], UNIT[:, :1], id="n 1 h w"),
        pytest.param(UNIT.transpose(0, 2, 3, 1), UNIT, id="n h w c"),
        pytest.param(UNIT[:, :1].transpose(0, 2, 3, 1), UNIT[:, :1], id="n h w 1"),
    ],
)
def test_every_layout_is_read_as_b_c_h_w(X, expected, device):
    got = read_all(X, device)
    assert got.dtype == torch.float32
    assert got.device == torch.empty(0, device=device).device
    assert learn_format(X).tensor_shape == expected.shape[1:]
    np.testing.assert_allclose(got.cpu().numpy(), expected, atol=1e-6)


# --- range -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "X",
    [
        pytest.param(UNIT, id="unit"),
        pytest.param(UNIT.astype(np.float64), id="float64"),
        pytest.param(16 * UNIT, id="16"),
        pytest.param(255 * UNIT, id="255"),
        pytest.param(4095 * UNIT, id="12 bit"),
        pytest.param(65535 * UNIT, id="16 bit"),
        pytest.param(1e6 * UNIT, id="beyond"),
        pytest.param(2 * UNIT - 1, id="-1 to 1"),
        pytest.param((UNIT - 0.5) / 0.25, id="standardised"),
        pytest.param(-3 - UNIT[:, ::-1], id="negative"),
    ],
)
def test_every_range_is_read_as_0_to_1(X, device):
    got = read_all(X, device).cpu().numpy()
    assert got.dtype == np.float32
    assert got.min() == pytest.approx(0, abs=1e-6)
    assert got.max() == pytest.approx(1, abs=1e-6)
    if X.max() > 0:
        np.testing.assert_allclose(got, UNIT, atol=1e-5)


def test_uint8_is_read_by_its_type_and_not_by_its_values(device):
    X = np.arange(6 * 16, dtype=np.uint8).reshape(6, 4, 4)
    got = read_all(X, device).cpu().numpy()
    np.testing.assert_allclose(got[:, 0], X / 255, atol=1e-6)


@pytest.mark.parametrize(("high", "white"), [(0.4, 1), (1.5, 16), (200, 255)])
def test_dark_images_stay_dark(high, white):
    learned = learn_format(high * UNIT)
    assert (learned.low, learned.high) == (0, white)


@pytest.mark.parametrize("value", [-1000.1, -1, 0, 0.5, 1, 300, 1e6])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_images_are_read_as_finite(value, dtype, device):
    X = np.full((4, 5, 5), value, dtype=dtype)
    learned = learn_format(X)
    got = read_all(X, device)
    assert torch.isfinite(got).all()
    assert got.min() >= 0
    assert got.max() <= 1
    assert learned.std == pytest.approx((0,), abs=1e-6)
    learned.check(X)


def test_statistics_are_those_of_the_decoded_images(device):
    X = (255 * UNIT).astype(np.uint8).transpose(0, 2, 3, 1)
    learned, decoded = learn_format(X), read_all(X, device)
    assert learned.mean == pytest.approx(decoded.mean(dim=(0, 2, 3)).tolist(), 1e-4)
    std = decoded.std(dim=(0, 2, 3), correction=0)
    assert learned.std == pytest.approx(std.tolist(), 1e-4)


@pytest.mark.parametrize(
    "X",
    [UNIT, UNIT - 0.5, 1e6 * UNIT, np.full((3, 4, 4), -1.0), UNIT.reshape(12, -1)],
)
def test_a_format_holds_primitives_only(X):
    learned = learn_format(X)
    hash(learned)
    for value in vars(learned).values():
        for entry in value if isinstance(value, tuple) else (value,):
            assert type(entry) in (int, float, type(None))


@pytest.mark.parametrize(
    ("trained", "shown", "span"),
    [
        (255 * UNIT, UNIT, "0 to 1,"),
        (16 * UNIT, UNIT, "0 to 1,"),
        (UNIT, 255 * UNIT, "0 to 255,"),
        (2 * UNIT - 1, 255 * UNIT, "0 to 255,"),
        (UNIT, UNIT - 2, "-2 to -1,"),
        ((255 * UNIT).astype(np.uint8), UNIT, "0 to 1,"),
    ],
)
def test_a_wrong_range_is_refused(trained, shown, span):
    with pytest.raises(ValueError, match=f"values from {span} .* Scale them as"):
        ImageFormat.learn(trained).check(shown)


@pytest.mark.parametrize(
    ("trained", "shown"),
    [
        (255 * UNIT, 0 * UNIT),
        (255 * UNIT, np.round(UNIT)),
        (255 * UNIT, 20 * UNIT),
        (UNIT, 1.2 * UNIT),
        (2 * UNIT - 1, 2.4 * UNIT - 1.2),
    ],
)
def test_a_range_that_may_be_right_is_accepted(trained, shown):
    ImageFormat.learn(trained).check(shown)


def test_rows_are_read_as_they_are(device):
    X = RNG.normal(size=(20, 5)) * 1e3
    learned = learn_format(X)
    assert isinstance(learned, RowFormat)
    assert learned.tensor_shape == learned.sample_shape == (5,)
    assert learned.mean == pytest.approx(X.mean(axis=0))
    assert learned.std == pytest.approx(X.std(axis=0))
    got = read_all(X, device)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.cpu().numpy(), X, rtol=1e-6)
    learned.check(1e9 * X)


# --- reading -----------------------------------------------------------------------


def test_a_read_only_memmap_is_read_in_any_order(tmp_path: Path, device):
    stored = (255 * UNIT).astype(np.uint8)
    np.save(tmp_path / "images.npy", stored)
    X = np.load(tmp_path / "images.npy", mmap_mode="r")
    source = ArraySource(X, learn_format(X), device)
    assert len(source) == 12
    got = source.read(torch.tensor([7, 0, 7]))
    np.testing.assert_allclose(got.cpu().numpy(), stored[[7, 0, 7]] / 255, atol=1e-6)


def test_what_is_read_does_not_share_memory_with_the_data(device):
    X = UNIT.copy()
    read_all(X, device).zero_()
    assert np.array_equal(X, UNIT)


# --- what a user passes ------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_arrays_are_taken_without_a_copy(dtype):
    X = UNIT.astype(dtype)
    assert np.shares_memory(check(X), X)
    assert check(X).dtype == dtype


@pytest.mark.parametrize("dtype", [bool, np.int64, np.float16, ">f4"])
def test_other_types_become_float32(dtype):
    X = (9 * UNIT).astype(dtype)
    got = check(X)
    assert got.dtype == np.float32
    assert np.array_equal(got, X)


@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.bfloat16, torch.float16, torch.float32, torch.float64]
)
def test_tensors_are_arrays(dtype, device):
    tensor = torch.tensor(16 * UNIT, device=device).to(dtype)
    expected = tensor.cpu().double().numpy()
    if dtype.is_floating_point:
        tensor.requires_grad_()
    got = check(tensor)
    assert isinstance(got, np.ndarray)
    assert np.array_equal(got, expected)


@pytest.mark.parametrize("image_shape", [(8, 18), [8, 6, 3], (3, 8, 6)])
def test_rows_become_images_where_their_shape_is_given(image_shape):
    estimator = BaseEstimator()
    flat = UNIT.reshape(12, -1)
    got = check_samples(estimator, flat, image_shape=image_shape, reset=True)
    assert np.array_equal(got, flat.reshape(12, *image_shape))
    assert estimator.image_shape_ == tuple(image_shape)
    assert estimator.n_features_in_ == 144


@pytest.mark.parametrize(
    ("X", "kwargs", "error", "message"),
    [
        ([["a.png", "b.png"]], {}, TypeError, "X holds text .*'a.png'"),
        ([[Path("a.png")]], {}, TypeError, r"X holds text .*list of paths"),
        ([Path("a.png")], {}, ValueError, r"1 of 1 image files cannot be read"),
        (UNIT[:1], {}, ValueError, "minimum of 2"),
        (UNIT[:, None], {}, ValueError, r"X has shape .* Accepted are image arrays"),
        (UNIT[:, :, :0], {}, ValueError, r"X has shape .* Accepted are image arrays"),
        (np.ones((9, 7)), {"image_shape": (2, 3)}, ValueError, "7 feat.* 2 x 3 = 6"),
        (UNIT, {"image_shape": (8, 8)}, ValueError, "Leave image_shape out"),
        (np.ones((9, 7, 7, 7)), {}, ValueError, "Cannot read samples of shape"),
        (np.full((3, 4, 4), np.nan), {}, ValueError, "NaN"),
        (np.ones(5), {}, ValueError, "Expected 2D array"),
    ],
)
def test_what_cannot_be_read_is_refused(X, kwargs, error, message):
    with pytest.raises(error, match=message):
        check(X, **kwargs)


@pytest.mark.parametrize(
    ("fitted", "shown"),
    [
        (UNIT, UNIT.reshape(12, -1)),
        (UNIT.reshape(12, -1), UNIT),
        (UNIT, UNIT[:, :, :7]),
        (UNIT[:, 0], UNIT),
    ],
)
def test_later_samples_must_have_the_shape_of_the_first(fitted, shown):
    estimator = BaseEstimator()
    check_samples(estimator, fitted, reset=True)
    with pytest.raises(ValueError, match=r"was fitted on samples of shape"):
        check_samples(estimator, shown, reset=False)


def test_later_one_sample_is_enough():
    estimator = BaseEstimator()
    check_samples(estimator, UNIT, reset=True)
    assert len(check_samples(estimator, UNIT[:1], reset=False)) == 1
