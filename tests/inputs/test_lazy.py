# SPDX-License-Identifier: BSD-3-Clause
"""Images that are decoded when they are asked for."""

import shutil

import numpy as np
import pytest
from PIL import Image

from sklearn_scan._inputs import (
    LazyImages,
    Preparation,
    _lazy,
    find_digests,
    learn_format,
)
from sklearn_scan._inputs._validation import check_samples, learn_samples

ORIENTATION, QUARTER_TURN = 274, 6


def halve(picture):
    """Crop as the preparations of encoders do: to 4 x 4 pixels."""
    return picture.resize((4, 4), Image.Resampling.BOX)


PREPARATION = Preparation((4, 4, 3), halve, (0.5,) * 3, (0.25,) * 3)


def make_pixels(n_images=5, shape=(8, 8, 3)):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n_images, *shape), dtype=np.uint8)


def as_pictures(images):
    return [Image.fromarray(image) for image in images]


@pytest.fixture
def paths(tmp_path):
    found = [str(tmp_path / f"{i}.png") for i in range(5)]
    for picture, path in zip(as_pictures(make_pixels()), found, strict=True):
        picture.save(path)
    return found


@pytest.fixture
def lazy(paths):
    return LazyImages(paths, PREPARATION)


def test_it_has_the_shape_of_the_array(lazy):
    assert (lazy.shape, lazy.ndim, len(lazy)) == ((5, 4, 4, 3), 4, 5)
    assert lazy.size == lazy.nbytes == np.asarray(lazy).nbytes == 5 * 4 * 4 * 3
    assert lazy.dtype == np.asarray(lazy).dtype == np.uint8


def test_it_is_indexed_as_the_array(lazy):
    whole = np.asarray(lazy)
    np.testing.assert_array_equal(whole, [halve(p) for p in as_pictures(make_pixels())])
    np.testing.assert_array_equal(lazy[[3, 1, 3]], whole[[3, 1, 3]])
    np.testing.assert_array_equal(lazy[2], whole[2])
    np.testing.assert_array_equal(lazy[-1], whole[-1])
    np.testing.assert_array_equal(lazy[np.int64(1)], whole[1])
    np.testing.assert_array_equal(np.stack(list(lazy)), whole)
    assert lazy[np.array([], dtype=int)].shape == (0, 4, 4, 3)


def test_a_slice_decodes_nothing(lazy, monkeypatch):
    whole = np.asarray(lazy)
    with monkeypatch.context() as patched:
        patched.setattr(_lazy, "draw_files", None)
        part = lazy[1:4:2]
        assert part.shape == (2, 4, 4, 3)
        assert part.paths == lazy.paths[1:4:2]
    np.testing.assert_array_equal(part, whole[1:4:2])


def test_all_are_looked_at_in_parts(lazy, monkeypatch):
    sizes, draw = [], _lazy.draw_files
    monkeypatch.setattr(_lazy, "_CHUNK", 2)
    monkeypatch.setattr(
        _lazy, "draw_files", lambda p, *a: (sizes.append(len(p)), draw(p, *a))[1]
    )
    assert len(list(lazy)) == 5
    assert sizes == [2, 2, 1]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("layout", ["(n, h, w, c)", "(n, c, h, w)", "(n, h, w)"])
def test_images_in_memory_are_those_of_files(dtype, layout):
    images = make_pixels(shape=(8, 8) if layout == "(n, h, w)" else (8, 8, 3))
    expected = np.asarray(LazyImages(as_pictures(images), PREPARATION))
    images = images.transpose(0, 3, 1, 2) if layout == "(n, c, h, w)" else images
    images = images if dtype == np.uint8 else (images / 255).astype(dtype)
    lazy = LazyImages(images, PREPARATION, learn_format(images))
    np.testing.assert_array_equal(lazy, expected)
    assert lazy.paths is None


def test_values_beyond_the_range_are_black_or_white():
    pixels = learn_format(np.linspace(0, 1, 128).reshape(2, 8, 8))
    images = np.stack([np.full((8, 8), -1.0), np.full((8, 8), 1.5)])
    lazy = np.asarray(LazyImages(images, PREPARATION, pixels))
    assert (lazy[0] == 0).all()
    assert (lazy[1] == 255).all()


