# SPDX-License-Identifier: BSD-3-Clause
"""The settings of the paper, against the table of the reference's configurations."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone

from sklearn_scan.metrics import top_k_hungarian_accuracy_score
from sklearn_scan.pretext import Pretrained
from sklearn_scan.recipes import RECIPES, paper_recipe

# One epoch of everything does not find every cluster.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SMALL = ("cifar10", "cifar100-20", "stl10")
LARGE = ("imagenet50", "imagenet100", "imagenet200")


# n_clusters, batch and epochs of clustering, batch and epochs of self-labelling.
PUBLISHED = {
    "cifar10": (10, 128, 50, 1000, 200),
    "cifar100-20": (20, 512, 100, 1000, 200),
    "stl10": (10, 128, 100, 1000, 100),
    "imagenet50": (50, 512, 100, 512, 25),
    "imagenet100": (100, 1024, 100, 512, 25),
    "imagenet200": (200, 1024, 100, 512, 25),
}


@pytest.mark.parametrize("name", RECIPES)
def test_sizes_and_epochs(name):
    clusterer = paper_recipe(name)
    assert PUBLISHED[name] == (
        clusterer.n_clusters,
        clusterer.clustering.batch_size,
        clusterer.clustering.epochs,
        clusterer.self_labeling.batch_size,
        clusterer.self_labeling.epochs,
    )
    assert clusterer.threshold == 0.99
    assert clusterer.entropy_weight == 5
    assert clusterer.head_search is None


@pytest.mark.parametrize("name", SMALL)
def test_small_images(name):
    clusterer = paper_recipe(name)
    pretext = clusterer.pretext
    assert (clusterer.K, clusterer.n_heads) == (20, 1)
    assert clusterer.class_weight == "balanced"
    assert (pretext.temperature, pretext.n_projection) == (0.1, 128)
    assert (pretext.epochs, pretext.batch_size) == (500, 512)
    assert (pretext.optimizer, pretext.lr, pretext.weight_decay) == ("sgd", 0.4, 1e-4)
    for training in (clusterer.clustering, clusterer.self_labeling):
        assert (training.optimizer, training.lr) == ("adam", 1e-4)
        assert (training.lr_schedule, training.weight_decay) == ("constant", 1e-4)
        assert not training.freeze_encoder


@pytest.mark.parametrize("name", LARGE)
def test_large_images(name):
    clusterer = paper_recipe(name)
    assert (clusterer.K, clusterer.n_heads) == (50, 10)
    assert clusterer.class_weight is None
    assert clusterer.pretext.encoder == "resnet50"
    clustering, labelling = clusterer.clustering, clusterer.self_labeling
    assert clustering.freeze_encoder
    assert not labelling.freeze_encoder
    assert (clustering.optimizer, clustering.lr, clustering.views) == (
        "sgd",
        5,
        "photo",
    )
    assert labelling.lr == pytest.approx(0.03 * (1 - 0.999))
    assert clustering.weight_decay == labelling.weight_decay == 0


def test_the_hole_is_a_third_of_large_images():
    for name, side in (("stl10", 96), ("imagenet50", 224)):
        views = paper_recipe(name).self_labeling.views((3, side, side))
        assert int(views[-1].size * side) == {96: 32, 224: 74}[side]


def test_every_call_makes_a_new_clusterer():
    first, second = paper_recipe("cifar10"), paper_recipe("cifar10")
    assert first is not second
    assert first.pretext is not second.pretext
    assert first.clustering is not second.clustering
    assert repr(clone(first)) == repr(first)


def test_effort_and_parameters():
    clusterer = paper_recipe(
        "stl10", effort=0.1, n_clusters=3, pretext__lr=0.1, clustering__views="photo"
    )
    assert clusterer.pretext.epochs == 50
    assert clusterer.clustering.epochs == clusterer.self_labeling.epochs == 10
    assert (clusterer.n_clusters, clusterer.pretext.lr) == (3, 0.1)
    assert clusterer.clustering.views == "photo"
    assert paper_recipe("stl10", effort=1e-9).pretext.epochs == 1
    assert paper_recipe("stl10", self_labeling=None).self_labeling is None


def test_recipes_that_cannot_be():
    with pytest.raises(ValueError, match=r"Unknown recipe 'cifar'; choose .*'cifar10'"):
        paper_recipe("cifar")
    with pytest.raises(ValueError, match="effort must be positive"):
        paper_recipe("cifar10", effort=0)
    with pytest.raises(ValueError, match="weights= go with the ImageNet recipes"):
        paper_recipe("cifar10", weights={})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Make a folder of three classes of eight noisy images, and a file of text."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for color in ("red", "green", "blue"):
        (folder / color).mkdir()
        for number in range(8):
            pixels = np.asarray(Image.new("RGB", (40, 32), color)) // 2
            noise = random.integers(0, 99, pixels.shape, dtype=np.uint8)
            Image.fromarray(pixels + noise).save(folder / color / f"{number}.png")
    (folder / "notes.txt").write_text("not an image")
    return folder


@pytest.mark.parametrize("name", ["cifar10", "stl10", "imagenet50"])
def test_a_recipe_runs_on_a_folder(folder, name):
    clusterer = paper_recipe(
        name, n_clusters=6, effort=1e-9, image_shape=(32, 32, 3), random_state=0
    ).fit(folder)
    assert len(clusterer.paths_) == len(clusterer.labels_) == 24
    classes = [path.split("/")[-2] for path in clusterer.paths_]
    probabilities = clusterer.predict_proba(folder)
    assert 0 < top_k_hungarian_accuracy_score(classes, probabilities, k=5) <= 1
    judged = ("selection", "calibration")
    stages = [stage for stage in clusterer.history_ if stage not in judged]
    assert stages == ["pretext", "clustering", "self_labeling"]
    assert clusterer.net_.module_.heads.n_heads == 1


def test_weights_in_place_of_the_pretext(folder, tmp_path):
    made = Pretrained("resnet50", random_state=3, image_shape=(32, 32, 3)).fit(folder)
    weights = made.net_.module_.encoder.network.state_dict()
    state = {f"module.encoder_q.{name}": value for name, value in weights.items()}
    torch.save({"state_dict": state}, tmp_path / "moco.pt")
    clusterer = paper_recipe(
        "imagenet50",
        n_clusters=3,
        effort=1e-9,
        weights=tmp_path / "moco.pt",
        prefix="module.encoder_q.",
        image_shape=(32, 32, 3),
        self_labeling=None,
        random_state=0,
    ).fit(folder)
    assert isinstance(clusterer.pretext_, Pretrained)
    encoder = clusterer.net_.module_.encoder
    assert torch.equal(encoder.network.conv1.weight.cpu(), weights["conv1.weight"])
    assert float(encoder.mean.flatten()[0]) == pytest.approx(0.485)
