# SPDX-License-Identifier: BSD-3-Clause
"""`sklearn-scan cluster`: the groups of the pictures in a folder."""

from pathlib import Path

import click

from sklearn_scan._cli._folder import MODEL, PAGE, RunFolder
from sklearn_scan._cli._labels import FORMATS, check_format
from sklearn_scan._cli._model import VIEWS, Settings
from sklearn_scan._cli._options import (
    FOLDER,
    NumberOrAuto,
    computing,
    overwriting,
    skipping,
)
from sklearn_scan._cli._run import Run
from sklearn_scan._cli._streams import speaking


@click.command(short_help="Find the groups of the pictures in a folder.")
@click.argument("folder", type=FOLDER)
@click.option(
    "--n-clusters",
    type=NumberOrAuto(1),
    metavar="NUMBER",
    required=True,
    help='How many groups; "auto" estimates it.',
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder for the results; a new one, or that of an earlier run.",
)
@click.option(
    "--encoder",
    metavar="NAME",
    help="A pretrained network: dinov2, dinov2-base, clip, timm/NAME, "
    "torchvision/WEIGHTS; or one that is trained on your pictures: resnet18, "
    "resnet18_cifar, ...  [default: a small one, trained on your pictures]",
)
@click.option(
    "--weights",
    type=click.Path(exists=True, dir_okay=False),
    help="File of weights of the encoder.  [default: downloaded, if it has a name]",
)
@click.option(
    "--image-size",
    type=click.IntRange(1),
    metavar="PIXELS",
    help="Side of the images that the network reads.  [default: that of a pretrained "
    "network; else 64]",
)
@click.option(
    "--views",
    type=click.Choice(VIEWS),
    help="Random changes under which a picture shows the same, where a network is "
    "trained.  [default: auto]",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    metavar="NUMBER",
    default=0,
    show_default=True,
    help="The same seed gives the same labels.",
)
@click.option(
    "--format",
    "table_format",
    type=click.Choice(FORMATS),
    default="csv",
    show_default=True,
    help="Of the labels; parquet needs pandas and pyarrow.",
)
@click.option("--no-page", is_flag=True, help="Write no clusters.html.")
@overwriting("Write into OUT even if it holds files of others.")
@skipping
@computing
@speaking
def cluster(folder, out, table_format, no_page, overwrite, streams, **settings):
    """Find the groups of the pictures in FOLDER, and in the folders below it.

    Writes into OUT the cluster of each picture (labels.csv), a page to look at
    (clusters.html), the model for new pictures (model.safetensors), and a summary
    (summary.json). What is computed is kept in OUT/cache: the same command goes on
    where it was interrupted, and another number of clusters begins with what is known
    of the pictures. That folder may be deleted.
    """
    check_format(table_format)
    settings = Settings(**settings)
    settings.check()
    names = [f"labels.{table_format}", MODEL, *([] if no_page else [PAGE])]
    return Run(folder, RunFolder(out), settings, names, streams).go(overwrite)
