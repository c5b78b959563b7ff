# SPDX-License-Identifier: BSD-3-Clause
"""Pictures with hostile names, weights, and one run of `cluster` that tests share."""

import json
import os
import shutil

import pytest
import torch
from cli_helpers import HOSTILE, N_CLUSTERS, PLAIN, SIDE, write_picture
from click.testing import CliRunner
from helpers import few_steps

from sklearn_scan._cli import main


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Return a folder of pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    for seed, name in enumerate([*HOSTILE, *PLAIN]):
        write_picture(os.path.join(os.fsencode(folder), name), seed)
    return folder


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """Return a file of weights of a small network of timm."""
    timm = pytest.importorskip("timm")
    path = tmp_path_factory.mktemp("weights") / "test_vit.pth"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model("test_vit", pretrained=False)
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def run():
    """Return a function that runs a command, and checks its exit code."""

    def run(*arguments, code=0):
        with few_steps():
            result = CliRunner().invoke(main, [str(each) for each in arguments])
        assert result.exit_code == code, result.output
        return result

    return run


@pytest.fixture(scope="session")
def options(pictures, weights):
    """Return the arguments of a quick `cluster`, but for its --out."""
    encoder = ["--encoder", "timm/test_vit", "--weights", weights, "--image-size", SIDE]
    return ["cluster", pictures, "--n-clusters", N_CLUSTERS, *encoder]


@pytest.fixture(scope="session")
def finished(run, options, tmp_path_factory):
    """Return the folder of a run that has finished, not to be changed, and its JSON."""
    out = tmp_path_factory.mktemp("finished") / "out"
    return out, json.loads(run(*options, "--out", out, "--json").stdout)


@pytest.fixture
def found(finished, tmp_path):
    """Return a copy of the folder of a run that has finished."""
    return shutil.copytree(finished[0], tmp_path / "found")
