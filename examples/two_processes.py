# SPDX-License-Identifier: BSD-3-Clause
"""
=====================================
One fit in two processes, or machines
=====================================

This is a program, and not run for this page. Alone, and in two processes of a machine
without a GPU::

    python examples/two_processes.py
    accelerate launch --multi_gpu --num_processes 2 examples/two_processes.py

The clusters are nearly the same: rounding grows over a long training, and acts like
another seed. ``--multi_gpu`` stands for several processes, whatever they compute on.
With ``--folder``, pictures are embedded by a pretrained encoder, each process a part of
them. It needs the extra "accelerate", and "timm" for the encoder.
"""

import argparse

import numpy as np
from accelerate import PartialState
from sklearn.datasets import load_digits

from sklearn_scan import SCANClustering, config_context
from sklearn_scan.pretext import Pretrained, SimCLR


def make_clusterer(options):
    """Return what to fit, and on what."""
    if options.folder:
        pretext, samples = Pretrained(options.encoder), options.folder
    else:
        pretext = SimCLR(epochs=options.epochs)
        samples = load_digits().images[: options.n_samples]
    clusterer = SCANClustering(
        n_clusters=10,
        pretext=pretext,
        memory=options.memory,
        device=options.device,
        random_state=0,
        verbose=1,
    )
    return clusterer, samples


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Cluster in several processes.")
    parser.add_argument("--folder", help="of pictures; none for digits")
    parser.add_argument("--encoder", default="dinov2")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--n-samples", type=int, default=1797)
    parser.add_argument("--memory", help="a folder for what is finished")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(arguments)
    clusterer, samples = make_clusterer(options)
    with config_context(distributed=True):
        clusterer.fit(samples)
    processes = PartialState()
    if processes.is_main_process:  # all of them have the same labels
        sizes = np.bincount(clusterer.labels_).tolist()
        print(f"{processes.num_processes} processes, clusters of {sizes}")


if __name__ == "__main__":
    main()
