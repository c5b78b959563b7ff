# SPDX-License-Identifier: BSD-3-Clause
"""The page: what is shown, as which pictures, and what comes back."""

import base64
import hashlib
import io
import json
import os
import re
from html.parser import HTMLParser
from importlib import resources

import numpy as np
import pytest
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from torch import nn

from sklearn_scan import SCANClustering, TrainingConfig
from sklearn_scan.inspection import _gallery as gallery
from sklearn_scan.inspection import write_gallery
from sklearn_scan.inspection._gallery import _group, _page
from sklearn_scan.inspection._gallery._content import find_content
from sklearn_scan.inspection._gallery._sprites import make_sheets
from sklearn_scan.inspection._pictures import open_pictures
from sklearn_scan.pretext import Pretrained, SimCLR

HOSTILE = [
    "<img src=x onerror=alert(1)>.png",
    "</script><b>",
    "../../x.png",
    "=1+1.png",
]

SHOWN = {"n_core": 12, "n_borderline": 12, "n_random": 12}


class Page(HTMLParser):
    """The elements of a page, and what scripts hold."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts = [], {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.elements and self.cdata_elem:
            tag, attrs = self.elements[-1]
            self.texts[attrs.get("id", tag)] = data

    @property
    def data(self):
        return json.loads(self.texts["data"])

    def array(self, name):
        packed = self.data[name]
        return np.frombuffer(base64.b64decode(packed["values"]), packed["type"])

    def thumbnail(self, i):
        """Return the thumbnail of a sample, as the page shows it."""
        number, slot = self.array("sheetOf")[i], self.array("slotOf")[i]
        sheet = self.data["sheets"][number]
        jpeg = base64.b64decode(self.texts[f"sheet-{number}"])
        picture = np.asarray(Image.open(io.BytesIO(jpeg)))
        assert picture.shape[1] == sheet["columns"] * sheet["cell"][0]
        assert picture.shape[0] == sheet["rows"] * sheet["cell"][1]
        row, column = divmod(int(slot), sheet["columns"])
        top, left = row * sheet["cell"][1], column * sheet["cell"][0]
        width, height = sheet["tile"]
        return picture[top : top + height, left : left + width]


def write_page(clusterer, X, folder, **parameters):
    path = write_gallery(clusterer, X, folder / "page.html", **parameters)
    return Page(path.read_text(encoding="utf-8"))


def quick(**params):
    """Return a clusterer whose heads learn little: the page is what is tested."""
    return SCANClustering(n_heads=2, head_search=TrainingConfig(epochs=5), **params)


# --- pictures ----------------------------------------------------------------------

COLORS = np.random.default_rng(0).integers(0, 256, (60, 3), dtype=np.uint8)


def make_layouts(folder):
    """Return the same plain pictures, in what estimators take."""
    plain = np.broadcast_to(COLORS[:, None, None], (60, 40, 40, 3)).copy()
    pictures = [Image.fromarray(image) for image in plain]
    paths = [os.path.join(folder, f"{i:02d}.png") for i in range(60)]
    for picture, path in zip(pictures, paths, strict=True):
        picture.save(path)
    return {
        "last": plain,
        "first": plain.transpose(0, 3, 1, 2),
        "float": plain / 255,
        "pictures": pictures,
        "paths": paths,
        "folder": folder,
    }


@pytest.mark.parametrize("layout", ["last", "first", "float", "pictures", "folder"])
def test_thumbnails_show_the_right_picture(layout, tmp_path):
    X = make_layouts(tmp_path)[layout]
    clusterer = quick(n_clusters=3, pretext=PCA(3), random_state=0).fit(X)
    page = write_page(clusterer, X, tmp_path, thumbnail_size=36)
    for i in range(60):
        thumbnail = page.thumbnail(i)
        assert thumbnail.shape == (36, 36, 3)
        # JPEG keeps plain colours, and none comes from the thumbnail beside it.
        assert np.abs(thumbnail.astype(int) - COLORS[i].astype(int)).max() <= 12
    names = page.data["captions"]
    assert names == (
        [f"{i:02d}.png" for i in range(60)] if layout == "folder" else None
    )


@pytest.mark.parametrize("layout", ["last", "pictures", "paths", "folder"])
def test_rows_have_pictures_of_their_own(layout, tmp_path, blobs):
    X = blobs[0][:60]
    clusterer = quick(n_clusters=3, random_state=0).fit(X)
    page = write_page(clusterer, X, tmp_path, images=make_layouts(tmp_path)[layout])
    assert page.data["hasImages"]
    found = page.thumbnail(7).mean(axis=(0, 1))
    np.testing.assert_allclose(found, COLORS[7], atol=12)


def test_rows_without_pictures_have_dots(tmp_path, blobs):
    clusterer = quick(n_clusters=3, random_state=0).fit(blobs[0])
    page = write_page(clusterer, blobs[0], tmp_path)
    assert not page.data["hasImages"]
    assert page.data["sheets"] == []
    assert page.data["nWithout"] == len(blobs[0])


def test_gray_images_that_are_not_square(tmp_path):
    X = np.random.default_rng(0).random((40, 30, 60))
    X[11] = np.linspace(0, 1, 60)
    clusterer = quick(n_clusters=2, pretext=PCA(3), random_state=0).fit(X)
    thumbnail = write_page(clusterer, X, tmp_path).thumbnail(11)
    assert thumbnail.shape == (30, 60)
    np.testing.assert_allclose(thumbnail / 255, X[11], atol=0.05)


@pytest.mark.parametrize("n_channels", [1, 2, 4])
def test_images_of_any_number_of_channels(n_channels, tmp_path):
    X = np.random.default_rng(0).integers(
        0, 256, (40, 9, 9, n_channels), dtype=np.uint8
    )
    clusterer = quick(n_clusters=2, pretext=PCA(3), random_state=0).fit(X)
    shape = (32, 32, 3) if n_channels == 4 else (32, 32)
    assert write_page(clusterer, X, tmp_path).thumbnail(3).shape == shape


def test_images_that_an_encoder_reads(tmp_path, digits):
    X = digits[0][:60]
    pretext = SimCLR(epochs=1)
    stages = {"clustering": None, "self_labeling": None}
    clusterer = quick(n_clusters=2, pretext=pretext, random_state=0, **stages)
    page = write_page(clusterer.fit(X), X, tmp_path)
    assert page.thumbnail(0).shape == (32, 32)
    with pytest.raises(ValueError, match="same order"):
        write_gallery(clusterer, X[::-1], tmp_path / "page.html")


def test_files_that_a_pretrained_encoder_reads(tmp_path):
    class Encoder(nn.Sequential):
        def __init__(self, shape):
            super().__init__(nn.Conv2d(3, 4, 16), nn.Flatten())

    layouts = make_layouts(tmp_path)
    shape, scale = (16, 16, 3), {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    pretext = Pretrained(Encoder, image_shape=shape, **scale)
    clusterer = quick(n_clusters=2, pretext=pretext, random_state=0)
    page = write_page(clusterer.fit(tmp_path), layouts["folder"], tmp_path)
    # Files have more pixels than the encoder reads.
    assert page.thumbnail(9).shape == (128, 128, 3)
    np.testing.assert_allclose(page.thumbnail(9).mean(axis=(0, 1)), COLORS[9], atol=12)


def test_images_given_as_rows(tmp_path, digits):
    X = digits[0][:60].reshape(60, 64)
    clusterer = quick(
        n_clusters=2, pretext=PCA(3), image_shape=(8, 8), random_state=0
    ).fit(X)
    thumbnail = write_page(clusterer, X, tmp_path).thumbnail(5)
    small = Image.fromarray(thumbnail).resize((8, 8), Image.Resampling.BOX)
    np.testing.assert_allclose(
        np.asarray(small) / 255, X[5].reshape(8, 8) / 16, atol=0.2
    )


def test_stability_is_measured_where_it_is_asked_for(
    clusterer, X, tmp_path, monkeypatch
):
    def measure(estimator, random_state):
        assert estimator is clusterer
        return np.full(5, random_state / 10)

    monkeypatch.setattr(gallery, "cluster_stability", measure)
    assert write_page(clusterer, X, tmp_path).data["stability"] is None
    given = write_page(clusterer, X, tmp_path, stability=[0.5, np.nan, 1, 0, 0]).data
    assert given["stability"] == [0.5, None, 1.0, 0.0, 0.0]
    measured = write_page(clusterer, X, tmp_path, stability=True, random_state=3)
    assert measured.data["stability"] == [0.3] * 5


# --- size --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def noisy():
    X = np.random.default_rng(0).integers(0, 256, (400, 64, 64, 3), dtype=np.uint8)
    return quick(n_clusters=4, pretext=PCA(4), random_state=0).fit(X), X


@pytest.mark.parametrize("max_bytes", [1_500_000, 600_000, 250_000])
def test_the_page_is_no_larger_than_asked_for(noisy, max_bytes, tmp_path):
    page = write_page(*noisy, tmp_path, max_bytes=max_bytes)
    size = (tmp_path / "page.html").stat().st_size
    assert size <= max_bytes + 80_000  # the script and the style
    content = find_content(*noisy, **SHOWN, random_state=np.random.RandomState(0))
    first, _ = _group(content)
    n_without = page.data["nWithout"]
    assert n_without == np.sum(page.array("sheetOf") == 2**16 - 1)
    if max_bytes > 500_000:
        # What is shown first has thumbnails, and no smaller ones than the rest.
        assert (page.array("sheetOf")[np.concatenate(first)] < 2**16 - 1).all()
        sides = [sheet["tile"][0] for sheet in page.data["sheets"]]
        assert sides == sorted(sides, reverse=True)


def test_no_room_is_no_error(noisy, tmp_path):
    page = write_page(*noisy, tmp_path, max_bytes=1)
    assert page.data["nWithout"] == 400


def test_sheets_are_small(noisy):
    pictures, _ = open_pictures(*noisy)
    groups = [np.arange(0), np.arange(399)]
    sheets = make_sheets(pictures, [np.array([399])], groups, 32, 10**9)
    assert [len(sheet.indices) for sheet in sheets] == [1, 399]
    assert sheets[1].n_columns == sheets[1].n_rows == 20


# --- safety ------------------------------------------------------------------------


def test_nothing_from_outside_becomes_markup(clusterer, X, tmp_path):
    captions = (HOSTILE * 75)[:300]
    names = [*HOSTILE, "<!--<script>"]
    plain = write_page(clusterer, X, tmp_path)
    page = write_page(
        clusterer, X, tmp_path, captions=captions, names=names, title="</title><script>"
    )
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]
    assert page.data["captions"] == captions
    assert page.data["names"] == names
    assert page.data["title"] == "</title><script>"
    text = (tmp_path / "page.html").read_text()
    assert (
        "<img" not in text.replace("<img src=x", "") or "onerror=alert(1)>" not in text
    )
    assert text.count("</script>") == sum(tag == "script" for tag, _ in page.elements)


def test_file_names_are_no_paths_of_ours(tmp_path):
    folder = tmp_path / "in" / "folder"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for k in range(20):
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"<img src=x onerror=alert({k})>.png")
    clusterer = quick(n_clusters=2, pretext=PCA(3), random_state=0).fit(folder)
    (tmp_path / "out").mkdir()
    page = write_page(clusterer, folder, tmp_path / "out")
    assert page.data["captions"][0] == "<img src=x onerror=alert(0)>.png"
    assert os.listdir(tmp_path / "out") == ["page.html"]
    assert sorted(os.listdir(tmp_path)) == ["in", "out"]


def test_the_policy_allows_our_script_and_style_alone(clusterer, X, tmp_path):
    page = write_page(clusterer, X, tmp_path)
    policy = next(
        attrs["content"]
        for tag, attrs in page.elements
        if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data: blob:"
    for kind, name in (("script", "script-src"), ("style", "style-src")):
        digest = hashlib.sha256(page.texts[kind].encode()).digest()
        assert rules[name] == f"'sha256-{base64.b64encode(digest).decode()}'"
    for _, attrs in page.elements:
        assert not [name for name in attrs if name.startswith("on") or name == "style"]
        assert attrs.get("href", "#").startswith(("#", "data:,"))
        assert "src" not in attrs


def test_the_script_makes_no_markup():
    script = _page._read_script()
    for name in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
    ):
        assert name not in script
    assert not re.search(r"https?://", script)


def test_the_package_has_the_parts_of_the_page():
    folder = resources.files("sklearn_scan.inspection._gallery") / "page"
    for name in ("page.html", "page.css", *_page._SCRIPTS):
        assert (folder / name).is_file()


def test_there_is_never_half_a_page(clusterer, X, tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    path.write_text("as it was")
    monkeypatch.setattr(os, "replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_gallery(clusterer, X, path)
    assert os.listdir(tmp_path) == ["page.html"]
    assert path.read_text() == "as it was"


# --- errors ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"names": ["a"]}, "names has 1 texts for 5 clusters"),
        ({"captions": ["a"]}, "captions has 1 texts for 300 samples"),
        ({"n_core": -1}, "n_core must be at least 0"),
        ({"stability": [0.5]}, "for each of 5 clusters"),
        ({"stability": [0.5, 0.5, 2, 0.5, 0.5]}, "a number from 0 to 1"),
        ({"thumbnail_size": 0}, "thumbnail_size must be at least 1"),
        ({"images": np.zeros((3, 8, 8))}, "images has 3 samples, but .* 300"),
        ({"images": np.zeros((300, 8))}, "rows cannot be drawn"),
    ],
)
def test_wrong_parameters_are_explained(parameters, says, clusterer, X, tmp_path):
    with pytest.raises(ValueError, match=says):
        write_page(clusterer, X, tmp_path, **parameters)
    assert os.listdir(tmp_path) == []


def test_wrong_samples_are_explained(clusterer, X, tmp_path, blobs):
    with pytest.raises(ValueError, match=r"X has 10 samples, but .* 300"):
        write_page(clusterer, X[:10], tmp_path)
    with pytest.raises(NotFittedError):
        write_page(SCANClustering(), X, tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        write_page(clusterer, X, tmp_path / "missing")
    with pytest.raises(ValueError, match="is a folder"):
        write_gallery(clusterer, X, tmp_path)
    rows = quick(n_clusters=3, random_state=0).fit(blobs[0])
    with pytest.raises(ValueError, match="X has 9 samples"):
        write_page(rows, blobs[0][:9], tmp_path)


def test_files_in_another_order_are_refused(tmp_path):
    layouts = make_layouts(tmp_path)
    clusterer = quick(n_clusters=2, pretext=PCA(3), random_state=0)
    clusterer.fit(layouts["paths"])
    with pytest.raises(ValueError, match=r"X has the file .*59.png.* where"):
        write_page(clusterer, layouts["paths"][::-1], tmp_path)