def test_later_images_may_have_any_size(paths):
    found, spec = learn_samples(make_pixels(), preparation=PREPARATION, is_lazy=True)
    assert isinstance(found, LazyImages)
    for later in (paths, make_pixels(2, (30, 9, 3)), make_pixels(3, (5, 6)) * 1.0):
        images = check_samples(later, spec, "Reader")
        assert images.shape == (len(later), 4, 4, 3)
        assert np.asarray(images).any()
    with pytest.raises(ValueError, match="in the range 0 to 255"):
        check_samples(make_pixels() / 255, spec, "Reader")


def test_what_is_not_lazy_is_an_array(paths):
    found, spec = learn_samples(paths, preparation=PREPARATION)
    assert type(found) is np.ndarray
    lazy, _ = learn_samples(paths, preparation=PREPARATION, is_lazy=True)
    np.testing.assert_array_equal(found, lazy)
    assert type(check_samples(paths, spec, "Reader")) is np.ndarray


def test_files_are_drawn_at_the_shape_that_is_asked_for(paths):
    for shape, axis in (((3, 6, 9), 0), ((6, 9, 3), 2), ((6, 9), None)):
        lazy, spec = learn_samples(paths, preparation=Preparation(shape), is_lazy=True)
        assert np.asarray(lazy).shape == (5, *shape)
        assert spec.format.channel_axis == axis


def test_statistics_that_are_given_are_not_learned(lazy, monkeypatch):
    monkeypatch.setattr(_lazy, "draw_files", None)
    format = PREPARATION.find_format(lazy)
    assert (format.mean, format.std) == ((0.5,) * 3, (0.25,) * 3)
    assert (format.low, format.high, format.tensor_shape) == (0, 255, (3, 4, 4))


def test_statistics_are_learned_where_one_is_missing(lazy):
    whole = np.asarray(lazy) / 255
    for given in ({}, {"mean": (0.5,) * 3}):
        format = Preparation((4, 4, 3), halve, **given).find_format(lazy)
        np.testing.assert_allclose(format.mean, whole.mean(axis=(0, 1, 2)))
        np.testing.assert_allclose(format.std, whole.std(axis=(0, 1, 2)))


def test_faulty_pictures_are_named(paths):
    pictures = [*as_pictures(make_pixels(2)), Image.new("I", (8, 8))]
    lazy = LazyImages(pictures, PREPARATION)
    with pytest.raises(ValueError, match=r"1 of 3 pictures.*\n.*X\[2\]: more than 8"):
        lazy.check(range(3))
    lazy.check([0, 1])
    with open(paths[1], "w") as file:
        file.write("no picture")
    lazy = LazyImages(paths, PREPARATION)
    for read in (lambda: lazy.check([0, 1]), lambda: lazy[[0, 1]]):
        with pytest.raises(ValueError, match=r"1 of 2 image files.*\n.*1\.png: no pic"):
            read()
    assert lazy[[0, 2]].shape == (2, 4, 4, 3)


# --- by what images are known ------------------------------------------------------


def digests(items, pixels=None):
    lazy = LazyImages(items, PREPARATION, pixels)
    return [lazy.digest(i) for i in range(len(items))]


def test_a_digest_is_that_of_the_content(paths, tmp_path):
    copy = tmp_path / "copy.png"
    shutil.copy(paths[2], copy)
    files = LazyImages([*paths, str(copy)], PREPARATION)
    found = find_digests(files, tmp_path / "cache")
    assert len(set(found)) == 5
    assert found[5] == found[2]
    images = make_pixels()
    in_memory = digests(images, learn_format(images))
    assert len(set(in_memory)) == 5
    assert in_memory == digests(as_pictures(images))
    floats = images / 255
    assert in_memory == digests(floats, learn_format(floats))


def test_pictures_that_look_different_have_different_digests():
    plain = Image.fromarray(make_pixels(1, (8, 8))[0])
    turned, indexed, other, transparent = (plain.copy() for _ in range(4))
    turned.getexif()[ORIENTATION] = QUARTER_TURN
    pictures = [plain, turned]
    for picture, shift in ((indexed, 0), (other, 1), (transparent, 0)):
        picture = picture.convert("P")
        picture.putpalette([(i + shift) % 256 for i in range(256) for _ in range(3)])
        pictures.append(picture)
    pictures[-1].info["transparency"] = pictures[-1].getpixel((0, 0))
    looks = [np.asarray(LazyImages([p], PREPARATION)).tobytes() for p in pictures]
    found = digests(pictures)
    for i, j in [(0, 1), (2, 3), (2, 4)]:
        assert looks[i] != looks[j]
        assert found[i] != found[j], (i, j)
