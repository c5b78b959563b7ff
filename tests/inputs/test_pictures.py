# SPDX-License-Identifier: BSD-3-Clause
"""Lists of Pillow's pictures as samples: read as files with the same content are."""

import re

import numpy as np
import pandas as pd
import pytest
from helpers import Reader
from PIL import Image

from sklearn_scan import SCANClustering
from sklearn_scan._inputs import read_images
from sklearn_scan.pretext import SimCLR

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
ORIENTATION, QUARTER_TURN = 274, 6


def colored(size=(8, 6)):
    pixels = np.full((size[1], size[0], 3), RED, dtype=np.uint8)
    pixels[:3, :4], pixels[3:, :4], pixels[:3, 4:] = GREEN, BLUE, WHITE
    return Image.fromarray(pixels)


def gray(size=(8, 6)):
    return Image.fromarray(np.resize([0, 255], size[::-1]).astype(np.uint8))


def with_alpha(image, mode, alpha):
    image = image.convert(mode)
    image.putalpha(alpha)
    return image


def transparent_red():
    palette = colored().convert("P")
    palette.info["transparency"] = palette.getpixel((7, 5))
    return palette


def check(X, estimator=None, **kwargs):
    estimator = Reader() if estimator is None else estimator
    return estimator.learn(X, **kwargs)


MODES = [
    # (mode, a picture in it, the same as plain gray or RGB)
    ("L", gray(), gray()),
    ("1", gray().convert("1"), gray()),
    ("LA", with_alpha(gray(), "LA", 255), gray()),
    ("transparent LA", with_alpha(gray(), "LA", 0), Image.new("L", (8, 6), 255)),
    ("RGB", colored(), colored()),
    ("P", colored().convert("P"), colored()),
    ("transparent P", transparent_red(), None),
    ("CMYK", colored().convert("CMYK"), colored()),
    ("RGBA", with_alpha(colored(), "RGBA", 255), colored()),
    (
        "transparent RGBA",
        with_alpha(colored(), "RGBA", 0),
        Image.new("RGB", (8, 6), WHITE),
    ),
    ("YCbCr", colored().convert("YCbCr"), None),
]


@pytest.mark.parametrize(
    ("picture", "plain"), [case[1:] for case in MODES], ids=[case[0] for case in MODES]
)
def test_every_mode_is_read_as_gray_or_rgb(picture, plain, tmp_path):
    before = picture.mode, picture.tobytes()
    got = check([picture] * 3)
    assert got.dtype == np.uint8
    assert (picture.mode, picture.tobytes()) == before
    if plain is not None:
        np.testing.assert_array_equal(got, [np.asarray(plain)] * 3)
    # As from a file.
    if picture.mode != "YCbCr":
        picture.save(
            tmp_path / "a.tif" if picture.mode == "CMYK" else tmp_path / "a.png"
        )
        (path,) = tmp_path.iterdir()
        np.testing.assert_array_equal(got[:1], read_images([str(path)], got.shape[1:]))


@pytest.mark.parametrize(
    "gather",
    [
        list,
        tuple,
        lambda pictures: pd.Series(pictures, index=[7, 8, 9]),
        lambda pictures: pd.DataFrame({"image": pictures}),
    ],
    ids=["list", "tuple", "Series", "DataFrame"],
)
def test_gray_and_colour_together_become_rgb(gather):
    estimator = Reader()
    got = check(gather([gray(), colored(), colored().convert("P")]), estimator)
    assert got.shape == (3, 6, 8, 3)
    assert estimator.image_shape_ == (6, 8, 3)
    assert not hasattr(estimator, "paths_")
    np.testing.assert_array_equal(got[0], np.asarray(gray().convert("RGB")))


def test_exif_orientation_is_applied():
    turned = colored((6, 8))
    turned.getexif()[ORIENTATION] = QUARTER_TURN
    got = check([turned, colored()])
    assert got.shape == (2, 6, 8, 3)
    np.testing.assert_array_equal(got[0], np.rot90(np.asarray(colored((6, 8))), -1))


