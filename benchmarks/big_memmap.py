# SPDX-License-Identifier: BSD-3-Clause
"""The memory of a fit on images that are many times as large, in a memmap.

    python benchmarks/big_memmap.py --gigabytes 10 --json out.json

Writes images of 512 x 512 pixels into a file, most of each black (a hole, which is read
all the same), opens it as a memmap, and fits a small encoder and heads on it, in a
process of its own. Printed are seconds, and the peak of the memory that is resident,
the pages of the file among it.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scan_bench.report import (
    describe_run,
    peak_memory,
    print_header,
    print_target,
    write_json,
)
from torch import nn

from sklearn_scan import SCANClustering, TrainingConfig
from sklearn_scan.pretext import SimCLR

_SHAPE = (512, 512, 3)
_N_ROWS = 16  # of an image that are not black
_MOST_GB = 3.0
_N_KINDS = 3


class Tiny(nn.Module):
    """A network that looks at every eighth pixel, so that reading is what it costs."""

    def __init__(self, shape):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(shape[0], 8, 3, stride=2),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
        )

    def forward(self, images):
        return self.layers(images[..., ::8, ::8])


def draw(path, n_images):
    """Write images of three colours, on black; black is a hole in the file.

    Holes take no room on the disk. Where they are read, they take memory as all else.
    """
    random = np.random.default_rng(0)
    n_bytes = int(np.prod(_SHAPE))
    rows = np.zeros((_N_ROWS, *_SHAPE[1:]), dtype=np.uint8)
    with open(path, "wb") as file:
        for i in range(n_images):
            rows[...] = 0
            rows[..., i % _N_KINDS] = random.integers(64, 192)
            file.seek(i * n_bytes)
            file.write(rows)
        file.truncate(n_images * n_bytes)


def fit(path):
    n_images = path.stat().st_size // int(np.prod(_SHAPE))
    images = np.memmap(path, np.uint8, "r", shape=(n_images, *_SHAPE))
    begin, before = time.perf_counter(), peak_memory()
    clusterer = SCANClustering(
        _N_KINDS,
        K=5,
        n_heads=2,
        pretext=SimCLR(encoder=Tiny, views="none", epochs=1, batch_size=32),
        views="none",
        head_search=TrainingConfig(epochs=2),
        clustering=None,
        self_labeling=None,
        random_state=0,
    ).fit(images)
    kinds = np.arange(n_images) % _N_KINDS
    found = {
        "images": n_images,
        "file GB": path.stat().st_size / 1e9,
        "seconds": time.perf_counter() - begin,
        "GB before": before * 2**30 / 1e9,
        "peak GB": peak_memory() * 2**30 / 1e9,
        "sizes": np.bincount(clusterer.labels_, minlength=_N_KINDS).tolist(),
        "kinds": np.bincount(kinds).tolist(),
    }
    print(json.dumps(found))


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gigabytes", type=float, default=10)
    parser.add_argument(
        "--folder", type=Path, help="where the file is kept; else deleted"
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--fit", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.fit:
        fit(options.fit)
        return 0
    facts = describe_run("cpu")
    print_header("A memmap that is larger than memory may be", facts)
    n_images = int(options.gigabytes * 1e9 / np.prod(_SHAPE)) + 1
    with tempfile.TemporaryDirectory() as folder:
        path = (options.folder or Path(folder)) / "images"
        if not path.exists() or path.stat().st_size != n_images * np.prod(_SHAPE):
            draw(path, n_images)
        command = [sys.executable, __file__, "--fit", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"\n{found}\n")
    text = f"peak resident memory of {found['peak GB']:.2f} GB is below {_MOST_GB} GB"
    target = print_target(text, found["peak GB"] < _MOST_GB)
    if options.json:
        write_json(options.json, {"run": facts, "found": found, "targets": [target]})
    return int(not target["met"])


if __name__ == "__main__":
    sys.exit(main())
