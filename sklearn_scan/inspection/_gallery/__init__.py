# SPDX-License-Identifier: BSD-3-Clause
"""A page on which clusters are looked at and corrected."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, column_or_1d

from sklearn_scan._disk import whole_file
from sklearn_scan._scan import SCANClustering
from sklearn_scan._typing import PathLike, RandomState, SamplesLike
from sklearn_scan.inspection._gallery._content import find_content
from sklearn_scan.inspection._gallery._edits import apply_edits
from sklearn_scan.inspection._gallery._page import (
    add_places,
    assemble,
    describe,
    write_json,
)
from sklearn_scan.inspection._gallery._sprites import make_sheets
from sklearn_scan.inspection._pictures import open_pictures
from sklearn_scan.inspection._readable import keep_readable, take_readable
from sklearn_scan.inspection._stability import cluster_stability

__all__ = ["apply_edits", "write_gallery"]

# Random members that the overview shows beside each prototype.
_N_IN_OVERVIEW = 5

# Smaller images are enlarged, as browsers would let thumbnails flow into each other.
_LEAST_SIDE = 32

_MOST_CLUSTERS = 2**16 - 1


def write_gallery(
    estimator: SCANClustering,
    X: SamplesLike,
    path: PathLike,
    *,
    images: SamplesLike | None = None,
    names: Sequence[str] | None = None,
    captions: Sequence[str] | None = None,
    title: str | None = None,
    thumbnail_size: int = 128,
    n_core: int = 12,
    n_borderline: int = 12,
    n_random: int = 12,
    stability: bool | ArrayLike = False,
    max_bytes: int = 40_000_000,
    random_state: RandomState = 0,
) -> Path:
    """Write a page on which clusters are looked at and corrected.

    It is one HTML file that needs no network and no server. It shows all clusters, how
    sure each is and which is nearest to it; the core, the borderline and random members
    of each; a map; and for each image its nearest neighbours and its probabilities.
    Clusters are renamed and merged on it, and images moved or marked as wrong;
    `apply_edits` reads what was changed.

    Parameters
    ----------
    estimator : SCANClustering
        Fitted.
    X : array-like, folder or sequence of paths
        What it was fitted on. Where it was fitted on rows, the page has dots and the
        numbers of rows, unless `images` is given.
    path : str or os.PathLike
        The file to be written, in an existing folder. A file of this name is replaced.
    images : array-like, folder, sequence of paths or of pictures, default=None
        What is shown in place of `X`, one for each sample.
    names : sequence of str, default=None
        What clusters are called at first. None for "cluster 0" and so on.
    captions : sequence of str, default=None
        What samples are called, and found by. None for the paths of files, from the
        folder that they have in common; or for row numbers.
    title : str, default=None
        The title of the page. None for the number of samples and of clusters.
    thumbnail_size : int, default=128
        Pixels of the longer side of a thumbnail. Smaller images keep their size, but
        for those below 32 pixels.
    n_core, n_borderline, n_random : int, default=12
        How many of the most confident members of a cluster are shown, of the least
        confident, and of members drawn at random from all.
    stability : bool or array-like of shape (n_clusters,), default=False
        How well each cluster is found again in a part of the samples; clusters of low
        stability are marked. True measures it by `cluster_stability`, which takes
        seconds to minutes; or pass what that function returns. False leaves it out.
    max_bytes : int, default=40,000,000
        About how large the file may be. Where it would be larger, thumbnails of the
        images that are not shown first are smaller, or left out, which the page says.
    random_state : int, RandomState instance or None, default=0
        Determines the random members, and the parts in which stability is measured.

    Returns
    -------
    path : pathlib.Path
        The file.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError, ValueError
        If `X` is not what it was fitted on, or a parameter does not fit it.
    FileNotFoundError
        If the folder of `path` does not exist.

    See Also
    --------
    apply_edits : Read what was changed on the page.
    cluster_stability : Measure the stability of clusters.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.decomposition import PCA
    >>> from sklearn_scan import SCANClustering
    >>> from sklearn_scan.inspection import write_gallery
    >>> images = load_digits().images[:200]
    >>> clusterer = SCANClustering(n_clusters=4, pretext=PCA(9), random_state=0)
    >>> clusterer = clusterer.fit(images)
    >>> with TemporaryDirectory() as folder:
    ...     path = write_gallery(clusterer, images, Path(folder, "clusters.html"))
    ...     path.name, path.stat().st_size > 50_000
    ('clusters.html', True)
    """
    check_is_fitted(estimator, "prototypes_")
    path = _check_path(path)
    X, images, captions = (
        take_readable(estimator, values) for values in (X, images, captions)
    )
    estimator = keep_readable(estimator)
    n_clusters, n_samples = len(estimator.prototypes_), len(estimator.labels_)
    _check_numbers(
        n_clusters,
        thumbnail_size=(thumbnail_size, 1),
        n_core=(n_core, 0),
        n_borderline=(n_borderline, 0),
        n_random=(n_random, 0),
        max_bytes=(max_bytes, 1),
    )
    names = _check_texts(names, n_clusters, "names", "clusters")
    captions = _check_texts(captions, n_samples, "captions", "samples")
    stability = _find_stability(estimator, stability, random_state)
    pictures, files = open_pictures(estimator, X, images, least_side=_LEAST_SIDE)
    content = find_content(
        estimator,
        X,
        n_core=int(n_core),
        n_borderline=int(n_borderline),
        n_random=int(n_random),
        random_state=check_random_state(random_state),
    )
    data = describe(
        content,
        title=title or f"{n_samples:,} samples in {n_clusters} clusters",
        names=names or [f"cluster {number}" for number in range(n_clusters)],
        captions=captions or _shorten(files),
        has_images=pictures is not None,
        stability=stability,
    )
    sheets = []
    if pictures is not None:
        # In the page, four letters stand for three bytes.
        room = (max_bytes - len(write_json(data))) * 3 // 4
        first, others = _group(content)
        sheets = make_sheets(pictures, first, others, int(thumbnail_size), room)
    add_places(data, sheets)
    with whole_file(path) as part:
        part.write_bytes(assemble(data, sheets))
    return path


def _group(content):
    """Return which samples are shown first, and the others; each sample once."""
    is_there = content.prototypes >= 0
    overview = [content.prototypes[is_there]]
    overview += [members[:_N_IN_OVERVIEW] for members in content.random]
    shown = zip(content.core, content.borderline, content.random, strict=True)
    taken = np.zeros(len(content.labels), dtype=bool)
    groups = [np.concatenate(overview), *map(np.concatenate, shown)]
    first = [_take(group, taken) for group in groups]
    near = content.neighbors[np.concatenate(first)].ravel()
    rest = [_take(near[near >= 0], taken)]
    # By cluster, as they are looked at; the most confident last, should room be short.
    for cluster in range(content.n_clusters):
        members = np.flatnonzero(content.labels == cluster)
        order = np.argsort(content.confidence[members], kind="stable")
        rest.append(_take(members[order], taken))
    return first, rest


def _take(indices, taken):
    """Return the indices that were not taken before, each once, and take them."""
    _, places = np.unique(indices, return_index=True)
    indices = indices[np.sort(places)]
    free = indices[~taken[indices]]
    taken[free] = True
    return free


def _check_path(path):
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"There is no folder {str(path.parent)!r} to write {path.name!r} into."
        )
    if path.is_dir():
        raise ValueError(f"path={str(path)!r} is a folder, and a file is needed.")
    return path


def _check_numbers(n_clusters, **numbers):
    for name, (value, least) in numbers.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}. Got {value!r}.")
    if n_clusters > _MOST_CLUSTERS:
        raise ValueError(f"A page shows at most {_MOST_CLUSTERS} clusters.")


def _check_texts(texts, n_expected, name, what):
    if texts is None:
        return None
    texts = [str(text) for text in texts]
    if len(texts) != n_expected:
        raise ValueError(f"{name} has {len(texts)} texts for {n_expected} {what}.")
    return texts


def _find_stability(estimator, stability, random_state):
    """Return the stability of each cluster, or None where it is not asked for."""
    if isinstance(stability, bool | np.bool_):
        if not stability:
            return None
        return cluster_stability(estimator, random_state=random_state)
    stability = column_or_1d(stability, dtype=np.float64)
    n_clusters = len(estimator.prototypes_)
    is_share = np.isnan(stability) | ((stability >= 0) & (stability <= 1))
    if len(stability) != n_clusters or not is_share.all():
        raise ValueError(
            f"stability must be True, False, or a number from 0 to 1 for each of "
            f"{n_clusters} clusters. Got {stability!r}."
        )
    return stability


def _shorten(files):
    """Return paths from the folder that they have in common."""
    if files is None:
        return None
    folders = {os.path.dirname(file) for file in files}
    try:
        common = os.path.commonpath(folders)
    except ValueError:  # on several drives, or some of them absolute
        return [os.path.basename(file) for file in files]
    return [os.path.relpath(file, common or os.curdir) for file in files]
