# SPDX-License-Identifier: BSD-3-Clause
"""Memory, and what is read a second time, where there are many pictures.

    python benchmarks/many_pictures.py --n 60000 --json out.json

Draws JPEG files of 224 pixels. `embed` shows them to a tiny network, by
``Pretrained(...).fit_transform(folder)``, and `decode` decodes them once into the
cache, as training from scratch does; each in a process of its own, twice. Printed are
seconds, the peak of memory, and how many files were decoded: none in the second run.

    python benchmarks/many_pictures.py --n 60000 --parts broken --json broken.json

draws PNG files of 64 pixels, of which 20 cannot be read, for ten reasons. Printed are
how long `on_error="raise"` takes to name them, and `on_error="skip"` to fit; and what a
second fit opens, which is nothing.
"""

import argparse
import json
import os
import resource
import struct
import subprocess
import sys
import tempfile
import time
import warnings
import zlib
from pathlib import Path
from unittest import mock

import numpy as np
from joblib import Parallel, delayed
from PIL import Image
from scan_bench.report import describe_run, print_header, print_table, write_json
from torch import nn

from sklearn_scan import SCANClustering, TrainingConfig, config_context
from sklearn_scan._inputs import _lazy, learn_samples
from sklearn_scan.pretext import Pretrained, SimCLR

_SIDE = 224
_PER_FOLDER = 1000


