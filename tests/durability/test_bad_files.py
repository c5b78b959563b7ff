# SPDX-License-Identifier: BSD-3-Clause
"""Files that cannot be read: refused before anything is trained, or left out."""

import os
import socket
import struct
import threading
import zlib

import numpy as np
import pytest
from PIL import Image

from sklearn_scan import SCANClustering, TrainingConfig, config_context, list_images
from sklearn_scan._inputs import (
    LazyImages,
    Preparation,
    UnreadableImagesError,
    _lazy,
    find_digests,
    learn_samples,
)
from sklearn_scan.inspection import apply_edits, write_gallery
from sklearn_scan.inspection._readable import keep_readable
from sklearn_scan.pretext import DeepCluster, Pretrained, SimCLR

SHAPE = (8, 8, 3)
FOUND_BROKEN = pytest.mark.filterwarnings("ignore:.*cannot be read")


def draw(seed, size=(10, 10)):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8))


def write_bomb(path):
    """Write a PNG file of few bytes and very many pixels."""

    def chunk(name, content):
        body = name + content
        checksum = struct.pack(">I", zlib.crc32(body))
        return struct.pack(">I", len(content)) + body + checksum

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    parts = (b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), chunk(b"IDAT", pixels))
    path.write_bytes(b"".join(parts) + chunk(b"IEND", b""))


def truncate(path):
    draw(0, (60, 60)).save(path)
    os.truncate(path, 2000)


def flip(path):
    draw(0, (60, 60)).save(path)
    content = bytearray(path.read_bytes())
    content[1000] ^= 255
    path.write_bytes(content)


