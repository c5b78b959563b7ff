# SPDX-License-Identifier: BSD-3-Clause
"""Whatever is in image files and checkpoints, they are read, left out or refused."""

import io
import os
import shutil
import warnings
from functools import lru_cache
from itertools import count

import numpy as np
import pytest
from fuzzing import DAMAGES, attempt, cases, damage
from helpers import Reader
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import make_blobs

from sklearn_scan import SCANClustering, TrainingConfig, list_images
from sklearn_scan._engine._checkpoint import Checkpoint

SHAPE = (8, 8, 3)
_FORMATS = {
    "png": {"format": "PNG"},
    "jpg": {"format": "JPEG"},
    "gif": {"format": "GIF"},
    "bmp": {"format": "BMP"},
    "tif": {"format": "TIFF", "compression": "tiff_lzw"},
    "webp": {"format": "WEBP"},
    "ppm": {"format": "PPM"},
}
_NUMBERS = count()


@lru_cache
def draw(suffix):
    """Return the bytes of a picture."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, **_FORMATS[suffix])
    return written.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with two pictures; of which the mutated one comes last."""
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(2):
        (folder / f"{i}.png").write_bytes(draw("png"))
    return folder


@cases(300)
@given(
    st.sampled_from(sorted(_FORMATS)),
    DAMAGES,
    st.sampled_from(["raise", "skip"]),
)
def test_damaged_pictures_are_read_or_named(folder, suffix, damages, on_error):
    path = folder / f"9.{suffix}"
    path.write_bytes(damage(draw(suffix), damages))
    try:
        reader = Reader()
        reader.on_error = on_error
        found = attempt(reader.learn, folder, SHAPE)
    finally:
        path.unlink()
    if not damages:
        assert len(found) == 3
    if on_error == "skip":
        assert len(found) + len(reader.skipped_) == 3
        assert set(reader.skipped_) <= {str(path)}
    if found is not None:
        assert found.shape[1:] == SHAPE
        np.testing.assert_array_equal(found[0], found[1])


_NAMES = st.text(
    st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]),
    min_size=1,
    max_size=20,
).filter(lambda name: name not in (".", ".."))


@cases(60)
@given(st.lists(_NAMES, max_size=4, unique_by=str.casefold), st.booleans())
def test_folders_with_any_names_are_listed(tmp_path_factory, names, is_nested):
    root = tmp_path_factory.getbasetemp() / f"named-{next(_NUMBERS)}"
    inner = root / "inner.png" if is_nested else root
    inner.mkdir(parents=True)
    try:
        written = []
        for name in names:
            path = os.fspath(inner / f"{name[:9]}.png")
            with open(path, "wb") as file:
                file.write(draw("png"))
            written.append(path)
        found = attempt(list_images, root)
        hidden = [path for path in written if os.path.basename(path).startswith(".")]
        if found is None:
            assert not set(written) - set(hidden)
        else:
            assert set(written) - set(hidden) <= set(found) <= set(written)
            assert found == attempt(list_images, root)
    finally:
        shutil.rmtree(root)


# --- checkpoints -------------------------------------------------------------------

ROWS = make_blobs(60, 4, centers=3, random_state=0)[0].astype(np.float32)


class Stopped(Exception):
    """Ends a fit in its middle."""


def fit(checkpoint):
    """Fit rows in a few steps."""
    search = TrainingConfig(epochs=6)
    clusterer = SCANClustering(
        3, K=3, n_heads=2, head_search=search, checkpoint=checkpoint, random_state=0
    )
    return clusterer.fit(ROWS)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """Return the file of an interrupted stage, and the state before it."""
    folder = tmp_path_factory.mktemp("interrupted")
    write, written = Checkpoint.on_epoch_end, []

    def stop(self, net, **kwargs):
        self._synced_at = -np.inf  # so that there is a state before each
        write(self, net, **kwargs)
        written.append(self.path)
        if len(written) == 4:
            raise Stopped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "on_epoch_end", stop)
        with pytest.raises(Stopped):
            fit(folder)
    path = written[0]
    return path, path.read_bytes(), path.with_suffix(".before.pt").read_bytes()


def count_epochs(path):
    """Return how many epochs the state has that is read at a path; 0 for none."""
    checkpoint = Checkpoint(path, None, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checkpoint._state = checkpoint._read()
    return checkpoint.n_done


@cases(200)
@given(DAMAGES, DAMAGES)
def test_damaged_checkpoints_are_not_gone_on_with(tmp_path, interrupted, last, before):
    _, *contents = interrupted
    path, damaged = tmp_path / "stage.pt", []
    for file, content, damages in zip(
        (path, path.with_suffix(".before.pt")), contents, (last, before), strict=True
    ):
        file.write_bytes(damage(content, damages))
        damaged.append(file.read_bytes() != content)
    expected = 0 if all(damaged) else 3 if damaged[0] else 4
    assert count_epochs(path) == expected


@cases(5)
@given(DAMAGES.filter(bool))
def test_fits_from_damaged_checkpoints_end_where_others_do(interrupted, damages):
    path, content, before = interrupted
    path.write_bytes(damage(content, damages))
    path.with_suffix(".before.pt").write_bytes(before)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = fit(path.parent)
    expected = fit(None)
    np.testing.assert_array_equal(found.labels_, expected.labels_)
    np.testing.assert_array_equal(found.confidence_, expected.confidence_)
    assert {p.suffix for p in path.parent.iterdir()} == {".pt"}