@pytest.mark.parametrize("shape", [(7, 9), (7, 9, 3), [3, 7, 9], (1, 7, 9)])
def test_pictures_are_scaled_as_files_where_image_shape_is_given(shape, tmp_path):
    pictures = [colored((40, 30)), colored((20, 60)), colored()]
    paths = [str(tmp_path / f"{i}.png") for i in range(3)]
    for picture, path in zip(pictures, paths, strict=True):
        picture.save(path)
    got = check(pictures, image_shape=shape)
    np.testing.assert_array_equal(got, read_images(paths, shape))


def test_a_lazily_opened_picture_is_read_whole(tmp_path):
    colored((800, 600)).save(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as picture:
        check([picture, picture], image_shape=(8, 8, 3))
        assert picture.size == (800, 600)


@pytest.mark.parametrize("shape", [None, (5, 7), (3, 5, 7)])
def test_predict_follows_what_fit_saw(shape):
    estimator = Reader()
    fitted = check([gray(), gray()], estimator, image_shape=shape)
    got = estimator.check([colored(), gray(), colored((80, 60))])
    assert got.shape[1:] == fitted.shape[1:]
    if shape is None:
        np.testing.assert_array_equal(got[0], np.asarray(colored().convert("L")))


def test_predict_follows_arrays_and_rows():
    arrays, rows = Reader(), Reader()
    pixels = np.stack([np.asarray(colored()), np.asarray(colored().rotate(180))])
    check(pixels, arrays)
    check(pixels.reshape(2, -1), rows, image_shape=(6, 8, 3))
    for estimator in (arrays, rows):
        got = estimator.check([colored().convert("P")])
        np.testing.assert_array_equal(got, pixels[:1])


REFUSED = [
    # (what is wrong, X, the error, what the message says)
    (
        "sizes",
        [colored(), colored(), colored((9, 6))],
        ValueError,
        r"X holds pictures of 2 sizes.*X\[0\] is 8 x 6.*X\[2\] is 9 x 6.*image_shape",
    ),
    (
        "16 bits",
        [gray(), Image.new("I;16", (8, 6)), Image.new("F", (8, 6))],
        ValueError,
        r"2 of 3 pictures cannot be read:\n  X\[1\]: more than 8 bits per pixel "
        r"\(mode I;16\); .* an array.*\n  X\[2\]: .*mode F",
    ),
    (
        "pictures and arrays",
        [colored(), np.asarray(colored())],
        TypeError,
        r"X holds pictures and other things: X\[1\] is of type ndarray",
    ),
    (
        "arrays and pictures",
        [np.eye(8), gray()],
        TypeError,
        r"X\[0\] is of type ndarray",
    ),
    ("pictures and None", [gray(), None], TypeError, r"X\[1\] is of type NoneType"),
    ("paths and pictures", ["a.png", gray()], TypeError, r"X\[1\] is of type Image"),
    (
        "one picture",
        colored(),
        TypeError,
        r"X is one picture\. Pass a list .*\[picture\]",
    ),
]


@pytest.mark.parametrize(
    ("X", "error", "says"),
    [case[1:] for case in REFUSED],
    ids=[case[0] for case in REFUSED],
)
def test_what_cannot_be_stacked_is_refused(X, error, says):
    with pytest.raises(error, match=re.compile(says, re.DOTALL)):
        check(X)


def test_pictures_are_refused_where_rows_were_fitted():
    estimator = Reader()
    check(np.eye(5), estimator)
    with pytest.raises(ValueError, match=r"pictures, but Reader.* rows of 5"):
        estimator.check([gray()])


def test_a_clusterer_takes_lists_of_pictures():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)
    opaque = [Image.fromarray(image) for image in pixels]
    pictures = [with_alpha(image, "RGBA", 255) for image in opaque]
    params = {"clustering": None, "self_labeling": None, "random_state": 0}
    clusterer = SCANClustering(n_clusters=2, pretext=SimCLR(epochs=1), **params)
    clusterer.fit(pictures)
    np.testing.assert_array_equal(clusterer.predict(opaque), clusterer.labels_)
    np.testing.assert_array_equal(clusterer.predict(pixels), clusterer.labels_)
