# SPDX-License-Identifier: BSD-3-Clause
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import Reader
from PIL import Image
from scipy.ndimage import zoom

from sklearn_scan._inputs import (
    ArraySource,
    ImageFormat,
    RowFormat,
    _formats,
    learn_format,
)
from sklearn_scan._inputs._formats import find_channel_axis

RNG = np.random.default_rng(0)
UNIT = RNG.random((12, 3, 8, 6), dtype=np.float32)  # (n, c, h, w) in [0, 1]
UNIT[0, :, 0, 0], UNIT[0, :, 0, 1] = 0, 1


def read_all(X, device="cpu"):
    return ArraySource(X, learn_format(X), device).read(torch.arange(len(X)))


def check(X, **kwargs):
    return Reader().learn(X, **kwargs)


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


def with_values(X, *values):
    """Return a copy with the first values replaced, of one image each."""
    X = np.array(X)
    for image, value in zip(X, values, strict=False):
        image.flat[0] = value
    return X


def resampled(X, method):
    """Return images of twice the side, with the ringing that resampling causes."""
    return np.stack(
        [np.asarray(Image.fromarray(image).resize((12, 16), method)) for image in X]
    )


GRAY = UNIT[:, 0]
BINARY = (GRAY > 0.5).astype(np.float32)
# Most of a standardised digit is background, little below zero.
SPARSE = np.where(GRAY > 0.8, GRAY, 0).astype(np.float32)
SPARSE = (SPARSE - SPARSE.mean()) / SPARSE.std()
RANGES = [
    # (what it is, images, black, white)
    ("rounding", 1.0001 * UNIT, 0, 1),
    ("rounding of 255", 255 / 254.9 * 255 * UNIT, 0, 255),
    ("overshoot of 1", 1.07 * UNIT, 0, 1),
    ("overshoot of 16", 17 * UNIT, 0, 16),
    ("overshoot of 255", 262 * UNIT, 0, 255),
    ("12 bits and some", 4100 * UNIT, 0, 4095),
    ("16 bits", 65535 * UNIT, 0, 65535),
    ("16 bits and some", 66000 * UNIT, 0, 65535),
    ("bicubic", resampled(GRAY, Image.BICUBIC), 0, 1),
    ("bicubic of 255", resampled(255 * GRAY, Image.BICUBIC), 0, 255),
    ("bicubic of masks", resampled(BINARY, Image.BICUBIC), 0, 1),
    ("Lanczos of masks", resampled(BINARY, Image.LANCZOS), 0, 1),
    ("Lanczos of 16", resampled(16 * BINARY, Image.LANCZOS), 0, 16),
    ("spline of masks", np.stack([zoom(image, 2) for image in BINARY]), 0, 1),
    ("slightly negative", with_values(UNIT, -0.02), 0, 1),
    ("slightly negative of 255", with_values(255 * UNIT, -3, -3), 0, 255),
    ("hot pixels", with_values(UNIT, 40, 1e4, 3e38), 0, 1),
    ("hot pixels of 255", with_values(255 * UNIT, 4095, 65535), 0, 255),
    ("dead pixels", with_values(UNIT, -9999, -9999), 0, 1),
    ("hot pixels of [-1, 1]", with_values(2 * UNIT[1:] - 1, 90, 90), -1, 1),
    ("dark", 0.6 * UNIT, 0, 1),
    ("dark of 255", 120 * UNIT, 0, 255),
    ("above 16", 25 * UNIT, 0, 255),
    ("above 255", 400 * UNIT, 0, 4095),
    ("-1 to 1", 2 * UNIT - 1, -1, 1),
    ("mostly bright, -1 to 1", 2 * np.sqrt(np.sqrt(UNIT)) - 1, -1, 1),
    ("standardised", (UNIT - 0.5) / 0.25, -2, 2),
    ("standardised, sparse", SPARSE, SPARSE.min(), SPARSE.max()),
    ("few bright images", np.concatenate([9 * UNIT] * 20 + [255 * UNIT]), 0, 255),
    ("few bright pixels", np.where(UNIT > 0.97, 255, 9 * UNIT), 0, 255),
    ("masks", BINARY, 0, 1),
    ("one value but for one", with_values(0 * UNIT, 255), 0, 255),
    ("integers as float", np.floor(256 * UNIT * 0.999), 0, 255),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("X", "low", "high"),
    [case[1:] for case in RANGES],
    ids=[case[0] for case in RANGES],
)
def test_the_range_is_that_of_clean_images(X, low, high, dtype):
    X = X.astype(dtype)
    learned, decoded = learn_format(X), read_all(X)
    assert (learned.low, learned.high) == pytest.approx((low, high), rel=0.01)
    if low == 0:
        assert (learned.low, learned.high) == (low, high)
    # What is beyond the range is black or white, for the statistics as well.
    expected = np.clip((X - learned.low) / (learned.high - learned.low), 0, 1)
    expected = expected if X.ndim == 4 else expected[:, None]
    np.testing.assert_allclose(decoded.numpy(), expected, atol=1e-5)
    assert learned.mean == pytest.approx(expected.mean(axis=(0, 2, 3)), abs=1e-5)
    assert learned.std == pytest.approx(expected.std(axis=(0, 2, 3)), abs=1e-5)
    # What fit accepts, predict accepts: as a whole, and image by image.
    learned.check(X)
    for image in X:
        learned.check(image[None])


