# SPDX-License-Identifier: BSD-3-Clause
"""What a person changed on the page, as labels and pairs."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklearn_scan._scan import SCANClustering
from sklearn_scan._typing import Labels, PathLike
from sklearn_scan.inspection._gallery._content import digest_labels
from sklearn_scan.inspection._gallery._page import FORMAT, VERSION
from sklearn_scan.inspection._readable import find_places, keep_readable

_COLUMNS = ("index", "file", "fitted_cluster", "cluster", "name", "wrong")
_ADVICE = "Pass the estimator whose page the file comes from."


@dataclass(frozen=True, eq=False)
class Edits:
    """A clustering as a person has corrected it.

    Attributes
    ----------
    labels : ndarray of shape (n_samples,), dtype int64
        The cluster of each sample, from 0 to ``len(names) - 1``; -1 for images that
        were marked as wrong.
    names : list of str
        Of the clusters that are left.
    clusters : ndarray of shape (n_clusters_left,), dtype int64
        Their numbers in the fitted estimator.
    must_link, cannot_link : ndarray of shape (n_pairs, 2), dtype int64
        Samples that belong together, and that do not: an image that was moved and the
        prototype of the cluster that it was moved to, or that it came from; an image
        that was marked as wrong and the prototype of its cluster; the prototypes of two
        clusters that were merged. A prototype that was itself moved or marked is
        replaced by the most confident member that was not.
    wrong : ndarray of shape (n_wrong,), dtype int64
        The samples that were marked as wrong.
    """

    labels: Labels
    names: list[str]
    clusters: Labels
    must_link: Labels
    cannot_link: Labels
    wrong: Labels


def apply_edits(estimator: SCANClustering, file: PathLike) -> Edits:
    """Read what was changed on the page of `write_gallery`.

    Parameters
    ----------
    estimator : SCANClustering
        The fitted estimator that the page was written for; it is not changed.
    file : str or os.PathLike
        What was downloaded from the page, as JSON or as CSV; told apart by what is in
        it. In the CSV, a cluster of which all members were moved to the same one is
        taken for merged.

    Returns
    -------
    edits : Edits
        With the attributes `labels`, `names`, `clusters`, `must_link`, `cannot_link`
        and `wrong`.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    ValueError
        If the file is of another clustering, or holds something else.

    See Also
    --------
    write_gallery : Write the page.

    Examples
    --------
    >>> import json
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn_scan import SCANClustering
    >>> from sklearn_scan.inspection import apply_edits, write_gallery
    >>> X, _ = make_blobs(n_samples=90, centers=3, random_state=0, cluster_std=0.5)
    >>> clusterer = SCANClustering(n_clusters=3, random_state=0).fit(X)
    >>> with TemporaryDirectory() as folder:
    ...     page = write_gallery(clusterer, X, Path(folder, "clusters.html"))
    ...     digest = page.read_text().partition('"digest":"')[2].partition('"')[0]
    ...     edits = {"format": "sklearn_scan.gallery", "version": 1, "digest": digest}
    ...     edits |= {"names": ["one", "two", "three"], "merged": {"0": 2}}
    ...     file = Path(folder, "edits.json")  # as the page would have it
    ...     _ = file.write_text(json.dumps(edits))
    ...     edits = apply_edits(clusterer, file)
    >>> edits.names, edits.labels.shape, edits.must_link.shape
    (['two', 'three'], (90,), (1, 2))
    """
    check_is_fitted(estimator, "prototypes_")
    places, estimator = find_places(estimator), keep_readable(estimator)
    # The byte-order mark is for spreadsheets.
    text = Path(file).read_text(encoding="utf-8-sig")
    if text.lstrip().startswith("{"):
        changes = _read_json(text, estimator, file)
    else:
        changes = _read_csv(text, estimator, file)
    return _number(_apply(changes, estimator), places)


def _number(edits, places):
    """Return edits with the numbers of samples as they were given."""
    return replace(
        edits,
        labels=places.spread(edits.labels, -1),
        must_link=places.number(edits.must_link),
        cannot_link=places.number(edits.cannot_link),
        wrong=places.number(edits.wrong),
    )


@dataclass(frozen=True, eq=False)
class _Changes:
    """What was changed, by the numbers of the fitted clusters.

    `merged` has for each cluster the one that it is part of, which is itself where it
    was not merged; `clusters` the cluster of each sample.
    """

    clusters: np.ndarray
    names: list
    merged: np.ndarray
    wrong: np.ndarray


def _apply(changes, estimator):
    fitted, merged = np.asarray(estimator.labels_), changes.merged
    kept = np.flatnonzero(merged == np.arange(len(merged)))
    number = np.full(len(merged), -1)
    number[kept] = np.arange(len(kept))
    # Where its cluster was merged into the one that it was moved to, nothing is moved.
    was, now = merged[fitted], changes.clusters
    is_wrong = np.zeros(len(fitted), dtype=bool)
    is_wrong[changes.wrong] = True
    is_moved = (was != now) & ~is_wrong
    shown = _find_shown(estimator, is_moved | is_wrong)
    moved, parted = np.flatnonzero(is_moved), np.flatnonzero(is_moved | is_wrong)
    gone = np.flatnonzero(number < 0)
    links = [(moved, shown[now[moved]]), (shown[gone], shown[merged[gone]])]
    others = [(parted, shown[was[parted]]), (changes.wrong, shown[now[changes.wrong]])]
    return Edits(
        labels=np.where(is_wrong, -1, number[now]),
        names=[changes.names[cluster] for cluster in kept],
        clusters=kept,
        must_link=_pair(links),
        cannot_link=_pair(others),
        wrong=changes.wrong,
    )


def _find_shown(estimator, is_changed):
    """Return a sample for each fitted cluster that was left in it; -1 for none.

    Its prototype, or else the most confident member.
    """
    shown = np.array(estimator.prototypes_)
    labels, confidence = np.asarray(estimator.labels_), estimator.confidence_
    for cluster in np.flatnonzero((shown >= 0) & is_changed[shown]):
        left = np.flatnonzero((labels == cluster) & ~is_changed)
        shown[cluster] = left[confidence[left].argmax()] if len(left) else -1
    return shown


def _pair(parts):
    """Return pairs, each once, but for those with a sample that is not there."""
    pairs = np.concatenate([np.stack(part, axis=1) for part in parts]).astype(np.int64)
    return np.unique(pairs[(pairs >= 0).all(axis=1)], axis=0)


# --- JSON --------------------------------------------------------------------------


def _read_json(text, estimator, file):
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{str(file)!r} is no JSON: {error}.") from error
    if found.get("format") != FORMAT:
        raise ValueError(f"{str(file)!r} holds no edits of a page of write_gallery.")
    if found.get("version") != VERSION:
        raise ValueError(
            f"{str(file)!r} is of version {found.get('version')!r} of the page, and "
            f"this release reads version {VERSION}."
        )
    fitted, n_clusters = np.asarray(estimator.labels_), len(estimator.prototypes_)
    if found.get("digest") != digest_labels(fitted, n_clusters):
        raise ValueError(f"{str(file)!r} is of another clustering. {_ADVICE}")
    check = _Checker(str(file), len(fitted), n_clusters)
    merged = np.arange(n_clusters)
    for cluster, into in check.pairs(found, "merged", n_clusters):
        merged[cluster] = into
    merged = check.resolve(merged)
    clusters = merged[fitted]
    for sample, cluster in check.pairs(found, "moved", len(fitted)):
        clusters[sample] = merged[cluster]
    return _Changes(clusters, check.names(found), merged, check.wrong(found))


class _Checker:
    """Reads parts of the JSON, and says what is wrong with them."""

    def __init__(self, file, n_samples, n_clusters):
        self.file = file
        self.n_samples = n_samples
        self.n_clusters = n_clusters

    def pairs(self, found, name, n_keys):
        """Return the numbers in an object whose values are clusters."""
        part = found.get(name, {})
        if not isinstance(part, Mapping):
            raise self.fault(name)
        return [
            (self.number(key, n_keys, name), self.number(value, self.n_clusters, name))
            for key, value in part.items()
        ]

    def number(self, value, n_values, name):
        """Return a number from 0 to `n_values` - 1."""
        is_text = isinstance(value, str) and value.isascii() and value.isdigit()
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if not (is_text or is_number) or not 0 <= int(value) < n_values:
            raise self.fault(name, f": {value!r} is no number below {n_values}")
        return int(value)

    def names(self, found):
        """Return the names of all fitted clusters."""
        names = found.get("names")
        is_list = isinstance(names, list) and all(isinstance(n, str) for n in names)
        if not is_list or len(names) != self.n_clusters:
            raise self.fault("names")
        return names

    def wrong(self, found):
        """Return the samples that are marked, in order."""
        wrong = found.get("wrong", [])
        if not isinstance(wrong, list):
            raise self.fault("wrong")
        numbers = [self.number(value, self.n_samples, "wrong") for value in wrong]
        return np.unique(np.array(numbers, dtype=np.int64))

    def resolve(self, merged):
        """Follow clusters that were merged into clusters that were merged later."""
        ends = merged
        for _ in range(len(merged)):
            if (merged[ends] == ends).all():
                return ends
            ends = merged[ends]
        raise self.fault("merged", ": clusters are merged in a circle")

    def fault(self, name, why=""):
        """Return the error of a part."""
        return ValueError(f"{self.file!r} is damaged in {name!r}{why}.")


# --- CSV ---------------------------------------------------------------------------


def _read_csv(text, estimator, file):
    fitted, n_clusters = np.asarray(estimator.labels_), len(estimator.prototypes_)
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    if not rows or set(_COLUMNS) - set(rows[0]):
        raise ValueError(
            f"{str(file)!r} holds no edits of a page of write_gallery: the columns "
            f"{', '.join(_COLUMNS)} are needed."
        )
    try:
        table = np.array(
            [
                [int(row[n]) for n in ("index", "fitted_cluster", "cluster")]
                for row in rows
            ]
        )
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{str(file)!r} has a row without numbers: {error}."
        ) from error
    table = table[order := np.argsort(table[:, 0], kind="stable")]
    index, before, clusters = table.T
    is_complete = np.array_equal(index, np.arange(len(fitted)))
    if not is_complete or not np.array_equal(before, fitted):
        raise ValueError(f"{str(file)!r} is of another clustering. {_ADVICE}")
    if clusters.min() < 0 or clusters.max() >= n_clusters:
        raise ValueError(
            f"{str(file)!r} has clusters from {clusters.min()} to "
            f"{clusters.max()}, and there are {n_clusters}."
        )
    names = [f"cluster {cluster}" for cluster in range(n_clusters)]
    for position, cluster in zip(order, clusters, strict=True):
        names[cluster] = rows[position]["name"].removeprefix("'")
    is_wrong = [rows[position]["wrong"] not in ("", "0", None) for position in order]
    merged = _find_merged(fitted, clusters, n_clusters)
    return _Changes(clusters, names, merged, np.flatnonzero(is_wrong))


def _find_merged(fitted, clusters, n_clusters):
    """Return what each cluster is part of: where all of its members went, and stayed.

    A cluster was merged if nothing is left in it and its members are all in one.
    """
    merged = np.arange(n_clusters)
    for cluster in range(n_clusters):
        ends = np.unique(clusters[fitted == cluster])
        if len(ends) == 1 and not (clusters == cluster).any():
            merged[cluster] = ends[0]
    return merged
