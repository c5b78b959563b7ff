# SPDX-License-Identifier: BSD-3-Clause
"""Memory, and what is read a second time, where there are many pictures.

    python benchmarks/many_pictures.py --n 60000 --json out.json

Draws JPEG files of 224 pixels. `embed` shows them to a tiny network, by
``Pretrained(...).fit_transform(folder)``, and `decode` decodes them once into the
cache, as training from scratch does; each in a process of its own, twice. Printed are
seconds, the peak of memory, and how many files were decoded: none in the second run.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from PIL import Image
from scan_bench.report import describe_run, print_header, print_table, write_json
from torch import nn

from sklearn_scan import config_context
from sklearn_scan._inputs import _lazy, learn_samples
from sklearn_scan.pretext import Pretrained

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


def measure(options):
    """Run a part, and print what it took as JSON; `main` does this in new processes."""
    n_decoded, draw_files = 0, _lazy.draw_files

    def count(paths, *rest):
        nonlocal n_decoded
        n_decoded += len(paths)
        draw_files(paths, *rest)

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
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
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
