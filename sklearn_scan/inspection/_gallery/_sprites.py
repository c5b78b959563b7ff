# SPDX-License-Identifier: BSD-3-Clause
"""Thumbnails, many in one picture, so that a page with 60,000 of them opens quickly."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

_QUALITY = 82
_MOST_PER_SHEET = 400
_N_MEASURED = 200

# Of `thumbnail_size`, tried in this order until a group fits; and the smallest of all.
_SCALES = (1, 3 / 4, 1 / 2, 3 / 8, 1 / 4, 3 / 16, 1 / 8)
_LEAST_SIDE = 16

# JPEG mixes the pixels of a block of this side, and no two thumbnails share one.
# Colours are not subsampled, as they would flow beyond it.
_BLOCK = 8

# What a group takes of the room that is left: the first one leaves some to the others.
_SHARES = (0.6, 0.95)


@dataclass(frozen=True, eq=False)
class Sheet:
    """Thumbnails in one picture.

    Attributes
    ----------
    jpeg : bytes
        The picture.
    tile, cell : tuple of int
        Width and height of a thumbnail, and of the space that it has.
    n_columns, n_rows : int
        How many there are side by side, and below each other.
    indices : ndarray of int
        The samples, row by row.
    """

    jpeg: bytes
    tile: tuple
    cell: tuple
    n_columns: int
    n_rows: int
    indices: np.ndarray


def make_sheets(pictures, first, others, side, max_bytes):
    """Draw thumbnails onto sheets, as many as fit.

    Parameters
    ----------
    pictures : Pictures
        Where they come from.
    first : list of ndarray of int
        Samples that are shown first; each array begins a sheet.
    others : list of ndarray of int
        All other samples; those of the first arrays have precedence. They may be
        smaller, and are left out where the page would be too large.
    side : int
        Pixels of the longer side of a thumbnail.
    max_bytes : int
        What all sheets may take.

    Returns
    -------
    sheets : list of Sheet
    """
    sheets = []
    for groups, share in zip((first, others), _SHARES, strict=True):
        n_left = max_bytes - sum(len(sheet.jpeg) for sheet in sheets)
        groups = [group for group in groups if len(group)]
        if groups:
            chosen = _choose_side(pictures, groups, side, share * n_left)
            sheets += _draw_groups(pictures, groups, chosen, n_left)
    return sheets


def _choose_side(pictures, groups, side, room):
    """Return the largest size at which all thumbnails take less than `room` bytes."""
    samples = np.concatenate(groups)
    step = max(1, len(samples) // _N_MEASURED)
    measured = samples[::step][:_N_MEASURED]
    sides = [max(_LEAST_SIDE, int(side * scale)) for scale in _SCALES]
    # Of small pictures, the larger sides are all the same.
    sides = list({pictures.find_size(tried): tried for tried in sides}.values())
    for tried in sides:
        n_bytes = len(_draw_sheet(pictures, measured, tried).jpeg)
        if n_bytes / len(measured) * len(samples) <= room:
            return tried
    return sides[-1]


def _draw_groups(pictures, groups, side, room):
    sheets = []
    for group in groups:
        for start in range(0, len(group), _MOST_PER_SHEET):
            part = group[start : start + _MOST_PER_SHEET]
            sheet = _draw_sheet(pictures, part, side)
            room -= len(sheet.jpeg)
            if room < 0:
                return sheets
            sheets.append(sheet)
    return sheets


def _draw_sheet(pictures, indices, side):
    """Draw the thumbnails of some samples, as nearly square as they come."""
    tiles = pictures.read(np.asarray(indices), side)
    height, width = tiles.shape[1:3]
    below, right = -height % _BLOCK, -width % _BLOCK
    # Beyond the thumbnail its border goes on, so that no edge is seen there.
    margins = [(0, 0), (0, below), (0, right), *[(0, 0)] * (tiles.ndim - 3)]
    tiles = np.pad(tiles, margins, mode="edge")
    n_columns = int(np.ceil(np.sqrt(len(tiles))))
    n_rows = -(-len(tiles) // n_columns)
    n_free = n_columns * n_rows - len(tiles)
    tiles = np.pad(tiles, [(0, n_free), *[(0, 0)] * (tiles.ndim - 1)])
    grid = tiles.reshape(n_rows, n_columns, *tiles.shape[1:])
    grid = np.moveaxis(grid, 2, 1)
    shape = (n_rows * (height + below), n_columns * (width + right), *grid.shape[4:])
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(grid.reshape(shape))).save(
        file, "JPEG", quality=_QUALITY, subsampling=0
    )
    return Sheet(
        jpeg=file.getvalue(),
        tile=(width, height),
        cell=(width + right, height + below),
        n_columns=n_columns,
        n_rows=n_rows,
        indices=np.asarray(indices),
    )
