# SPDX-License-Identifier: BSD-3-Clause
"""Folders and lists of image files as samples."""

import os
import re
import shutil
import warnings
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import Reader
from PIL import Image
from sklearn.model_selection import train_test_split

import sklearn_scan
from sklearn_scan import (
    SCANClustering,
    TrainingConfig,
    config_context,
    get_config,
    set_config,
)
from sklearn_scan._console import Console
from sklearn_scan._disk import _digests
from sklearn_scan._inputs import (
    ArraySource,
    _holding,
    _lazy,
    learn_samples,
    list_images,
    read_images,
)
from sklearn_scan.pretext import SimCLR

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
UPSIDE_DOWN, QUARTER_TURN = 3, 6  # of EXIF tag 274
ORIENTATION = 274


def quarters(width=40, height=20):
    """Return a picture: red, green above blue, white."""
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    pixels[: height // 2, : width // 2] = RED
    pixels[: height // 2, width // 2 :] = GREEN
    pixels[height // 2 :, : width // 2] = BLUE
    pixels[height // 2 :, width // 2 :] = WHITE
    return Image.fromarray(pixels)


def corners(image):
    """Return the four corners of an (h, w, 3) array, row by row."""
    return [tuple(map(int, image[i, j])) for i in (0, -1) for j in (0, -1)]


def close(image, expected, tolerance=12):
    return np.abs(np.array(corners(image)) - expected).max() <= tolerance


def save(image, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return str(path)


def save_turned(image, path, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return save(image, path, exif=exif)


@pytest.fixture
def paths(tmp_path):
    """Return the paths of three pictures of several sizes and formats."""
    return [
        save(quarters(60, 30), tmp_path / "a.png"),
        save(quarters(30, 60), tmp_path / "b.jpg", quality=95),
        save(quarters(16, 16), tmp_path / "c.bmp"),
    ]


@pytest.fixture
def truncated(tmp_path):
    whole = Path(save(quarters(200, 200), tmp_path / "truncated.jpg"))
    whole.write_bytes(whole.read_bytes()[:1500])
    return str(whole)


def check(X, **kwargs):
    return Reader().learn(X, **kwargs)


# --- which files -------------------------------------------------------------------


def test_a_folder_is_listed_recursively_and_sorted(tmp_path):
    names = ["b/2.PNG", "b/10.jpeg", "a.webp", "b/c/d.tif", "z.gif"]
    for name in names:
        save(quarters(), tmp_path / name)
    for other in [".hidden.png", ".cache/e.png", "notes.txt", "b/table.pdf"]:
        path = tmp_path / other
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    expected = ["a.webp", "b/10.jpeg", "b/2.PNG", "b/c/d.tif", "z.gif"]
    expected = [str(tmp_path / name) for name in expected]
    assert list_images(tmp_path) == list_images(str(tmp_path)) == expected
    assert sklearn_scan.list_images is list_images


def test_broken_links_are_named(paths, tmp_path):
    (tmp_path / "broken.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "whole.png").symlink_to(paths[0])
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "linked.png").symlink_to(tmp_path / "folder.png")
    (tmp_path / ".hidden.png").symlink_to(tmp_path / "nowhere.png")
    listed = [os.path.basename(path) for path in list_images(tmp_path)]
    links = ["broken.png", "loop.png", "whole.png"]
    assert listed == sorted(["a.png", "b.jpg", "c.bmp", *links])
    says = (
        r"2 of 6 image files cannot be read:\n"
        r".*broken\.png: a link to '.*nowhere\.png', which does not exist\n"
        r".*loop\.png: .*symbolic links"
    )
    with pytest.raises(ValueError, match=says):
        check(tmp_path)


def test_a_folder_may_lie_in_a_hidden_one(tmp_path):
    save(quarters(), tmp_path / ".data" / "a.png")
    assert len(list_images(tmp_path / ".data")) == 1


def test_relative_folders_give_relative_paths(paths, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert list_images(".") == ["a.png", "b.jpg", "c.bmp"]
    assert len(check(".", image_shape=(4, 4))) == 3


@pytest.mark.parametrize(
    "gather",
    [
        list,
        tuple,
        np.array,
        lambda paths: np.array(paths, dtype=object),
        lambda paths: np.array(paths, dtype=np.dtypes.StringDType()),
        lambda paths: pd.Series(paths, index=[7, 8, 9]),
        lambda paths: pd.Series(paths, dtype=object),
        lambda paths: pd.Series(paths, dtype="category"),
        lambda paths: pd.Index(paths),
        lambda paths: pd.DataFrame({"path": paths}, index=[7, 8, 9]),
        lambda paths: pd.DataFrame({"path": paths}, dtype=object),
        lambda paths: pd.DataFrame({"path": list(map(Path, paths))}),
        lambda paths: list(map(Path, paths)),
        lambda paths: list(os.scandir(Path(paths[0]).parent)),
    ],
    ids=[
        "list",
        "tuple",
        "array",
        "objects",
        "StringDType",
        "Series",
        "Series of objects",
        "categories",
        "Index",
        "DataFrame",
        "DataFrame of objects",
        "DataFrame of Path",
        "Path",
        "DirEntry",
    ],
)
def test_sequences_of_paths_are_read(paths, gather):
    estimator, X = Reader(), gather(paths)
    got = estimator.learn(X, image_shape=(6, 6, 3))
    assert got.shape == (3, 6, 6, 3)
    assert sorted(estimator.paths_) == paths
    assert {type(path) for path in estimator.paths_} == {str}


def test_a_sequence_keeps_its_order(paths):
    forward, backward = (read_images(order) for order in (paths, paths[::-1]))
    np.testing.assert_array_equal(forward, backward[::-1])
    assert not np.array_equal(forward[0], forward[1])


# --- what is read ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image_shape", "expected"),
    [
        (None, (64, 64, 3)),
        ((8, 12, 3), (8, 12, 3)),
        ([3, 8, 12], (3, 8, 12)),
        ((8, 12), (8, 12)),
        ((8, 12, 1), (8, 12, 1)),
        ((1, 8, 12), (1, 8, 12)),
    ],
)
def test_images_come_in_the_layout_of_image_shape(paths, image_shape, expected):
    estimator = Reader()
    X = estimator.learn(paths, image_shape=image_shape)
    assert X.dtype == np.uint8
    assert X.shape == (3, *expected)
    assert estimator.image_shape_ == expected
    assert (estimator.input_spec_.format.low, estimator.input_spec_.format.high) == (
        0,
        255,
    )


def test_layouts_differ_only_in_the_order_of_axes(paths):
    last = read_images(paths, (8, 12, 3))
    np.testing.assert_array_equal(
        read_images(paths, (3, 8, 12)), last.transpose(0, 3, 1, 2)
    )
    gray = read_images(paths, (8, 12))
    np.testing.assert_array_equal(read_images(paths, (8, 12, 1))[..., 0], gray)
    np.testing.assert_array_equal(read_images(paths, (1, 8, 12))[:, 0], gray)


def test_pictures_of_every_size_are_the_same_picture(paths):
    for image in read_images(paths, (16, 16, 3)):
        assert close(image, [RED, GREEN, BLUE, WHITE])


def test_the_centre_is_cropped_and_the_aspect_kept(tmp_path):
    pixels = np.zeros((10, 30, 3), dtype=np.uint8)
    pixels[:, 10:20] = WHITE
    path = save(Image.fromarray(pixels), tmp_path / "wide.png")
    assert (read_images([path], (10, 10, 3)) == 255).all()


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("size", [(60, 60), (700, 500)])
def test_exif_orientation_is_applied(tmp_path, suffix, size):
    paths = [
        save_turned(quarters(*size), tmp_path / f"{orientation}.{suffix}", orientation)
        for orientation in (1, UPSIDE_DOWN, QUARTER_TURN)
    ]
    plain, upside_down, quarter_turn = read_images(paths, (16, 16, 3))
    assert close(plain, [RED, GREEN, BLUE, WHITE])
    assert close(upside_down, [WHITE, BLUE, GREEN, RED])
    assert close(quarter_turn, [BLUE, RED, WHITE, GREEN])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK"])
def test_colour_modes_are_read_as_rgb(tmp_path, mode):
    path = save(quarters().convert(mode), tmp_path / "a.tif")
    assert close(read_images([path], (16, 16, 3))[0], [RED, GREEN, BLUE, WHITE])


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_gray_modes_are_read_as_rgb_and_as_gray(tmp_path, mode):
    image = Image.fromarray(np.repeat([[0], [255]], 4, axis=1).astype(np.uint8))
    path = save(image.convert(mode), tmp_path / "a.png")
    rgb, gray = read_images([path], (2, 4, 3)), read_images([path], (2, 4))
    np.testing.assert_array_equal(gray[0], np.repeat([[0], [255]], 4, axis=1))
    np.testing.assert_array_equal(rgb, np.stack([gray] * 3, axis=-1))


def test_transparent_pixels_are_white(tmp_path):
    hidden = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    palette = quarters().convert("P")
    index_of_red = palette.getpixel((0, 0))
    paths = [
        save(hidden, tmp_path / "rgba.png"),
        save(palette, tmp_path / "palette.png", transparency=index_of_red),
    ]
    rgba, palette = read_images(paths, (8, 8, 3))
    assert (rgba == 255).all()
    assert close(palette, [WHITE, GREEN, BLUE, WHITE])


def test_a_film_is_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE)]
    path = save(frames[0], tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert close(read_images([path], (8, 8, 3))[0], [RED] * 4)


def test_jpeg_files_decoded_small_look_as_if_decoded_whole(tmp_path):
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    image = coarse.resize((800, 600))
    paths = [save(image, tmp_path / f"a.{suffix}") for suffix in ("jpg", "png")]
    jpeg, png = read_images(paths, (32, 32, 3)).astype(int)
    assert np.abs(jpeg - png).mean() < 3


def test_threads_are_used_whatever_joblib_is_told(paths):
    expected = read_images(paths)
    with joblib.parallel_config(backend="loky", n_jobs=2):
        np.testing.assert_array_equal(read_images(paths), expected)


# --- more than memory holds --------------------------------------------------------


def test_large_arrays_are_memmaps_without_a_name(paths, monkeypatch, tmp_path):
    expected = read_images(paths, (8, 8, 3))
    assert not isinstance(expected, np.memmap)
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with config_context(in_memory_bytes=3 * 8 * 8 * 3 - 1):
        got = read_images(paths, (8, 8, 3))
        checked = check(paths, image_shape=(8, 8, 3))
    assert isinstance(got, np.memmap)
    assert list(folder.iterdir()) == []
    np.testing.assert_array_equal(got, expected)
    assert isinstance(checked, np.memmap)  # no copy was made
    np.testing.assert_array_equal(checked, expected)


def test_a_disk_that_is_too_small_is_named(paths):
    with pytest.raises(ValueError, match=r"take .* GB .* GB left.*TMPDIR"):
        read_images(paths, (10**7, 10**7, 3))


class Counted:
    """Counts the files that are decoded, and asked for their content."""

    def __init__(self, monkeypatch):
        self.n_decoded = self.n_read = 0
        decode, read = _lazy.draw_files, _digests.digest_file

        def draw_files(paths, *rest):
            self.n_decoded += len(paths)
            return decode(paths, *rest)

        def digest_file(path):
            self.n_read += 1
            return read(path)

        monkeypatch.setattr(_lazy, "draw_files", draw_files)
        monkeypatch.setattr(_digests, "digest_file", digest_file)

    def take(self):
        counts = self.n_decoded, self.n_read
        self.n_decoded = self.n_read = 0
        return counts


@pytest.fixture
def settled(paths):
    """Files that were written long ago."""
    for path in paths:
        os.utime(path, (1e9, 1e9))
    return paths


def test_decoded_images_are_kept_by_their_content(settled, tmp_path, monkeypatch):
    expected = learn_samples(settled, (8, 8, 3))[0]
    counted, folder = Counted(monkeypatch), tmp_path / "cache"
    read = partial(learn_samples, image_shape=(8, 8, 3), folder=folder)
    with config_context(in_memory_bytes=0):
        first = read(settled)[0]
        assert counted.take() == (3, 3)
        assert first.n_decoded == 3
        np.testing.assert_array_equal(np.asarray(first), expected)
        np.testing.assert_array_equal(first[np.array([2, 0])], expected[[2, 0]])
        np.testing.assert_array_equal(first[1], expected[1])
        np.testing.assert_array_equal(np.stack(list(first[1:])), expected[1:])
        again = read(settled[::-1])[0]
        assert counted.take() == (0, 0)
        np.testing.assert_array_equal(np.asarray(again), expected[::-1])
        assert joblib.hash(first) != joblib.hash(again)
        assert joblib.hash(first) == joblib.hash(read(settled)[0])
        # The same content under another name, and another content under the same.
        copied = shutil.copy2(settled[0], tmp_path / "copied.png")
        shutil.copy2(settled[1], settled[2])
        os.utime(settled[2], (2e9, 2e9))
        counted.take()
        changed = read([settled[0], str(copied), settled[2]])[0]
        assert counted.take() == (0, 2)
        np.testing.assert_array_equal(np.asarray(changed), expected[[0, 0, 1]])
    assert read(settled, image_shape=(4, 4, 3))[0].shape == (3, 4, 4, 3)


def test_an_interrupted_decoding_is_taken_up(settled, tmp_path, monkeypatch):
    expected = learn_samples(settled, (8, 8, 3))[0]
    monkeypatch.setattr(_holding, "_CHUNK", 1)
    read = partial(learn_samples, image_shape=(8, 8, 3), folder=tmp_path / "cache")
    add, n_added = _holding.PixelStore._add, []

    def interrupted(self, *args):
        if len(n_added) == 2:
            raise KeyboardInterrupt
        n_added.append(1)
        return add(self, *args)

    with config_context(in_memory_bytes=0):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(_holding.PixelStore, "_add", interrupted)
            read(settled)
        (pixels,) = (tmp_path / "cache").rglob("*.pixels")
        with open(pixels, "ab") as file:
            file.write(b"half an image")
        images = read(settled)[0]
    assert images.n_decoded == 1
    np.testing.assert_array_equal(np.asarray(images), expected)


def test_what_no_disk_holds_is_decoded_each_time(settled, monkeypatch):
    expected = learn_samples(settled, (8, 8, 3))[0]
    counted = Counted(monkeypatch)
    with (
        config_context(in_memory_bytes=0, decoded_bytes=100),
        pytest.warns(UserWarning, match=r"no room in .*decoded anew.*set_config"),
    ):
        images, spec = learn_samples(settled, (8, 8, 3))
    source = ArraySource(images, spec.format, "cpu")
    counted.take()
    for _ in range(2):
        read = source.read(torch.tensor([0, 2])).permute(0, 2, 3, 1) * 255
        np.testing.assert_allclose(read.numpy(), expected[[0, 2]], atol=1e-4)
    assert counted.take()[0] == 4


@pytest.mark.filterwarnings("ignore:The samples fill")
@pytest.mark.parametrize("how", ["memory", "temporary", "kept", "each time"])
def test_labels_do_not_depend_on_where_images_are(how, settled, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(30):
        shutil.copy2(settled[i % 3], folder / f"{i}{Path(settled[i % 3]).suffix}")

    def fit(**params):
        few = TrainingConfig(epochs=1)
        return SCANClustering(
            3, K=3, n_heads=2, image_shape=(8, 8, 3), pretext=SimCLR(epochs=1),
            head_search=few, clustering=few, self_labeling=None, random_state=0,
            **params,
        ).fit(folder)  # fmt: skip

    expected = fit()
    most = 100 if how == "each time" else None
    memory = {"memory": str(tmp_path / "cache")} if how == "kept" else {}
    with (
        config_context(in_memory_bytes=0 if how != "memory" else 10**6),
        config_context(decoded_bytes=most),
        warnings.catch_warnings(),
    ):
        if how == "each time":
            warnings.filterwarnings("ignore", message="The images take")
        got = fit(**memory)
        np.testing.assert_array_equal(got.embedding_, expected.embedding_)
        np.testing.assert_array_equal(got.confidence_, expected.confidence_)
        np.testing.assert_array_equal(got.predict(folder), expected.labels_)


def words(capsys):
    """Return what was printed, with single spaces."""
    return " ".join(capsys.readouterr().out.split())


def test_the_decoding_is_counted(paths, capsys):
    reader = Reader()
    reader.learn(paths, (8, 8, 3))
    assert words(capsys) == ""
    reader.verbose = 1
    for read in (reader.learn, reader.check):
        read(paths)
        assert re.fullmatch(r"\[Reader\] decoding 3 images [\d.]+ s", words(capsys))


def test_decoding_into_the_cache_is_counted(settled, tmp_path, capsys):
    with config_context(in_memory_bytes=0):
        for n_files, counted in ((2, "decoding 2 images"), (3, "decoding 1 image ")):
            options = {"folder": tmp_path, "console": Console("Name", 1)}
            learn_samples(settled[:n_files], (8, 8, 3), **options)
            printed = words(capsys)
            assert f"[Name] {counted}" in printed
        assert printed.startswith("[Name] 2 of 3 images taken from the cache")
        learn_samples(settled, (8, 8, 3), **options)
        assert words(capsys) == "[Name] 3 of 3 images taken from the cache"


def test_settings_are_checked():
    with pytest.raises(TypeError, match="Unknown settings decoded; choose from"):
        set_config(decoded=3)
    with pytest.raises(ValueError, match="in_memory_bytes is -1"):
        set_config(in_memory_bytes=-1)
    with pytest.raises(ValueError, match="distributed is 2"):
        set_config(distributed=2)
    before = get_config()
    with pytest.raises(ValueError), config_context(decoded_bytes="1 GB"):
        pass
    assert get_config() == before


# --- what is refused ---------------------------------------------------------------


def test_all_bad_files_are_in_one_error(paths, tmp_path):
    bad = []
    for i in range(12):
        bad.append(str(tmp_path / f"bad{i}.png"))
        Path(bad[-1]).write_text("no picture")
    says = (
        r"12 of 15 image files cannot be read:\n"
        r".*bad0.png: no picture that Pillow can read\n"
        r"(.*bad\d+.png: .*\n){9}  and 2 more; `faults` of this error has all\n"
        r".*list_images\(folder\) makes one"
    )
    with pytest.raises(ValueError, match=says) as caught:
        check([*paths, *bad])
    assert sorted(caught.value.faults) == sorted(bad)
    with pytest.raises(ValueError, match="12 of 15"):
        check(tmp_path)


def test_a_truncated_file_is_named(paths, truncated):
    says = r"1 of 4 image files cannot be read:\n.*truncated.jpg: .*truncated"
    with pytest.raises(ValueError, match=says):
        check([*paths, truncated])


def test_a_damaged_png_is_named(tmp_path):
    path = Path(save(quarters(300, 300), tmp_path / "a.png"))
    content = bytearray(path.read_bytes())
    content[60:80] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"1 of 1 image files cannot be read:\n.*a\.pn"
    ):
        read_images([str(path)])


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_deep_pixels_are_not_cut_to_8_bits(tmp_path, mode):
    path = save(Image.new(mode, (8, 8)), tmp_path / "deep.tif")
    with pytest.raises(ValueError, match=r"deep.tif: more than 8 bits .* an array"):
        read_images([path])


def not_a_path(paths, folder):
    return [*paths, np.zeros((8, 8, 3))]


REFUSED = [
    # (what is wrong, X of the paths and the folder, the error, what the message says)
    ("no such folder", lambda _, f: f / "x", ValueError, "no folder '.*x'.*start at"),
    ("empty text", lambda _, f: "", ValueError, "no folder ''"),
    ("a file", lambda p, _: p[0], ValueError, "a.png' is a file, and a folder"),
    ("an empty folder", lambda _, f: f / "empty", ValueError, "holds no image.*.png"),
    ("a missing file", lambda p, f: [*p, f / "x.png"], ValueError, "1 of 4.*no such f"),
    ("relative paths", lambda _, f: ["a", "b"], ValueError, "a: no such file in /"),
    ("a folder in a list", lambda p, f: [*p, f], ValueError, "1 of 4.*a folder, and"),
    ("an empty list", lambda *_: [], ValueError, "X is empty"),
    ("an empty array", lambda *_: np.array([], dtype=str), ValueError, "X is empty"),
    ("one file", lambda p, _: p[:1], ValueError, "1 sample.*minimum of 2"),
    ("paths and arrays", not_a_path, TypeError, r"X\[3\] is of type ndarray"),
    (
        "arrays and paths",
        lambda p, _: [np.eye(4), p[0]],
        TypeError,
        r"X\[0\] is of ty",
    ),
    ("a missing value", lambda p, _: pd.Series([*p, None]), TypeError, r"X\[3\] is o"),
    ("paths in lists", lambda p, _: [p, p], TypeError, "X holds text"),
    ("bytes", lambda *_: [b"a.png"], TypeError, "X holds text"),
]


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [case[1:] for case in REFUSED],
    ids=[case[0] for case in REFUSED],
)
def test_what_is_no_image_file_is_refused(paths, tmp_path, make, error, says):
    (tmp_path / "empty").mkdir()
    with pytest.raises(error, match=re.compile(says, re.DOTALL)):
        check(make(paths, tmp_path))


@pytest.mark.parametrize(
    ("image_shape", "says"),
    [
        ((8, 8, 4), r"has 4 channels, and .* 1 \(gray\) or 3"),
        ((2, 8, 8), "has 2 channels"),
        ((8, 8, 7), "1 to 4 channels"),
        ((8,), "must be"),
        ((), "must be"),
        ((0, 8, 3), "positive integers"),
    ],
)
def test_shapes_that_files_cannot_have_are_refused(paths, image_shape, says):
    with pytest.raises(ValueError, match=says):
        check(paths, image_shape=image_shape)


@pytest.mark.parametrize("folder", [3, None, ["a"], b"a"])
def test_a_folder_is_a_path(folder):
    with pytest.raises(TypeError, match="a path is needed"):
        list_images(folder)


# --- later samples -----------------------------------------------------------------


def test_paths_are_set_and_removed(paths):
    estimator = Reader()
    estimator.learn(paths, image_shape=(8, 8, 3))
    assert estimator.paths_ == paths
    estimator.check(paths[:1])
    assert estimator.paths_ == paths
    estimator.learn(np.zeros((3, 8, 8)))
    assert not hasattr(estimator, "paths_")
    estimator.learn(np.zeros((3, 8, 8)))


@pytest.mark.parametrize("shape", [(9, 7, 3), (3, 9, 7), (9, 7)])
@pytest.mark.parametrize("as_rows", [False, True])
def test_files_are_read_as_the_arrays_that_were_fitted(paths, shape, as_rows):
    estimator, images = Reader(), read_images(paths, shape)
    fitted = images.reshape(3, -1) if as_rows else images
    estimator.learn(fitted, image_shape=shape if as_rows else None)
    got = estimator.check(paths)
    np.testing.assert_array_equal(got, images)


def test_files_are_refused_where_rows_or_fractions_were_fitted(paths):
    estimator = Reader()
    estimator.learn(np.eye(5))
    with pytest.raises(ValueError, match=r"a.png'\), but Reader.* rows of 5 features"):
        estimator.check(paths)
    estimator.learn(np.random.default_rng(0).random((3, 8, 8)))
    with pytest.raises(ValueError, match=r"range 0 to 1\. Scale them"):
        estimator.check(paths)


def test_a_clusterer_takes_folders_and_lists_of_files(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(24):
        ground = RED if i % 2 else BLUE
        noise = rng.integers(0, 60, (20, 30, 3))
        pixels = (np.array(ground) * 0.7 + noise).astype(np.uint8)
        save(Image.fromarray(pixels), tmp_path / f"{i:02}.{'png' if i % 3 else 'jpg'}")
    clusterer = SCANClustering(
        n_clusters=2,
        image_shape=(16, 16, 3),
        pretext=SimCLR(epochs=1),
        clustering=None,
        self_labeling=None,
        random_state=0,
    ).fit(tmp_path)
    assert clusterer.image_shape_ == (16, 16, 3)
    assert clusterer.paths_ == list_images(tmp_path)
    np.testing.assert_array_equal(
        clusterer.predict(clusterer.paths_), clusterer.labels_
    )
    np.testing.assert_array_equal(clusterer.predict(tmp_path), clusterer.labels_)
    images = read_images(clusterer.paths_, (16, 16, 3))
    np.testing.assert_array_equal(clusterer.predict(images), clusterer.labels_)
    kept, _ = train_test_split(clusterer.paths_, random_state=0)
    assert clusterer.transform(kept).shape[0] == 18
