# SPDX-License-Identifier: BSD-3-Clause
"""How many operations a training step takes, without a GPU.

    python benchmarks/operations.py [--encoder resnet18_cifar]

Kernels are the operations that compute, views of memory left aside. On a GPU every one
costs the host some microseconds, whatever its size. ``waits`` are copies for which the
host waits for the device, ``copies`` all of them; operations whose result depends on
data, which are waits as well, end this script with an error. ``unsure`` are operations
that torch refuses under `torch.use_deterministic_algorithms`.
"""

import argparse
import warnings
from functools import partial

import torch
from scan_bench.operations import (
    IMAGES,
    ROWS,
    STAGES,
    TASKS,
    build_step,
    fake_device,
    look,
    take,
)

VIEWS = (
    "none",
    "affine",
    "photo",
    "strong",
    "vector",
    ("crop", "flip", "light"),
    ("flip", "shapes", "cutout"),
)


def count_step(name, encoder):
    with fake_device():
        build = partial(build_step, name, encoder=encoder, views="photo")
        forward = take(build("cuda"), backward=False)
        step = take(build("cpu"), backward=True)
    share = f"{step.n_in_views / step.n_kernels:.0%}"
    counts = (len(step.operations), step.n_kernels, step.n_in_views, share)
    return (name, *counts, *describe(forward))


def count_views(views):
    shape = ROWS if views == "vector" else IMAGES
    with fake_device():
        counter = look(views, "cuda", shape)
    name = views if isinstance(views, str) else ", ".join(views)
    return (name, len(counter.operations), counter.n_kernels, *describe(counter))


def describe(counter):
    return len(counter.waits), len(counter.copies), len(counter.not_deterministic)


def print_table(columns, rows):
    print("|", " | ".join(columns), "|")
    print("|---" * len(columns) + "|")
    for row in rows:
        print("|", " | ".join(map(str, row)), "|", flush=True)


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", default="resnet18_cifar")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    columns = ("operations", "kernels")
    noted = ("waits", "copies", "unsure")
    steps = (count_step(name, options.encoder) for name in (*TASKS, *STAGES))
    print_table(("step", *columns, "of views", "share", *noted), steps)
    print()
    print_table(("views", *columns, *noted), map(count_views, VIEWS))


if __name__ == "__main__":
    main()
