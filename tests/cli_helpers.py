# SPDX-License-Identifier: BSD-3-Clause
"""What tests of the command line share: pictures, and what is in files."""

import csv
import os

import numpy as np
from PIL import Image

N_CLUSTERS, SIDE = 3, 32
#: Names, from the folder, and how the table has them.
HOSTILE = {
    b"<img src=x onerror=alert(1)>.png": "<img src=x onerror=alert(1)>.png",
    b"a\\..\\..\\x.png": "a\\..\\..\\x.png",
    b"=cmd|' '!A0.png": "./=cmd|' '!A0.png",
    b"+1.png": "./+1.png",
    b"-rf.png": "./-rf.png",
    b"@SUM(A1).png": "./@SUM(A1).png",
    "\uff1d1.png".encode(): "./\uff1d1.png",
    b"\ttab.png": "./\ttab.png",
    b"=folder/plain.png": "./=folder/plain.png",
    b'x",=1;=2.png': 'x",=1;=2.png',
    b"two\nlines\r.png": "two\nlines\r.png",
    b"\x1b[31mred.png": "\x1b[31mred.png",
    b"caf\xe9.png": r"caf\xe9.png",
    b"deep/er/1.png": "deep/er/1.png",
}
PLAIN = [f"{i}.png".encode() for i in range(16)]


def write_picture(path, seed):
    """Draw a noisy picture, dark, middling or light."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 80, (SIDE, SIDE, 3)) + 80 * (seed % 3)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path, format="png")
    os.utime(path, (1e9, 1e9))


def read_table(path):
    """Return the rows of a CSV, dicts."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def list_files(folder):
    """Return the content of all files in a folder, by path."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path: path.read_bytes() for path in paths}
