# SPDX-License-Identifier: BSD-3-Clause
"""The pictures of a report: likely merges and splits, neighbours that disagree."""

import numpy as np

from sklearn_scan.inspection._rows import FIRST, MARKED, PLAIN, ImageRow

# Pixels of an image in a figure; images of a row; and how much is shown of each kind.
_SIDE = 96
_N_IMAGES = 9
_MOST_GROUPS = 4
_MOST_SAMPLES = 4


def choose_rows(estimator, measures, findings, pictures, random_state):
    """Choose what is shown, and read its pictures.

    Returns
    -------
    rows : list of ImageRow
        For clusters that may be one, a row of random members of each; for one that may
        be two, a row of each half; and for samples whose neighbours disagree, a row of
        the sample and its neighbours.
    """
    labels = np.asarray(estimator.labels_)
    rows = []

    def add(label, indices, frames=None, tags=None):
        images = pictures.read(np.asarray(indices), _SIDE) / np.float32(255)
        rows.append(
            ImageRow(label, images, frames or [PLAIN] * len(images), tags or {})
        )

    def draw(members):
        return np.sort(random_state.permutation(members)[:_N_IMAGES])

    for finding in findings:
        if finding.code == "merge":
            for group in finding.clusters[:_MOST_GROUPS]:
                others = " and ".join(map(str, group))
                for number in group[:3]:
                    members = np.flatnonzero(labels == number)
                    add(f"cluster {number}\n{others} may be one", draw(members))
        elif finding.code == "split":
            for (number,) in finding.clusters[:_MOST_GROUPS]:
                for name, half in zip("ab", measures.halves[number], strict=True):
                    add(f"cluster {number}, half {name}\nmay be two", draw(half))
    for sample in measures.disagreeing[:_MOST_SAMPLES]:
        near = estimator.neighbors_[sample]
        shown = np.append(sample, near[near >= 0][: _N_IMAGES - 1])
        is_same = labels[shown[1:]] == labels[sample]
        add(
            f"sample {sample}, cluster {labels[sample]}\nneighbours disagree",
            shown,
            [FIRST, *(PLAIN if same else MARKED for same in is_same)],
            {k + 1: str(labels[shown[k + 1]]) for k in np.flatnonzero(~is_same)},
        )
    return rows
