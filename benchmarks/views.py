# SPDX-License-Identifier: BSD-3-Clause
"""What `views="auto"` measures on the image sets of the benchmarks.

    python benchmarks/views.py [--cifar10 PATH]

``mirror``, ``gray``, ``negative``: how much farther from the other images the change
takes a typical image (harmless up to 1.1); ``border``: unrest of the border (plain up
to 0.6; else there are no negatives).
"""

import argparse

import torch
from scan_bench import data_sets

from sklearn_scan._inputs import ArraySource, learn_format
from sklearn_scan._views._color import negative, remove_color
from sklearn_scan._views._policy import choose_policy, relative_distance, summarize


def measure(X):
    source = ArraySource(X, learn_format(X), torch.device("cpu"))
    images, unrest = summarize(source)
    mirror = relative_distance(images, lambda x: x.flip(-1))
    gray = "-"
    if images.shape[1] == 3:
        gray = f"{relative_distance(images, remove_color):.2f}"
    inverted = relative_distance(images, negative)
    border, policy = float(unrest.median()), " ".join(choose_policy(source))
    return f"{mirror:.2f} | {gray} | {inverted:.2f} | {border:.2f} | {policy}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cifar10", help="path of CIFAR-10")
    path = parser.parse_args().cifar10
    sets = {name: getattr(data_sets, name) for name in ("digits", "letters", "shapes")}
    sets["digits, half inverted"] = data_sets.inverted_digits
    if path:
        sets["cifar10"] = lambda: data_sets.cifar10(path)
    print("| data | mirror | gray | negative | border | views |")
    print("|---|---|---|---|---|---|")
    for name, load in sets.items():
        print(f"| {name} | {measure(load()[0])} |")


if __name__ == "__main__":
    main()
