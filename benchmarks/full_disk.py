# SPDX-License-Identifier: BSD-3-Clause
"""What is said where a disk is full, or a folder may not be written to.

    mkdir small && sudo mount -t tmpfs -o size=200k tmpfs small
    python benchmarks/full_disk.py small

Fits, saves and writes a gallery into a folder on a small file system, whose room does
not suffice, then with a temporary folder there, then into a folder without permission
and into one that is read-only, where `--read-only` names one. Printed is each error,
word by word, and whether what was there before is as it was.
"""

import argparse
import os
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
from scan_bench.report import describe_run, print_header
from sklearn.datasets import load_digits

from sklearn_scan import SCANClustering, TrainingConfig, config_context, save
from sklearn_scan.inspection import write_gallery
from sklearn_scan.pretext import SimCLR

_BEFORE = "what was there before"


def make(images, **options):
    short = TrainingConfig(epochs=1)
    clusterer = SCANClustering(
        10,
        pretext=SimCLR(epochs=1),
        head_search=short,
        n_heads=2,
        clustering=None,
        self_labeling=None,
        random_state=0,
        **options,
    )
    return clusterer.fit(images)


def list_attempts(images, fitted):
    """Return what is tried in a folder, by name."""
    return {
        "checkpoint=": lambda folder: make(images, checkpoint=folder),
        "memory=": lambda folder: make(images, memory=folder),
        "save": lambda folder: save(fitted, folder / "kept"),
        "write_gallery": lambda folder: write_gallery(
            fitted, images, folder / "kept", random_state=0
        ),
    }


def report(what, attempt, folder):
    """Try to write into a folder; print the error, and what is left there."""
    kept = folder / "kept"
    before = kept.read_bytes() if kept.exists() else None
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            attempt(folder)
        said = [f"{each.category.__name__}: {each.message}" for each in caught]
        print(f"\n{what}: done. {' '.join(said)}")
    except OSError as error:
        print(f"\n{what}: {type(error).__name__}: {error}")
    if before is not None:
        is_same = kept.exists() and kept.read_bytes() == before
        print(
            f"  {'as it was' if is_same else 'CHANGED'}; {count_strays(folder)} stray"
        )


def count_strays(folder):
    return sum("scan-part" in path.name for path in folder.rglob("*"))


def fill(folder, n_left):
    """Leave so many bytes on the file system of a folder."""
    room = shutil.disk_usage(folder).free - n_left
    (folder / "filler").write_bytes(bytes(max(0, room)))


def empty(folder):
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def try_full(folder, images, fitted):
    if shutil.disk_usage(folder).total > 2**24:
        sys.exit(f"{folder} is on a large disk: it would be filled. Mount a small one.")
    for what, attempt in list_attempts(images, fitted).items():
        empty(folder)
        (folder / "kept").write_text(_BEFORE)
        fill(folder, 20_000)
        report(f"full disk, {what}", attempt, folder)
    empty(folder)
    fill(folder, 20_000)
    tempfile.tempdir = os.fspath(folder)
    with config_context(in_memory_bytes=0), tempfile.TemporaryDirectory(dir=".") as own:
        report("full temporary folder, fit", lambda _: make(images), folder)
        attempt = list_attempts(images, fitted)["save"]
        report("full temporary folder, save", attempt, Path(own))
    tempfile.tempdir = None
    empty(folder)


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="on a small file system")
    parser.add_argument("--read-only", type=Path, help="on a read-only file system")
    options = parser.parse_args(arguments)
    print_header("Full disks and forbidden folders", describe_run("cpu"))
    images = load_digits().images[:200].astype(np.uint8)
    fitted = make(images)
    try_full(options.folder, images, fitted)
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o500)
        forbidden = {"folder without permission": Path(folder)}
        if options.read_only:
            forbidden["read-only folder"] = options.read_only
        for kind, place in forbidden.items():
            for what, attempt in list_attempts(images, fitted).items():
                report(f"{kind}, {what}", attempt, place)
    return 0


if __name__ == "__main__":
    sys.exit(main())