def test_hot_pixels_do_not_open_the_range_to_images_of_another_scale():
    learned = learn_format(with_values(UNIT, 300, 300))
    learned.check(with_values(UNIT[3:], 280))
    for n_images in [1, 12, 12_000]:
        with pytest.raises(ValueError, match=r"range 0 to 1\. Scale them"):
            learned.check(np.resize(255 * UNIT, (n_images, 3, 8, 6)))
    with pytest.raises(ValueError, match=r"range 0 to 1\. Scale them"):
        learn_format(UNIT).check(np.where(UNIT[:1] > 0.95, 300, UNIT[:1]))


def test_fractions_are_refused_with_ringing_as_well():
    learned = learn_format(255 * UNIT)
    with pytest.raises(ValueError, match="Scale them"):
        learned.check(with_values(UNIT, -0.02, 1.1))


def test_black_frames_are_accepted_again_and_fractions_are_not():
    black = 0.2 * UNIT[:3]
    learned = learn_format(np.concatenate([255 * UNIT, black, 0 * black]))
    learned.check(black)
    learned.check(black[:1] - 0.01)
    with pytest.raises(ValueError, match="Scale them"):
        learned.check(UNIT)


def test_the_range_of_many_images_is_that_of_some(monkeypatch):
    X = np.tile(255 * UNIT, (30, 1, 1, 1))
    whole = learn_format(X)
    monkeypatch.setattr(_formats, "_N_VALUES_FOR_RANGE", 5000)
    some = learn_format(X)
    assert (some.low, some.high) == (whole.low, whole.high) == (0, 255)
    assert some == learn_format(X)
    signed = learn_format(X - 100)
    assert (signed.low, signed.high) == pytest.approx((-100, 155), abs=2)
    signed.check(X - 100)


class Counted(np.ndarray):
    """An array that counts how many of its values are looked at."""

    n_read = 0

    def __getitem__(self, index):
        part = np.asarray(super().__getitem__(index))
        Counted.n_read += part.size
        return part

    def min(self, *args, **kwargs):
        Counted.n_read += self.size
        return np.asarray(self).min(*args, **kwargs)

    def max(self, *args, **kwargs):
        Counted.n_read += self.size
        return np.asarray(self).max(*args, **kwargs)


@pytest.mark.parametrize(("dtype", "n_times"), [(np.uint8, 0), (np.float32, 1)])
def test_the_range_is_learned_in_one_reading(dtype, n_times, monkeypatch):
    monkeypatch.setattr(_formats, "_N_SAMPLES_FOR_STATISTICS", 10)
    monkeypatch.setattr(Counted, "n_read", 0)
    X = np.ones((900, 8, 8), dtype=dtype).view(Counted)
    learn_format(X)
    # And twice one image in 90, for estimates.
    assert n_times * X.size < Counted.n_read < (n_times + 0.03) * X.size


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
    estimator = Reader()
    flat = UNIT.reshape(12, -1)
    got = estimator.learn(flat, image_shape=image_shape)
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
    estimator = Reader()
    estimator.learn(fitted)
    with pytest.raises(ValueError, match=r"was fitted on samples of shape"):
        estimator.check(shown)


def test_later_one_sample_is_enough():
    estimator = Reader()
    estimator.learn(UNIT)
    assert len(estimator.check(UNIT[:1])) == 1
