# SPDX-License-Identifier: BSD-3-Clause
"""What a user installs: the files of the wheel, and what its metadata say."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import sklearn_scan

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "sklearn_scan"
ignored = shutil.ignore_patterns("__pycache__")

BUILD = "import sys; from setuptools.build_meta import build_wheel as b; b(sys.argv[1])"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel from a copy, as a build leaves files behind."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("out")
    shutil.copytree(PACKAGE, copy / PACKAGE.name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    # The messages of setuptools are for those who read them.
    command = [sys.executable, "-c", BUILD, out]
    subprocess.run(command, cwd=copy, check=True, capture_output=True)
    (path,) = out.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


@pytest.fixture(scope="module")
def metadata(wheel):
    (name,) = (n for n in wheel.namelist() if n.endswith("/METADATA"))
    return Parser().parsestr(wheel.read(name).decode())


def test_the_wheel_holds_every_file_of_the_package(wheel):
    # Whatever is no module is in it only where pyproject.toml says so: style and script
    # of the gallery, and that there are types.
    expected = {
        path.relative_to(ROOT).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == expected


def test_the_wheel_holds_the_licence(wheel):
    (name,) = (n for n in wheel.namelist() if n.endswith("/licenses/LICENSE"))
    assert wheel.read(name).decode() == (ROOT / "LICENSE").read_text()


def test_the_metadata_say_what_the_package_says(metadata):
    assert metadata["Name"] == "sklearn-scan"
    assert metadata["Version"] == sklearn_scan.__version__
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert metadata.get_payload() == (ROOT / "README.md").read_text()


def imported_when_a_module_is():
    """Return what the modules of the package import before anything is called."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield node.module


def test_what_the_package_imports_is_required(metadata):
    wanted = (text for text in metadata.get_all("Requires-Dist") if "extra" not in text)
    required = {re.match(r"[\w.-]+", text)[0] for text in wanted}
    names = {name.partition(".")[0] for name in imported_when_a_module_is()}
    others = names - sys.stdlib_module_names - {"sklearn_scan"}
    assert {"sklearn", "torch", "PIL"} <= others
    distributions = packages_distributions()
    assert [n for n in others if required.isdisjoint(distributions[n])] == []


def test_a_release_is_written_down():
    version = sklearn_scan.__version__
    if "dev" in version:
        pytest.skip("not a release")
    assert f"\n## [{version}]" in (ROOT / "CHANGELOG.md").read_text()
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_promised_versions_of_python_are_those_that_can_install_it():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    prefix = "Programming Language :: Python :: 3."
    promised = [c for c in project["classifiers"] if c.startswith(prefix)]
    minors = [int(c.removeprefix(prefix)) for c in promised]
    assert project["requires-python"] == f">=3.{min(minors)}"
    assert sys.version_info.minor in minors
