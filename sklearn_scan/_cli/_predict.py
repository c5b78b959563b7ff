# SPDX-License-Identifier: BSD-3-Clause
"""`sklearn-scan predict`: the clusters of other pictures."""

from pathlib import Path

import click

from sklearn_scan._cli._folder import MODEL
from sklearn_scan._cli._labels import (
    FORMATS,
    Labels,
    check_format,
    name_files,
    warn_undecodable,
    write_labels,
)
from sklearn_scan._cli._model import load_model
from sklearn_scan._cli._options import FOLDER, computing, overwriting, skipping
from sklearn_scan._cli._streams import Result, speaking


def _check_ending(context, parameter, path):
    """Refuse a table whose name does not say in which format it is."""
    if path.suffix.lower().removeprefix(".") not in FORMATS:
        endings = " or ".join(f".{name}" for name in FORMATS)
        raise click.BadParameter(f"{path.name!r} must end in {endings}.")
    return path


@click.command(short_help="Find the clusters of other pictures.")
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.argument("folder", type=FOLDER)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=_check_ending,
    required=True,
    help="Table to be written, a .csv or .parquet.",
)
@overwriting("Replace the table, if it is there.")
@skipping
@computing
@speaking
def predict(model, folder, out, overwrite, on_error, device, streams):
    """Find the clusters of the pictures in FOLDER, and in the folders below it.

    MODEL is what `cluster` has written, here or elsewhere: the folder, or the file
    model.safetensors in it.
    """
    if out.exists() and not overwrite:
        raise click.ClickException(
            f"{str(out)!r} is there. Choose another --out, or pass --overwrite to "
            "replace it."
        )
    check_format(out.suffix.lower().removeprefix("."))
    path = model / MODEL if model.is_dir() else model
    clusterer = load_model(
        path, device=device, verbose=streams.verbosity, on_error=on_error
    )
    labels = _find_labels(clusterer, folder, streams)
    write_labels(labels, out)
    return _describe(labels, len(clusterer.prototypes_), out)


def _find_labels(clusterer, folder, streams):
    from sklearn_scan._inputs import list_images
    from sklearn_scan._predict import find_labels

    paths = list_images(folder)
    warn_undecodable(paths, folder, streams)
    # The folder: links that leave it are not followed.
    probabilities = clusterer.predict_proba(folder)
    clusters = find_labels(probabilities)
    return Labels.rank(name_files(paths, folder), probabilities, clusters)


def _describe(labels, n_clusters, out):
    """Return the `Result`."""
    import numpy as np

    sizes = [int((labels.clusters == number).sum()) for number in range(n_clusters)]
    record = {
        "out": str(out.absolute()),
        "n_pictures": len(labels.paths),
        "n_skipped": len(labels.paths) - sum(sizes),
        "confidence": float(np.nanmean(labels.confidence)),
        "sizes": sizes,
    }
    text = (
        f"{sum(sizes):,} pictures in {sum(map(bool, sizes))} of {n_clusters} "
        f"clusters; mean confidence {record['confidence']:.2f}\n{out}"
    )
    return Result(record, text)
