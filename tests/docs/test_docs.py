# SPDX-License-Identifier: BSD-3-Clause
"""The pages: what they name is there, and the code on them runs.

That links and references lead somewhere is checked by `make docs`.
"""

import importlib
import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from jinja2 import Environment, StrictUndefined
from markdown_it import MarkdownIt
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.utils import Bunch

import sklearn_scan
from sklearn_scan import SCANClustering
from sklearn_scan.inspection._gallery._content import digest_labels

ROOT = Path(sklearn_scan.__file__).resolve().parent.parent
DOCS = ROOT / "docs"
QUESTIONS = sorted(path.stem for path in (DOCS / "questions").glob("*.md"))
PAGES = ("README.md", "docs/getting_started.md", "docs/data.md", "docs/embeddings.md")
PAGES += (
    "docs/searching.md",
    "docs/paper.md",
    "docs/diagnosing.md",
    "docs/gallery.md",
    "docs/photographs.md",
)
PAGES += tuple(f"docs/questions/{name}.md" for name in QUESTIONS if name != "index")
MODULES = (
    "",
    ".pretext",
    ".neighbors",
    ".metrics",
    ".model_selection",
    ".inspection",
    ".recipes",
)


# What is there.


@pytest.mark.parametrize("module", MODULES)
def test_the_reference_has_every_public_name(module):
    name = f"sklearn_scan{module}"
    text = (DOCS / "api" / "index.rst").read_text()
    parts = re.split(r"^\.\. currentmodule:: (\S+)$", text, flags=re.MULTILINE)
    pairs = zip(parts[1::2], parts[2::2], strict=True)
    listed = " ".join(part for module, part in pairs if module == name)
    entry = r"^ {3}([A-Za-z]\w*)$|^\.\. autodata:: (\w+)$"
    names = {a or b for a, b in re.findall(entry, listed, re.MULTILINE)}
    public = set(importlib.import_module(name).__all__) - {"__version__"}
    assert names == public


def test_questions_are_two_clicks_from_the_front_page():
    front = (DOCS / "index.md").read_text()
    assert ":link: questions/index" in front
    toctree = (DOCS / "questions" / "index.md").read_text().partition("{toctree}")[2]
    listed = re.findall(r"^(\w+)$", toctree, re.MULTILINE)
    assert sorted([*listed, "index"]) == QUESTIONS


@pytest.mark.parametrize("file", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_of_files_outside_of_the_docs(file):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / file).read_text()):
        if "://" not in target:
            assert (ROOT / target).exists(), target


# The numbers.


@pytest.fixture(scope="module")
def numbers():
    import _results  # the benchmarks that it reads take seconds to import

    return _results.load()


def named_on_pages():
    """Return the expressions on all pages, with the page of each."""
    for page in sorted(DOCS.glob("**/*.md")):
        if "auto_examples" not in page.parts:
            for found in re.findall(r"\{\{(.+?)\}\}", page.read_text(), re.DOTALL):
                yield page.name, found.strip()


def test_pages_name_results_that_are_committed(numbers):
    environment = Environment(undefined=StrictUndefined)
    for page, expression in named_on_pages():
        value = environment.from_string(f"{{{{ {expression} }}}}").render(numbers)
        assert value.strip(), (page, expression)


def test_every_table_of_results_is_on_a_page(numbers):
    shown = {expression for _, expression in named_on_pages()}
    assert {f"tables.{name}" for name in numbers["tables"]} <= shown


def test_tables_hold_the_numbers_of_the_files(numbers):
    rows = numbers["results"]["panel"]["after"]["results"]["digits"]
    mean = np.mean([row["ACC"] for row in rows])
    line = next(r for r in numbers["tables"]["panel"].split("\n") if "digits, 8" in r)
    assert f"{mean:.3f} ±" in line
    found = numbers["results"]["paper"]["pretext"]["summary"]["RotNet"]["ACC"]["mean"]
    assert re.search(rf"RotNet .*{100 * found:.1f} ±", numbers["tables"]["pretext"])


def test_the_readme_has_the_table_of_the_results():
    import _results

    made = _results.make_readme_table()
    assert made in (ROOT / "README.md").read_text(), (
        "python docs/_results.py prints the table that belongs there"
    )


# The code.


@pytest.fixture
def quick(monkeypatch, few_steps):
    """Let every training take one epoch, and few heads: code runs, and learns little.

    Weights of timm are random ones, as there is nothing to be fetched.
    """
    timm = pytest.importorskip("timm")
    make = timm.create_model

    def create(name, pretrained=False, **options):
        return make("test_vit", img_size=224, num_classes=0)

    monkeypatch.setattr(timm, "create_model", create)
    monkeypatch.setattr(
        "sklearn_scan._engine._schedule.Schedule.n_epochs", lambda self, n: 1
    )
    monkeypatch.setattr("sklearn_scan._params._N_HEADS", 2)
    monkeypatch.setattr("sklearn_scan._params._N_HEADS_ON_LEARNED", 2)
    for name in ("_polishing", "_following"):
        monkeypatch.setattr(f"sklearn_scan._stages.{name}._STEPS", 2)


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """Return the names that code on pages takes as given, in a folder with pictures."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for folder in ("photographs", "next_month"):
        (tmp_path / folder).mkdir()
        for i in range(24):
            pixels = random.integers(0, 256, (12, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{i}.png")
    digits = load_digits()
    X, y = digits.images[:60], digits.target[:60]
    few = Bunch(images=X, target=y)
    monkeypatch.setattr("sklearn.datasets.load_digits", lambda: few)
    rows = X.reshape(len(X), -1)
    return {
        "SCANClustering": SCANClustering,
        "clusterer": SCANClustering(n_clusters=4, pretext=PCA(9), random_state=0),
        "X": X,
        "y": y,
        "X_new": X[:9],
        "rows": rows,
        "new_rows": rows[:9],
        "many_images": X,
        "few_images": X[:20],
        "neighbors": np.tile(np.arange(3), (len(X), 1)),
        "pictures": X,
    }


def read_code(path):
    """Return the blocks of Python on a page, with the line of each.

    Those below a comment that says so are not run.
    """
    tokens = MarkdownIt("commonmark").parse(path.read_text())
    for before, token in pairwise([None, *tokens]):
        is_left_out = before is not None and before.content.startswith("<!-- not run")
        if token.type == "fence" and token.info == "python" and not is_left_out:
            yield token.map[0] + 1, token.content


def leave_edits(clusterer):
    """Leave the file that a page of this clusterer has had downloaded."""
    n_clusters = len(clusterer.prototypes_)
    edits = {"format": "sklearn_scan.gallery", "version": 1}
    edits |= {"digest": digest_labels(clusterer.labels_, n_clusters)}
    edits |= {"names": [str(k) for k in range(n_clusters)], "merged": {"0": 1}}
    Path("edits.json").write_text(json.dumps(edits))


@pytest.mark.filterwarnings("ignore")  # of trainings that are too short
@pytest.mark.parametrize("page", PAGES)
def test_code_on_pages_runs(page, quick, reader):
    for line, code in read_code(ROOT / page):
        if "edits.json" in code:
            leave_edits(reader["clusterer"])
        try:
            exec(compile(code, f"{page}, line {line}", "exec"), reader)
        except Exception as error:
            raise AssertionError(f"{page}, line {line}: {error!r}\n{code}") from error
