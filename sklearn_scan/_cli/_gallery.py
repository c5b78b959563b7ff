# SPDX-License-Identifier: BSD-3-Clause
"""`sklearn-scan gallery`: the page of a run, written again."""

import os
from pathlib import Path

import click

from sklearn_scan._cli._folder import MODEL, PAGE, RunFolder
from sklearn_scan._cli._model import load_model
from sklearn_scan._cli._options import FOLDER, computing, overwriting
from sklearn_scan._cli._streams import Result, speaking


@click.command(short_help="Write the page of a run again.")
@click.argument("run", metavar="DIR", type=FOLDER)
@click.option(
    "--folder",
    type=FOLDER,
    help="Where the pictures are now.  [default: where they were]",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"The page.  [default: {PAGE} in DIR]",
)
@click.option("--title", help="Of the page.")
@click.option(
    "--thumbnail-size",
    type=click.IntRange(1),
    default=128,
    show_default=True,
    metavar="PIXELS",
    help="Longer side of the pictures on the page.",
)
@overwriting("Replace the page at --out, if it is there.")
@computing
@speaking
def gallery(run, folder, out, title, thumbnail_size, overwrite, device, streams):
    """Write the page on which the clusters of a run are looked at and corrected.

    DIR is the folder that `cluster` has written. The page has the pictures that the
    model in it names: if DIR comes from somebody else, pass --folder, and no picture is
    taken from elsewhere.
    """
    run = RunFolder(run)
    summary = run.require()
    out = _find_page(run, summary, out, overwrite)
    clusterer = load_model(run.path / MODEL, device=device)
    paths = _find_pictures(clusterer, summary, folder)
    from sklearn_scan.inspection import write_gallery

    write_gallery(clusterer, paths, out, title=title, thumbnail_size=thumbnail_size)
    if _is_of_run(out, run):
        run.add_file(PAGE)
    n_bytes = out.stat().st_size
    record = {"page": str(out.absolute()), "n_bytes": n_bytes}
    return Result(record, f"{out} ({n_bytes / 1e6:.1f} MB)")


def _find_page(run, summary, out, overwrite):
    """Return where the page is written; refuse to replace a file of others."""
    out = run.path / PAGE if out is None else out
    is_ours = _is_of_run(out, run) and PAGE in summary["files"]
    if out.exists() and not (is_ours or overwrite):
        raise click.ClickException(
            f"{str(out)!r} is there. Choose another --out, or pass --overwrite to "
            "replace it."
        )
    return out


def _is_of_run(page, run):
    return page.absolute() == (run.path / PAGE).absolute()


def _find_pictures(clusterer, summary, folder):
    """Return the files that were clustered, in their order, where they are now."""
    was = summary["folder"]
    names = [os.path.relpath(path, was) for path in clusterer.paths_]
    for name in names:
        if _leaves(name):
            raise click.ClickException(
                f"The model names a picture outside of the folder {was!r}: {name!r}."
            )
    if folder is None:
        if not os.path.isdir(was):
            raise click.ClickException(
                f"The pictures are no longer in {was!r}. Pass --folder with where they "
                "are now."
            )
        return clusterer.paths_
    return [os.path.join(folder, name) for name in names]


def _leaves(name):
    """Say whether a relative path leaves the folder that it is relative to."""
    return os.path.isabs(name) or name.split(os.sep)[0] == os.pardir