def change_bit(path):
    """Write a PNG file with one bit changed, which Pillow reads as another picture."""
    Image.linear_gradient("L").resize((96, 96)).save(path)
    whole, content = Image.open(path).tobytes(), bytearray(path.read_bytes())
    for place in range(len(content) // 2, len(content)):
        content[place] ^= 1
        path.write_bytes(content)
        try:
            if Image.open(path).tobytes() != whole:
                return
        except (OSError, SyntaxError):
            pass
        content[place] ^= 1
    raise AssertionError("Pillow finds all changes")


def put_socket(path):
    # The name of a socket is short; a folder of tests is not.
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(path.name)
    finally:
        os.chdir(here)


def forbid(path):
    draw(0).save(path)
    path.chmod(0)


BROKEN = {
    "truncated": (truncate, "[Tt]runcated|broken"),
    "flipped": (flip, "broken|CRC|checksum|data"),
    "changed": (change_bit, "broken PNG file"),
    "numbers": (
        lambda path: path.write_bytes(b"P6\n4 4\n2x5\n" + bytes(48)),
        r"its content is broken \(",
    ),
    "empty": (lambda path: path.touch(), "no picture that Pillow can read"),
    "text": (lambda path: path.write_text("text"), "no picture that Pillow can read"),
    "bomb": (write_bomb, "exceeds limit of .* pixels"),
    "dangling": (lambda path: path.symlink_to("gone.png"), "does not exist"),
    "leaving": (lambda path: path.symlink_to("/etc/passwd"), "outside of the folder"),
    "fifo": (os.mkfifo if hasattr(os, "mkfifo") else None, "a FIFO, and no file"),
    "socket": (put_socket, "a socket, and no file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "a device|outside"),
    "deep": (lambda path: Image.new("I;16", (9, 9)).save(path), "more than 8 bits"),
    "forbidden": (forbid, "Permission denied"),
}


def needed(kinds=BROKEN):
    """Return the kinds that this system has."""
    if os.name == "nt":
        return [
            k for k in kinds if k in {"truncated", "flipped", "empty", "text", "bomb"}
        ]
    return [k for k in kinds if k != "forbidden" or os.geteuid() != 0]


@pytest.fixture
def good(tmp_path):
    """Return a folder of twelve pictures, some of rare kinds."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(9):
        draw(i).save(folder / f"{i}.png")
    draw(9).convert("CMYK").save(folder / "cmyk.jpg")
    draw(10).convert("P").save(folder / "palette.gif")
    frames = [draw(seed) for seed in (11, 12)]
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:])
    for path in folder.iterdir():
        os.utime(path, (1e9, 1e9))
    return folder


def add(folder, kinds):
    """Add a broken file of each kind; return their paths by the kind."""
    found = {}
    for kind in needed(kinds):
        path = folder / f"5{kind}.png"
        BROKEN[kind][0](path)
        found[kind] = str(path)
    return found


@pytest.fixture
def mixed(good):
    """Return a folder with broken files of all kinds among the others."""
    (good / "folder.png").mkdir()
    return good, add(good, BROKEN)


def read(X, memory, **options):
    """Read as `fit` does: into memory, the cache or, "lazy", each time anew."""
    with config_context(in_memory_bytes=0 if memory else 2**30):
        return learn_samples(X, SHAPE, folder=memory, **options)


# --- all are named -----------------------------------------------------------------


@pytest.mark.parametrize("where", ["memory", "cache", "stream"])
def test_all_broken_files_are_named_at_once(mixed, tmp_path, where):
    folder, broken = mixed
    options = {}
    if where == "stream":
        options = {"preparation": Preparation(SHAPE, name="it"), "is_lazy": True}
    memory = tmp_path / "cache" if where == "cache" else None
    with pytest.raises(UnreadableImagesError) as caught:
        read(folder, memory, **options)
    assert set(caught.value.faults) == set(broken.values())
    for kind, path in broken.items():
        with pytest.raises(AssertionError, match=BROKEN[kind][1]):
            raise AssertionError(caught.value.faults[path])
    first, *lines = str(caught.value).splitlines()
    assert first == f"{len(broken)} of {len(broken) + 12} image files cannot be read:"
    assert len(lines) == 10 + 2
    assert lines[-2] == f"  and {len(broken) - 10} more; `faults` of this error has all"


def test_paths_that_are_named_may_be_links(good, tmp_path):
    outside = tmp_path / "outside.png"
    draw(0).save(outside)
    (good / "inside.png").symlink_to(good / "3.png")
    assert len(read(good, None)[0]) == 13
    (good / "link.png").symlink_to(outside)
    with pytest.raises(ValueError, match=r"1 of 14(.|\n)*link.png: .*outside of the f"):
        read(good, None)
    assert len(read(list_images(good), None)[0]) == 14


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs")
def test_no_fifo_is_waited_for(good):
    os.mkfifo(good / "x.png")
    done = []

    def try_all():
        for X in (good, list_images(good)):
            with pytest.raises(ValueError, match="a FIFO, and no file"):
                read(X, None)
        done.append(True)

    thread = threading.Thread(target=try_all, daemon=True)
    thread.start()
    thread.join(timeout=20)
    assert done


# --- or left out -------------------------------------------------------------------


def check_skipped(estimator, paths, broken):
    assert estimator.paths_ == paths
    assert set(estimator.skipped_) == set(broken.values())
    is_broken = np.array([path in estimator.skipped_ for path in paths])
    assert is_broken.sum() == len(broken)
    return is_broken


@pytest.mark.parametrize("where", ["memory", "cache", "stream", "no room"])
def test_skipped_files_leave_the_others_as_they_are(mixed, tmp_path, where):
    folder, broken = mixed
    expected = read([p for p in list_images(folder) if p not in broken.values()], None)
    options, most = {}, None
    if where == "stream":
        options = {"preparation": Preparation(SHAPE), "is_lazy": True}
    if where == "no room":
        most = 10
    memory = tmp_path / "cache" if where in ("cache", "no room") else None
    with config_context(decoded_bytes=most), pytest.warns(UserWarning) as caught:
        images, spec = read(folder, memory, on_error="skip", **options)
    said = [
        str(each.message) for each in caught if "cannot be read" in str(each.message)
    ]
    assert len(said) == 1
    assert f"{len(broken)} of {len(broken) + 12} image files" in said[0]
    assert "`skipped_` has all\nThey are left out." in said[0]
    np.testing.assert_array_equal(np.asarray(images), expected[0])
    assert spec.paths == list_images(folder)
    kept = [path for path in spec.paths if path not in broken.values()]
    assert [spec.paths[i] for i in spec.places.kept] == kept
    assert set(spec.skipped) == set(broken.values())


@FOUND_BROKEN
@pytest.mark.parametrize("where", ["cache", "stream"])
def test_a_second_start_opens_no_picture(mixed, tmp_path, monkeypatch, where):
    folder, _ = mixed
    for path in list_images(folder):
        if os.path.isfile(path) and not os.path.islink(path):
            os.utime(path, (1e9, 1e9))
    options = {"on_error": "skip"}
    if where == "stream":
        known = Preparation(SHAPE, mean=(0.5,) * 3, std=(0.5,) * 3)
        options |= {"preparation": known, "is_lazy": True}
    first, _ = read(folder, tmp_path / "cache", **options)
    first = np.asarray(first)
    with monkeypatch.context() as patch:
        patch.setattr(Image, "open", None)
        again, spec = read(folder, tmp_path / "cache", **options)
        if where == "cache":
            np.asarray(again)
    np.testing.assert_array_equal(np.asarray(again), first)
    assert len(spec.skipped) == len(needed())


def make(**params):
    few = TrainingConfig(epochs=2)
    params = {"pretext": SimCLR(epochs=1), "image_shape": SHAPE} | params
    return SCANClustering(
        2, K=3, n_heads=2, head_search=few, clustering=None, self_labeling=None,
        random_state=0, **params,
    )  # fmt: skip


@FOUND_BROKEN
def test_a_fit_skips_what_it_would_be_without(mixed, tmp_path):
    folder, broken = mixed
    paths = list_images(folder)
    expected = make().fit([path for path in paths if path not in broken.values()])
    with pytest.warns(UserWarning, match=f"{len(broken)} of {len(paths)} image files"):
        clusterer = make(on_error="skip").fit(folder)
    is_broken = check_skipped(clusterer, paths, broken)
    kept = np.flatnonzero(~is_broken)
    for name, fill in (
        ("labels_", -1),
        ("confidence_", np.nan),
        ("embedding_", np.nan),
    ):
        found = getattr(clusterer, name)
        np.testing.assert_array_equal(found[kept], getattr(expected, name))
        np.testing.assert_array_equal(
            found[is_broken], np.full_like(found[is_broken], fill)
        )
    np.testing.assert_array_equal(clusterer.neighbors_[kept], kept[expected.neighbors_])
    assert (clusterer.neighbors_[is_broken] == -1).all()
    np.testing.assert_array_equal(clusterer.prototypes_, kept[expected.prototypes_])
    # Later samples.
    probabilities = clusterer.predict_proba(folder)
    np.testing.assert_array_equal(np.isnan(probabilities).all(axis=1), is_broken)
    np.testing.assert_array_equal(clusterer.predict(folder), clusterer.labels_)
    np.testing.assert_array_equal(clusterer.transform(folder), clusterer.embedding_)
    assert np.isfinite(clusterer.score(folder))
    with pytest.raises(ValueError, match="cannot be read"):
        clusterer.set_params(on_error="raise").predict(folder)
    # What is shown.
    shown = keep_readable(clusterer)
    np.testing.assert_array_equal(shown.neighbors_, expected.neighbors_)
    np.testing.assert_array_equal(shown.prototypes_, expected.prototypes_)
    page = write_gallery(clusterer, folder, tmp_path / "page.html")
    digest = page.read_text().partition('"digest":"')[2].partition('"')[0]
    edits = tmp_path / "edits.json"
    edits.write_text(
        '{"format": "sklearn_scan.gallery", "version": 1, "names": ["a", "b"], '
        f'"digest": "{digest}", "wrong": [3]}}'
    )
    edited = apply_edits(clusterer, edits)
    assert edited.wrong.tolist() == [kept[3]]
    assert (edited.labels[is_broken] == -1).all()
    assert (edited.labels >= 0).sum() == len(kept) - 1


@FOUND_BROKEN
def test_neighbours_are_those_of_all_that_were_given(mixed):
    folder, broken = mixed
    paths = list_images(folder)
    is_broken = np.array([path in broken.values() for path in paths])
    neighbors = np.roll(np.arange(len(paths)), 1)[:, None]
    clusterer = make(on_error="skip").fit(folder, neighbors=neighbors)
    expected = np.where(is_broken[neighbors] | is_broken[:, None], -1, neighbors)
    np.testing.assert_array_equal(clusterer.neighbors_, expected)


class Tiny:
    """A network, as `Pretrained` takes it."""

    def __new__(cls, shape):
        import torch

        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 5))


@FOUND_BROKEN
@pytest.mark.parametrize("name", ["SimCLR", "DeepCluster", "Pretrained"])
def test_encoders_skip_as_well(mixed, name):
    folder, broken = mixed
    pretext = {
        "SimCLR": SimCLR(epochs=1),
        "DeepCluster": DeepCluster(n_clusters=2, epochs=1),
        "Pretrained": Pretrained(Tiny, mean=(0.5,) * 3, std=(0.5,) * 3),
    }[name]
    pretext.set_params(image_shape=SHAPE, random_state=0, on_error="skip")
    embedding = pretext.fit(folder).transform(folder)
    is_broken = check_skipped(pretext, list_images(folder), broken)
    np.testing.assert_array_equal(np.isnan(embedding).all(axis=1), is_broken)
    assert np.isfinite(embedding[~is_broken]).all()
    if name == "DeepCluster":
        assert ((pretext.labels_ < 0) == is_broken).all()
        np.testing.assert_array_equal(pretext.predict(folder), pretext.labels_)


def test_nothing_readable_is_an_error(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.png").touch()
    with pytest.raises(UnreadableImagesError, match="3 of 3 image files"):
        read(tmp_path, None, on_error="skip")
    draw(0).save(tmp_path / "a.png")
    with (
        pytest.warns(UserWarning, match="3 of 4"),
        pytest.raises(ValueError, match=r"Found 1 image file .*minimum of 2"),
    ):
        read(tmp_path, None, on_error="skip")


def test_where_nothing_is_broken_nothing_is_said(good):
    estimator = make(on_error="skip").fit(good)
    assert estimator.skipped_ == {}
    with pytest.raises(ValueError, match="'on_error' parameter"):
        make(on_error="ignore").fit(good)


# --- files that change -------------------------------------------------------------


def test_a_file_that_changes_is_not_taken_for_what_it_was(good, tmp_path, monkeypatch):
    paths = list_images(good)
    lazy = LazyImages(paths, Preparation(SHAPE))
    find_digests(lazy, tmp_path / "cache")
    draw(99).save(paths[2])
    os.unlink(paths[4])
    with pytest.raises(UnreadableImagesError) as caught:
        np.asarray(lazy)
    assert caught.value.faults[paths[2]] == "it was changed while it was read"
    assert set(caught.value.faults) == {paths[2], paths[4]}


@FOUND_BROKEN
def test_a_file_that_disappears_is_skipped_by_the_same_rule(
    good, tmp_path, monkeypatch
):
    paths, draw_files = list_images(good), _lazy.draw_files

    def vanish(*args):
        if os.path.exists(paths[5]):
            os.unlink(paths[5])
        return draw_files(*args)

    with monkeypatch.context() as patch:
        patch.setattr(_lazy, "draw_files", vanish)
        images, spec = read(paths, tmp_path / "cache", on_error="skip")
    assert len(images) == len(paths) - 1
    assert list(spec.skipped) == [paths[5]]
    # What the system said is not remembered of the content.
    draw(5).save(paths[5])
    assert len(read(paths, tmp_path / "cache", on_error="skip")[0]) == len(paths)
