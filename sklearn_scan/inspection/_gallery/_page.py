# SPDX-License-Identifier: BSD-3-Clause
"""One HTML file of contents, thumbnails, style and script.

Nothing from outside becomes markup. What is shown lies in the page as JSON in which "<"
is escaped, and the script makes text nodes of it. The policy of the page allows this
one script and this one style, known by their hashes, and no connection.
"""

import base64
import hashlib
import html
import json
from importlib import resources
from string import Template

import numpy as np

from sklearn_scan.inspection._gallery._content import digest_labels
from sklearn_scan.inspection._stability import STABLE, UNSTABLE

FORMAT, VERSION = "sklearn_scan.gallery", 1

# In this order; they share one scope.
_SCRIPTS = (
    "data.js",
    "edits.js",
    "elements.js",
    "tiles.js",
    "views.js",
    "panel.js",
    "map.js",
    "main.js",
)
_NOWHERE = 2**16 - 1


def describe(content, *, title, names, captions, has_images, stability=None):
    """Return what the page shows, but for thumbnails, as JSON takes it.

    Parameters
    ----------
    content : Content
        What is shown.
    title : str
        Of the page.
    names : list of str
        Of clusters.
    captions : list of str or None
        Of samples; None for their numbers.
    has_images : bool
        Whether samples have pictures.
    stability : ndarray of shape (n_clusters,) or None
        Of clusters; None where it was not measured.

    Returns
    -------
    data : dict
    """
    return {
        "format": FORMAT,
        "version": VERSION,
        "digest": digest_labels(content.labels, content.n_clusters),
        "title": title,
        "names": list(names),
        "captions": captions,
        "hasImages": has_images,
        "nSamples": len(content.labels),
        "labels": _pack(content.labels, "uint16"),
        "confidence": _pack(content.confidence, "float32"),
        "choices": _pack(content.choices, "uint16"),
        "chances": _pack(content.chances, "float32"),
        "nChoices": content.choices.shape[1],
        "neighbors": _pack(content.neighbors, "int32"),
        "nNeighbors": content.neighbors.shape[1],
        "maps": {
            name: _pack(places * _NOWHERE, "uint16")
            for name, places in content.maps.items()
        },
        "prototypes": content.prototypes.tolist(),
        "stability": None if stability is None else _as_json(stability.round(4)),
        "stabilityBounds": [UNSTABLE, STABLE],
        "near": content.near.tolist(),
        "links": content.links.round(4).tolist(),
        "core": [each.tolist() for each in content.core],
        "borderline": [each.tolist() for each in content.borderline],
        "random": [each.tolist() for each in content.random],
    }


def add_places(data, sheets):
    """Add to `data` where the thumbnail of each sample is."""
    sheet_of = np.full(data["nSamples"], _NOWHERE)
    slot_of = np.zeros(data["nSamples"])
    for number, sheet in enumerate(sheets):
        sheet_of[sheet.indices] = number
        slot_of[sheet.indices] = np.arange(len(sheet.indices))
    data["sheetOf"] = _pack(sheet_of, "uint16")
    data["slotOf"] = _pack(slot_of, "uint16")
    data["sheets"] = [
        {
            "tile": sheet.tile,
            "cell": sheet.cell,
            "columns": sheet.n_columns,
            "rows": sheet.n_rows,
        }
        for sheet in sheets
    ]
    data["nWithout"] = int((sheet_of == _NOWHERE).sum())


def assemble(data, sheets):
    """Return the page as bytes."""
    style, script = _read("page.css"), _read_script()
    page = Template(_read("page.html")).substitute(
        title=html.escape(data["title"]),
        style_hash=_hash(style),
        script_hash=_hash(script),
        style=style,
        script=script,
        data=write_json(data),
        sheets="\n".join(
            f'<script type="text/plain" id="sheet-{number}">'
            f"{base64.b64encode(sheet.jpeg).decode()}</script>"
            for number, sheet in enumerate(sheets)
        ),
    )
    return page.encode("utf-8", errors="replace")


def write_json(data):
    """Return JSON that cannot end the element that it is in."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _as_json(values):
    """Return numbers in a list, with None for what is no number."""
    return [None if np.isnan(value) else float(value) for value in values]


def _pack(values, dtype):
    """Return an array as base64, little-endian."""
    kind = np.dtype(dtype)
    values = np.asarray(values)
    if kind.kind != "f" and values.dtype.kind == "f":
        values = values.round()
    text = base64.b64encode(values.astype(kind.newbyteorder("<")).tobytes())
    return {"type": dtype, "values": text.decode()}


def _read(name):
    folder = resources.files("sklearn_scan.inspection._gallery") / "page"
    return (folder / name).read_text(encoding="utf-8")


def _read_script():
    parts = "\n".join(_read(name) for name in _SCRIPTS)
    return f'(() => {{\n"use strict";\n{parts}\n}})();\n'


def _hash(text):
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
