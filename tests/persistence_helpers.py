# SPDX-License-Identifier: BSD-3-Clause
"""What tests of saved models share: quick clusterers of every kind."""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch import nn

from sklearn_scan import SCANClustering, TrainingConfig, load, save
from sklearn_scan.pretext import DeepCluster, Pretrained, SimCLR

QUICK = TrainingConfig(epochs=1)
MLP = {"encoder": "mlp", "epochs": 1, "random_state": 0, "device": "cpu"}


class Flat(nn.Sequential):
    """A network of a user, with batch normalisation."""

    def __init__(self, shape, width=8):
        n_values = int(np.prod(shape))
        super().__init__(
            nn.Flatten(), nn.Linear(n_values, width), nn.BatchNorm1d(width)
        )


def make_clusterer(pretext="auto", **options):
    """Return an unfitted clusterer that takes no time to fit."""
    given = {"head_search": QUICK, "self_labeling": None, "n_heads": 2}
    given |= {"random_state": 0, "device": "cpu", "pretext": pretext}
    return SCANClustering(n_clusters=3, **(given | options))


def save_and_load(estimator, tmp_path, **options):
    """Return what becomes of an estimator on the way through a file."""
    path = tmp_path / "saved.safetensors"
    save(estimator, path)
    return load(path, **({"device": "cpu"} | options))


def assert_same(found, expected, where=""):
    """Hold attributes against each other, to the bit, whatever they are."""
    assert type(found) is type(expected), where
    if isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected, err_msg=where)
    elif isinstance(expected, dict):
        assert list(found) == list(expected), where
        for key, value in expected.items():
            assert_same(found[key], value, f"{where}[{key!r}]")
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected), where
        for i, value in enumerate(expected):
            assert_same(found[i], value, f"{where}[{i}]")
    elif isinstance(expected, (int, float, str)):
        assert found == expected or found != found, where


def _fit_task(images):
    return FrozenEstimator(DeepCluster(3, **MLP).fit(images))


def _fit_pca(images):
    return FrozenEstimator(PCA(4).fit(images.reshape(len(images), -1)))


#: By name, what makes an unfitted clusterer; "rows" is given rows.
KINDS = {
    "rows": lambda images: make_clusterer(),
    "PCA": lambda images: make_clusterer(PCA(5)),
    "pipeline": lambda images: make_clusterer(
        make_pipeline(StandardScaler(), FunctionTransformer(np.tanh), PCA(5))
    ),
    "frozen PCA": lambda images: make_clusterer(_fit_pca(images)),
    "learning": lambda images: make_clusterer(
        SimCLR(encoder="convnet", epochs=1), clustering=QUICK, self_labeling=QUICK
    ),
    "no head search": lambda images: make_clusterer(
        SimCLR(**MLP), head_search=None, clustering=QUICK
    ),
    "frozen task": lambda images: make_clusterer(_fit_task(images), clustering=None),
    "pretrained": lambda images: make_clusterer(Pretrained("convnet")),
    "pretrained, trained on": lambda images: make_clusterer(
        Pretrained("mlp"), clustering=QUICK
    ),
}
