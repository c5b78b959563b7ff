# SPDX-License-Identifier: BSD-3-Clause
"""How the gallery runs examples, as plain scripts, and in which order it shows them."""

import tempfile
from pathlib import Path

# First what most people come for; pages that are not named here come last.
_PAGES = (
    "digits",
    "folder",
    "pretrained",
    "embeddings",
    "n_clusters",
    "overclustering",
    "rename_merge",
    "confidence",
    "new_images",
    "diagnose",
    "save",
    "pipeline",
    "search",
    "pretexts",
    "own_encoder",
    "own_pretext",
)


class ReadingOrder:
    """Sort key of the pages, as sphinx-gallery takes it."""

    def __init__(self, src_dir):
        pass

    def __call__(self, filename):
        name = Path(filename).stem.removeprefix("plot_")
        return _PAGES.index(name) if name in _PAGES else len(_PAGES)


def give_arguments(gallery_conf, script_vars):
    """Return the arguments of an example, and let it know its own file.

    The picture that is committed is drawn by ``make demo`` alone.
    """
    script_vars["example_globals"]["__file__"] = script_vars["src_file"]
    if Path(script_vars["src_file"]).name == "plot_digits.py":
        return ["--output", str(Path(tempfile.gettempdir()) / "digits.png")]
    return []
