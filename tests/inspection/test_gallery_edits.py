# SPDX-License-Identifier: BSD-3-Clause
"""What a person changed on the page, read back."""

import csv
import json

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from sklearn_scan import SCANClustering
from sklearn_scan.inspection import apply_edits
from sklearn_scan.inspection._gallery._content import digest_labels

NAMES = ["a", "b", "c", "d"]
COLUMNS = ["index", "file", "fitted_cluster", "cluster", "name", "wrong"]


class Fitted(SCANClustering):
    """As much of a fitted clusterer as edits are applied to."""

    def __init__(self):
        self.labels_ = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2])
        self.confidence_ = np.array([0.9, 0.8, 0.7, 0.9, 0.8, 0.7, 0.9, 0.8, 0.7])
        self.prototypes_ = np.array([0, 3, 6, -1])


@pytest.fixture
def fitted():
    return Fitted()


def write(folder, fitted, **changes):
    """Write edits as the page does."""
    found = {
        "format": "sklearn_scan.gallery",
        "version": 1,
        "digest": digest_labels(fitted.labels_, 4),
        "names": NAMES,
    }
    file = folder / "edits.json"
    file.write_text(json.dumps(found | changes))
    return file


def write_csv(folder, fitted, clusters, names=NAMES, wrong=(), order=None):
    file = folder / "labels.csv"
    with open(file, "w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for i in range(9) if order is None else order:
            known, cluster = fitted.labels_[i], clusters[i]
            writer.writerow([i, "'=x", known, cluster, names[cluster], int(i in wrong)])
    return file


def test_nothing_changed(fitted, tmp_path):
    edits = apply_edits(fitted, write(tmp_path, fitted))
    np.testing.assert_array_equal(edits.labels, fitted.labels_)
    assert edits.names == NAMES
    assert edits.clusters.tolist() == [0, 1, 2, 3]
    for pairs in (edits.must_link, edits.cannot_link):
        assert pairs.shape == (0, 2)
    assert edits.wrong.tolist() == []
    assert edits.labels.dtype == edits.must_link.dtype == np.int64


def test_a_merge_leaves_numbers_in_a_row(fitted, tmp_path):
    edits = apply_edits(fitted, write(tmp_path, fitted, merged={"0": 2}))
    assert edits.labels.tolist() == [1, 1, 1, 0, 0, 0, 1, 1, 1]
    assert edits.names == ["b", "c", "d"]
    assert edits.clusters.tolist() == [1, 2, 3]
    assert edits.must_link.tolist() == [[0, 6]]
    assert edits.cannot_link.shape == (0, 2)


def test_merges_are_followed(fitted, tmp_path):
    edits = apply_edits(fitted, write(tmp_path, fitted, merged={"0": 1, "1": 2}))
    assert edits.labels.tolist() == [0] * 9
    assert edits.must_link.tolist() == [[0, 6], [3, 6]]


def test_a_moved_image_belongs_to_one_prototype_and_not_to_another(fitted, tmp_path):
    edits = apply_edits(fitted, write(tmp_path, fitted, moved={"1": 2}))
    assert edits.labels.tolist() == [0, 2, 0, 1, 1, 1, 2, 2, 2]
    assert edits.must_link.tolist() == [[1, 6]]
    assert edits.cannot_link.tolist() == [[1, 0]]


def test_a_wrong_image_has_no_cluster(fitted, tmp_path):
    edits = apply_edits(fitted, write(tmp_path, fitted, wrong=[8, 4]))
    assert edits.labels.tolist() == [0, 0, 0, 1, -1, 1, 2, 2, -1]
    assert edits.wrong.tolist() == [4, 8]
    assert edits.cannot_link.tolist() == [[4, 3], [8, 6]]
    assert edits.must_link.shape == (0, 2)


def test_a_wrong_image_that_was_moved_belongs_to_neither(fitted, tmp_path):
    edits = apply_edits(fitted, write(tmp_path, fitted, moved={"4": 0}, wrong=[4]))
    assert edits.labels[4] == -1
    assert edits.cannot_link.tolist() == [[4, 0], [4, 3]]


def test_a_prototype_that_was_moved_no_longer_shows_its_cluster(fitted, tmp_path):
    edits = apply_edits(fitted, write(tmp_path, fitted, moved={"0": 1, "2": 1}))
    assert edits.must_link.tolist() == [[0, 3], [2, 3]]
    assert edits.cannot_link.tolist() == [[0, 1], [2, 1]]


def test_an_image_moved_to_where_its_cluster_went_is_not_moved(fitted, tmp_path):
    changes = {"merged": {"0": 1}, "moved": {"2": 1}}
    edits = apply_edits(fitted, write(tmp_path, fitted, **changes))
    assert edits.must_link.tolist() == [[0, 3]]
    assert edits.cannot_link.shape == (0, 2)


def test_an_image_moved_to_an_empty_cluster(fitted, tmp_path):
    edits = apply_edits(fitted, write(tmp_path, fitted, moved={"1": 3}))
    assert edits.labels[1] == 3
    assert edits.must_link.shape == (0, 2)
    assert edits.cannot_link.tolist() == [[1, 0]]


@pytest.mark.parametrize("order", [None, [3, 1, 2, 0, 8, 7, 6, 5, 4]])
def test_csv_and_json_give_the_same(fitted, tmp_path, order):
    names = ["'=1+1", "b", 'c\u2028, "d"', "cluster 3"]
    changes = {"merged": {"1": 2}, "moved": {"1": 2}, "wrong": [8]}
    names_of_page = [names[0].removeprefix("'"), *names[1:]]
    expected = apply_edits(
        fitted, write(tmp_path, fitted, names=names_of_page, **changes)
    )
    clusters = [0, 2, 0, 2, 2, 2, 2, 2, 2]
    found = apply_edits(
        fitted, write_csv(tmp_path, fitted, clusters, names, wrong={8}, order=order)
    )
    assert found.names == expected.names
    for name in ("labels", "clusters", "must_link", "cannot_link", "wrong"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"digest": "0" * 32}, "of another clustering"),
        ({"format": "other"}, "no edits of a page"),
        ({"version": 2}, "version 2 .* reads version 1"),
        ({"names": ["a"]}, "damaged in 'names'"),
        ({"names": [1, 2, 3, 4]}, "damaged in 'names'"),
        ({"moved": {"9": 0}}, "damaged in 'moved': '9' is no number below 9"),
        ({"moved": {"0": 4}}, "damaged in 'moved': 4 is no number below 4"),
        ({"moved": {"-1": 0}}, "damaged in 'moved'"),
        ({"moved": [1]}, "damaged in 'moved'"),
        ({"merged": {"0": True}}, "damaged in 'merged'"),
        ({"merged": {"0": 1, "1": 0}}, "merged in a circle"),
        ({"wrong": [1.5]}, "damaged in 'wrong'"),
        ({"wrong": "all"}, "damaged in 'wrong'"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(changes, says, fitted, tmp_path):
    with pytest.raises(ValueError, match=says):
        apply_edits(fitted, write(tmp_path, fitted, **changes))


@pytest.mark.parametrize("text", ['{"format": ', "", "a,b\n1,2\n", "[1, 2]"])
def test_other_files_are_refused(text, fitted, tmp_path):
    file = tmp_path / "other"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"other' (is no JSON|holds no edits)"):
        apply_edits(fitted, file)


def test_a_table_of_another_clustering_is_refused(fitted, tmp_path):
    file = write_csv(tmp_path, fitted, fitted.labels_)
    other = Fitted()
    other.labels_ = np.roll(other.labels_, 1)
    with pytest.raises(ValueError, match="another clustering"):
        apply_edits(other, file)
    with pytest.raises(ValueError, match="another clustering"):
        apply_edits(fitted, write_csv(tmp_path, fitted, fitted.labels_, order=[1, 2]))
    with pytest.raises(ValueError, match="clusters from 0 to 4, and there are 4"):
        clusters = [*fitted.labels_[:8], 4]
        apply_edits(fitted, write_csv(tmp_path, fitted, clusters, [*NAMES, "e"]))
    file.write_text(file.read_text().replace("\n0,", "\nzero,"))
    with pytest.raises(ValueError, match="row without numbers"):
        apply_edits(fitted, file)


def test_an_estimator_must_be_fitted(tmp_path):
    with pytest.raises(NotFittedError):
        apply_edits(SCANClustering(), tmp_path / "edits.json")
