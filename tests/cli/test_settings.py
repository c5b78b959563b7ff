# SPDX-License-Identifier: BSD-3-Clause
"""Options of `cluster` become parameters of the estimator."""

import click
import pytest

from sklearn_scan._cli._cluster import cluster
from sklearn_scan._cli._model import Settings
from sklearn_scan.pretext import Pretrained


def make(tmp_path, **given):
    defaults = dict.fromkeys(("encoder", "weights", "image_size", "views"))
    common = {"n_clusters": 4, "seed": 7, "device": "cpu"}
    settings = Settings(**(defaults | common | given))
    settings.check()
    return settings.make_clusterer(tmp_path / "cache", tmp_path / "state", verbose=2)


def test_what_all_runs_have(tmp_path):
    clusterer = make(tmp_path)
    assert (clusterer.n_clusters, clusterer.random_state) == (4, 7)
    assert (clusterer.device, clusterer.verbose) == ("cpu", 2)
    assert clusterer.memory == str(tmp_path / "cache")


def test_the_number_of_clusters_may_be_estimated(tmp_path):
    kind = next(o for o in cluster.params if o.name == "n_clusters").type
    assert make(tmp_path, n_clusters=kind("auto")).n_clusters == "auto"
    assert make(tmp_path, n_clusters=kind("12")).n_clusters == 12
    with pytest.raises(click.BadParameter, match="not a valid integer"):
        kind("many")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"encoder": "auto", "views": "auto", "image_shape": None}),
        ({"image_size": 32}, {"image_shape": (32, 32, 3)}),
        ({"encoder": "resnet18", "views": "photo"}, {"encoder": "resnet18"}),
        ({"encoder": "resnet18", "views": "photo"}, {"views": "photo"}),
    ],
)
def test_a_network_that_is_trained(tmp_path, given, expected):
    parameters = make(tmp_path, **given).get_params(deep=False)
    assert parameters["pretext"] == "auto"
    assert parameters["checkpoint"] == str(tmp_path / "state")
    assert parameters.items() >= expected.items()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"encoder": "dinov2"}, {"weights": None, "image_size": None}),
        ({"encoder": "timm/x", "image_size": 32}, {"image_size": 32}),
        ({"encoder": "torchvision/X", "weights": "w.pth"}, {"weights": "w.pth"}),
        (
            {"encoder": "resnet18", "weights": "w.pth", "image_size": 32},
            {"weights": "w.pth", "image_shape": (32, 32, 3), "image_size": None},
        ),
    ],
)
def test_a_pretrained_network(tmp_path, given, expected):
    clusterer = make(tmp_path, **given)
    assert isinstance(clusterer.pretext, Pretrained)
    assert clusterer.pretext.encoder == given["encoder"]
    assert clusterer.pretext.get_params().items() >= expected.items()
    assert clusterer.encoder == clusterer.views == "auto"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"encoder": "resnet19"}, "'resnet19' is no encoder. Choose dinov2"),
        ({"weights": "w.pth"}, "--weights needs --encoder"),
        ({"encoder": "clip", "views": "photo"}, "a pretrained encoder stays as it is"),
    ],
)
def test_what_does_not_go_together(tmp_path, given, message):
    with pytest.raises(click.UsageError, match=message):
        make(tmp_path, **given)
