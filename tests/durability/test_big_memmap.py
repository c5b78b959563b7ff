# SPDX-License-Identifier: BSD-3-Clause
"""Memmaps are read without becoming memory of the process."""

import mmap
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.utils import check_array

from sklearn_scan._inputs import ArraySource, _paging, learn_format
from sklearn_scan._inputs._paging import find_map

pytestmark = pytest.mark.skipif(
    not hasattr(mmap, "MADV_DONTNEED"), reason="pages cannot be given back here"
)
SHAPE = (512, 64, 64, 3)  # 6 MB


@pytest.fixture
def path(tmp_path):
    pixels = np.arange(np.prod(SHAPE), dtype=np.uint32).astype(np.uint8)
    pixels.tofile(tmp_path / "images")
    return tmp_path / "images"


def resident(array):
    """Return how many bytes of a file are mapped into this process."""
    address = find_map(array) and array.ctypes.data
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    for line in lines:
        span = line.split()[0].split("-")
        if len(span) == 2 and int(span[0], 16) == address:
            return next(int(e.split()[1]) * 1024 for e in lines if e[:4] == "Rss:")
    raise AssertionError("the map is not there")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_what_was_read_of_a_memmap_does_not_stay(path, mode, monkeypatch):
    array = np.memmap(path, np.uint8, mode, shape=SHAPE)
    indices = torch.arange(0, 512, 8)
    source = ArraySource(array, learn_format(array[:2]), "cpu")
    for k in range(8):
        source.read(indices + k)
    assert resident(array) > 4e6, "as it would be without"
    monkeypatch.setattr(_paging, "_BYTES_UNTIL_RELEASED", 1)
    for k in range(8):
        read = source.read(indices + k)
        assert resident(array) < 1e6
    expected = torch.from_numpy(np.fromfile(path, np.uint8).reshape(SHAPE)[7::8])
    torch.testing.assert_close(read * 255, expected.permute(0, 3, 1, 2).float())


def test_views_of_a_memmap_are_recognised(path):
    array = np.memmap(path, np.uint8, "r", shape=SHAPE)
    for view in (array[3:], np.asarray(array), check_array(array, allow_nd=True)):
        assert find_map(view) is find_map(array) is not None
    assert find_map(np.zeros(3)) is find_map("other") is None


def test_changes_that_are_nowhere_else_are_not_given_back(path, monkeypatch):
    monkeypatch.setattr(_paging, "_BYTES_UNTIL_RELEASED", 1)
    array = np.memmap(path, np.uint8, "c", shape=SHAPE)
    array[:] = 7
    source = ArraySource(array, learn_format(array[:2]), "cpu")
    for _ in range(2):
        assert (source.read(torch.arange(512)) * 255 == 7).all()
