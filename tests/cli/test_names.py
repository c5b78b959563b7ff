# SPDX-License-Identifier: BSD-3-Clause
"""Hostile names of files do no harm: in tables, on the page, in paths, on terminals."""

import os
import re

import pytest
from cli_helpers import HOSTILE, list_files, read_table

from sklearn_scan import SCANClustering
from sklearn_scan._cli._errors import printable
from sklearn_scan._cli._labels import name_files

FORMULA = re.compile(r"[=+\-@\s\uff1d\uff0b\uff0d\uff20]")


@pytest.mark.parametrize("name", HOSTILE, ids=repr)
def test_names_in_tables(tmp_path, name):
    path = os.path.join(str(tmp_path), os.fsdecode(name))
    assert name_files([path], tmp_path) == [HOSTILE[name]]


def test_names_survive_the_table_and_lead_to_their_files(finished, pictures):
    names = [row["path"] for row in read_table(finished[0] / "labels.csv")]
    assert set(HOSTILE.values()) <= set(names)
    missing = [name for name in names if not (pictures / name).exists()]
    assert missing == [r"caf\xe9.png"]  # which is no text


def test_no_cell_begins_a_formula(finished):
    text = (finished[0] / "labels.csv").read_text(encoding="utf-8")
    rows = read_table(finished[0] / "labels.csv")
    assert not [row for row in rows for cell in row.values() if FORMULA.match(cell)]
    # Nor where ";" divides cells: every text is in quotes.
    without_quotes = re.sub(r'"(?:[^"]|"")*"', "", text)
    assert re.fullmatch(r"[\d.,e\n-]*", without_quotes)


def test_the_page_has_no_markup_of_names(finished):
    page = (finished[0] / "clusters.html").read_text(encoding="utf-8")
    assert "<img src=x" not in page
    assert "u003cimg src=x onerror=alert(1)>" in page


def test_nothing_is_written_but_the_results(run, options, tmp_path, pictures):
    inside, outside = tmp_path / "a" / "b", list_files(pictures)
    inside.mkdir(parents=True)
    run(*options, "--out", inside / "out")
    assert list_files(pictures) == outside
    everything = {path.relative_to(tmp_path).parts[:3] for path in tmp_path.rglob("*")}
    assert everything == {("a",), ("a", "b"), ("a", "b", "out")}


def test_who_reads_the_table_is_warned_of_names_that_are_no_text(finished):
    warnings = finished[1]["warnings"]
    assert [each for each in warnings if "bytes that are no text: 1." in each]


def test_terminals_are_shown_control_characters(run, options, tmp_path, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    assert printable("\x1b[31m\udce9\u202e é\n") == "\\x1b[31m\\udce9\\u202e é\n"
    monkeypatch.setattr(SCANClustering, "fit", interrupt)
    result = run(*options, "--out", tmp_path / "\x07", code=130)
    assert "\x07" not in result.output
    assert r"\x07/cache" in result.stderr