class Tiny(nn.Sequential):
    """A network that costs little, so that the rest is seen."""

    def __init__(self, shape):
        super().__init__(
            nn.Conv2d(shape[0], 8, 7, stride=8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
        )


def draw_folder(folder, number):
    random = np.random.default_rng(number)
    place = folder / f"{number:04d}"
    place.mkdir(parents=True)
    for i in range(_PER_FOLDER):
        coarse = random.integers(0, 256, (7, 7, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize(
            (_SIDE, _SIDE), Image.Resampling.BICUBIC
        )
        picture.save(place / f"{i:04d}.jpg", quality=85)


def embed(options):
    pretext = Pretrained(
        Tiny,
        image_shape=(_SIDE, _SIDE, 3),
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        memory=str(options.folder / "cache"),
        random_state=0,
    )
    pretext.fit_transform(options.folder / "pictures")


def decode(options):
    with config_context(in_memory_bytes=0):
        learn_samples(
            options.folder / "pictures",
            (_SIDE, _SIDE, 3),
            folder=options.folder / "cache",
        )


PARTS = {"embed": embed, "decode": decode}

_SIDE_OF_PNG = 64
_N_BROKEN = 20


def break_files(paths):
    """Make each of some PNG files unreadable, in one of ten ways."""
    ways = (
        lambda path: os.truncate(path, path.stat().st_size // 2),
        lambda path: os.truncate(path, 0),
        lambda path: path.write_text("no picture"),
        lambda path: path.write_bytes(path.read_bytes()[::-1]),
        lambda path: path.write_bytes(_flip(path.read_bytes())),
        lambda path: (path.unlink(), path.symlink_to("gone.png")),
        lambda path: (path.unlink(), path.symlink_to("/etc/passwd")),
        lambda path: (path.unlink(), os.mkfifo(path)),
        lambda path: Image.new("I;16", (64, 64)).save(path),
        lambda path: path.write_bytes(_claim_size(path.read_bytes())),
    )
    for k, path in enumerate(paths):
        ways[k % len(ways)](path)


def _flip(content):
    """Return a file with one bit of its pixels changed."""
    changed = bytearray(content)
    changed[len(content) // 2] ^= 1
    return bytes(changed)


def _claim_size(content):
    """Return a PNG file that says that it is very large: a decompression bomb."""
    size = struct.pack(">II", 100_000, 100_000)
    header = b"IHDR" + size + content[24:29]
    checksum = struct.pack(">I", zlib.crc32(header))
    return content[:12] + header + checksum + content[33:]


def draw_broken(folder, number):
    random = np.random.default_rng(number)
    place = folder / f"{number:04d}"
    place.mkdir(parents=True)
    for i in range(_PER_FOLDER):
        coarse = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        size = (_SIDE_OF_PNG, _SIDE_OF_PNG)
        picture = Image.fromarray(coarse).resize(size, Image.Resampling.NEAREST)
        picture.save(place / f"{i:04d}.png", compress_level=1)
        # The cache trusts times of change that are some seconds old.
        os.utime(place / f"{i:04d}.png", (1e9, 1e9))


def fit_broken(options):
    """Name the broken files, skip them, and skip them again; return what it took."""
    folder = options.folder / "broken"
    if not folder.exists():
        Parallel(n_jobs=-1)(
            delayed(draw_broken)(folder, number)
            for number in range(options.n // _PER_FOLDER)
        )
    paths = sorted(folder.rglob("*.png"))
    if all(path.is_file() and not path.is_symlink() for path in paths):
        step = len(paths) // _N_BROKEN
        break_files(paths[step // 2 :: step][:_N_BROKEN])
    rows = []
    with config_context(in_memory_bytes=0):
        for on_error, run in (("raise", 1), ("skip", 1), ("skip", 2)):
            begin, opened, named = time.perf_counter(), [], 0
            with (
                warnings.catch_warnings(),
                mock.patch.object(Image, "open", _count_opened(Image.open, opened)),
            ):
                warnings.simplefilter("ignore")
                try:
                    clusterer = make_small(options.folder, on_error).fit(folder)
                    named = len(clusterer.skipped_)
                except ValueError as error:
                    named = len(getattr(error, "faults", ()))
            seconds = time.perf_counter() - begin
            rows.append(
                {
                    "on_error": on_error,
                    "run": run,
                    "files": len(paths),
                    "broken": named,
                    "opened": len(opened),
                    "seconds": seconds,
                }
            )
    return rows


def _count_opened(open_picture, opened):
    def count(path, *args, **kwargs):
        opened.append(path)
        return open_picture(path, *args, **kwargs)

    return count


def make_small(folder, on_error):
    few = TrainingConfig(epochs=1)
    return SCANClustering(
        10,
        K=5,
        n_heads=1,
        pretext=SimCLR(encoder=Tiny, views="none", epochs=1),
        head_search=few,
        clustering=None,
        self_labeling=None,
        image_shape=(_SIDE_OF_PNG, _SIDE_OF_PNG, 3),
        memory=str(folder / "cache_of_broken"),
        on_error=on_error,
        random_state=0,
    )


def report_broken(options):
    rows = fit_broken(options)
    print()
    print_table(
        [
            {
                "on_error": f"{row['on_error']}, run {row['run']}",
                "files": f"{row['files']:,}",
                "named": str(row["broken"]),
                "opened": f"{row['opened']:,}",
                "seconds": f"{row['seconds']:.1f}",
            }
            for row in rows
        ]
    )
    return rows


def measure(options):
    """Run a part, and print what it took as JSON; `main` does this in new processes."""
    n_decoded, draw_files = 0, _lazy.draw_files

    def count(paths, *rest):
        nonlocal n_decoded
        n_decoded += len(paths)
        return draw_files(paths, *rest)

    _lazy.draw_files = count
    begin = time.perf_counter()
    PARTS[options.part](options)
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"decoded": n_decoded, "seconds": seconds, "peak": peak}))


def run_part(options, part):
    command = [sys.executable, __file__, "--folder", str(options.folder)]
    found = subprocess.run(
        [*command, "--part", part], capture_output=True, text=True, check=False
    )
    if found.returncode:
        raise RuntimeError(found.stderr)
    return json.loads(found.stdout.splitlines()[-1])


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=60_000, help="thousands of pictures")
    parser.add_argument("--folder", type=Path, help="where to write; temporary")
    parser.add_argument(
        "--parts", nargs="+", choices=[*PARTS, "broken"], default=list(PARTS)
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.part:
        measure(options)
        return
    facts = describe_run("cpu")
    print_header("Many pictures", facts)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        options.folder = options.folder or Path(temporary)
        if options.parts == ["broken"]:
            rows = report_broken(options)
            if options.json:
                write_json(options.json, {"run": facts, "rows": rows})
            return
        if not (options.folder / "pictures").exists():
            Parallel(n_jobs=-1)(
                delayed(draw_folder)(options.folder / "pictures", number)
                for number in range(options.n // _PER_FOLDER)
            )
        for part in options.parts:
            for run in ("first", "second"):
                rows.append({"part": part, "run": run} | run_part(options, part))
    print()
    print_table(
        [
            {
                "part": f"{row['part']}, {row['run']} run",
                "files decoded": f"{row['decoded']:,}",
                "seconds": f"{row['seconds']:.1f}",
                "peak memory": f"{row['peak'] / 1e9:.2f} GB",
            }
            for row in rows
        ]
    )
    if options.json:
        write_json(options.json, {"run": facts, "rows": rows})


if __name__ == "__main__":
    main()
