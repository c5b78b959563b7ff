# SPDX-License-Identifier: BSD-3-Clause
"""Pretrained encoders given what people get wrong, and caches that are damaged."""

import os
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from torch import nn

from sklearn_scan import SCANClustering, TrainingConfig, config_context, list_images
from sklearn_scan._inputs import learn_samples
from sklearn_scan._params import plan_stages
from sklearn_scan.pretext import Pretrained, _embedding

ROWS = np.random.default_rng(0).random((12, 5))


def tiny(shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 4))


def make_tiny(**options):
    given = {"image_shape": (8, 8, 3), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    return Pretrained(tiny, random_state=0, **(given | options))


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "pictures"
    place.mkdir()
    rng = np.random.default_rng(0)
    for i in range(12):
        path = place / f"{i:02}.png"
        Image.fromarray(rng.integers(0, 256, (10, 12, 3), dtype=np.uint8)).save(path)
        os.utime(path, (1e9, 1e9))
    return place


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    timm = pytest.importorskip("timm")
    path = tmp_path_factory.mktemp("weights") / "test_vit.pth"
    torch.save(timm.create_model("test_vit").state_dict(), path)
    return Pretrained("timm/test_vit", path, precision="float32")


# --- inputs ------------------------------------------------------------------------


def test_one_picture_in_colour_is_not_many_in_gray(named, folder):
    picture = np.asarray(Image.open(list_images(folder)[0]))
    fitted = named.fit(folder)
    for call in (fitted.transform, fitted.fit):
        with pytest.raises(ValueError, match=r"one picture in colour. Pass X\[None\]"):
            call(picture)


def test_floats_after_files_are_read_by_a_range_that_is_known(named, folder):
    fitted = named.fit(folder)
    pixels = np.stack([np.asarray(Image.open(path)) for path in list_images(folder)])
    dark = pixels // 20
    expected = fitted.transform(dark)
    np.testing.assert_allclose(fitted.transform(dark.astype(float)), expected)
    np.testing.assert_allclose(fitted.transform(dark / 255), expected)
    with pytest.raises(ValueError, match=r"Pass images in \[0, 1\] or \[0, 255\]"):
        fitted.transform(dark * 30.0)


def test_a_size_that_is_not_the_encoders_is_refused(named, folder):
    clusterer = SCANClustering(2, pretext=named, image_shape=(32, 32, 3))
    with pytest.raises(ValueError, match=r"reads images of shape \(160, 160, 3\)"):
        clusterer.fit(folder)


@pytest.mark.parametrize(
    ("statistics", "says"),
    [
        ({"mean": (123.0, 116.0, 103.0)}, r"mean=.* from 0 to 1.*divide"),
        ({"std": (0.0, 0.5, 0.5)}, r"std=.* from 0 to 1"),
    ],
)
def test_statistics_of_another_range_are_refused(statistics, says, folder):
    with pytest.raises(ValueError, match=says):
        make_tiny(**statistics).fit(folder)


def test_features_that_are_not_finite_are_refused(folder):
    def broken(shape):
        network = tiny(shape)
        nn.init.constant_(network[1].weight, np.nan)
        return network

    pretext = make_tiny().set_params(encoder=broken)
    with pytest.raises(ValueError, match=r"features of (.|\n)* are not finite"):
        SCANClustering(2, pretext=pretext).fit(folder)


def test_a_frozen_encoder_must_be_fitted(folder):
    pretext = make_tiny()
    with pytest.raises(NotFittedError):
        SCANClustering(2, pretext=FrozenEstimator(pretext)).fit(folder)
    assert not hasattr(pretext, "net_")


def test_a_kept_encoder_leaves_nothing_to_train_but_heads(folder):
    clusterer = SCANClustering(2, pretext=make_tiny(), head_search=None)
    with pytest.raises(ValueError, match=r"stays as it is\. Leave head_search"):
        clusterer.fit(folder)


def test_encoders_are_trained_on_at_a_rate_of_their_own():
    config = TrainingConfig()
    own = dict.fromkeys(("head_search", "clustering", "self_labeling"), config)
    plans = plan_stages(SCANClustering(2, pretext=make_tiny(), **own))
    rates = {name: plan.schedule.lr for name, plan in plans.items()}
    assert rates == {"head_search": 1e-2, "clustering": 1e-5, "self_labeling": 1e-5}
    given = TrainingConfig(lr=0.5)
    plans = plan_stages(SCANClustering(2, pretext=make_tiny(), clustering=given))
    assert plans["clustering"].schedule.lr == 0.5
    assert plans["self_labeling"] is None


# --- weights -----------------------------------------------------------------------


def write_text(path):
    path.write_text("no weights")


def write_list(path):
    torch.save([1, 2], path)


@pytest.mark.parametrize(
    ("name", "write", "error", "says"),
    [
        ("a.pth", write_text, ValueError, "a.pth' is no file of weights"),
        ("a.safetensors", write_text, ValueError, "safetensors' is no file of weights"),
        ("a.pth", write_list, ValueError, "holds a list, and a state dict is needed"),
        ("a.pth", lambda path: None, FileNotFoundError, "There is no file weights=.*a"),
    ],
)
@pytest.mark.parametrize("encoder", ["timm/test_vit", tiny])
def test_files_that_hold_no_weights(
    encoder, name, write, error, says, folder, tmp_path
):
    pytest.importorskip("timm")
    write(tmp_path / name)
    with pytest.raises(error, match=says):
        Pretrained(encoder, tmp_path / name).fit(folder)


def test_what_training_programs_save_besides_weights_is_passed_over(folder, tmp_path):
    network = tiny((3, 8, 8))
    saved = {"state_dict": {**network.state_dict(), "name": "mine", "epoch": 3}}
    torch.save(saved, tmp_path / "w.pth")
    pretext = make_tiny(weights=tmp_path / "w.pth").fit(folder)
    loaded = pretext.net_.module_.encoder.network.state_dict()
    assert torch.equal(loaded["1.weight"], network.state_dict()["1.weight"])


def test_sizes_that_an_encoder_cannot_read(folder, monkeypatch):
    timm = pytest.importorskip("timm")

    def create_model(*args, **options):
        raise AssertionError("Input height (100) should be divisible by patch size")

    monkeypatch.setattr(timm, "create_model", create_model)
    says = r"cannot make 'test_vit' for images of 100 pixels: Input height \(100\)"
    with pytest.raises(ValueError, match=says):
        Pretrained("timm/test_vit", {}, image_size=100).fit(folder)


# --- caches ------------------------------------------------------------------------


def cached(tmp_path, **options):
    return make_tiny(memory=str(tmp_path / "cache"), **options)


def test_a_damaged_cache_is_named_and_passed_over(folder, tmp_path):
    expected = cached(tmp_path).fit_transform(folder)
    for path in (tmp_path / "cache").rglob("*.sqlite"):
        path.write_bytes(b"damaged " * 1000)
    with pytest.warns(
        UserWarning, match=r"cannot (read|write) '.*sqlite' .*Delete the"
    ):
        found = cached(tmp_path).fit_transform(folder)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("damage", ["shorten", "delete"])
def test_a_damaged_file_of_pixels_is_written_anew(damage, folder, tmp_path):
    read = partial(learn_samples, folder, (8, 8, 3), folder=tmp_path / "cache")
    with config_context(in_memory_bytes=0):
        expected = np.asarray(read()[0])
        before = read()[0]
        (pixels,) = (tmp_path / "cache").rglob("*.pixels")
        if damage == "delete":
            pixels.unlink()
        else:
            os.truncate(pixels, 8 * 8 * 3 * 4 + 1)
            with pytest.raises(OSError, match="is damaged"):
                np.asarray(before)
        images = read()[0]
    assert images.n_decoded == 12
    np.testing.assert_array_equal(np.asarray(images), expected)


def test_the_room_on_disk_is_that_of_new_images(folder, tmp_path):
    read = partial(learn_samples, folder, (8, 8, 3), folder=tmp_path / "cache")
    n_bytes = 12 * 8 * 8 * 3
    with config_context(in_memory_bytes=0, decoded_bytes=n_bytes):
        assert read()[0].n_decoded == 12
        assert read()[0].n_decoded == 0
        Image.new("RGB", (9, 9), "red").save(folder / "new.png")
        with pytest.warns(UserWarning, match="no room"):
            read()


def test_missing_files_are_named_whether_or_not_there_is_a_cache(folder, tmp_path):
    paths = [*list_images(folder), str(tmp_path / "nope.png"), str(tmp_path)]
    for pretext in (make_tiny(), cached(tmp_path)):
        with pytest.raises(ValueError, match=r"2 of 14 image files(.|\n)*nope.png: no"):
            pretext.fit_transform(paths)


def test_what_was_embedded_before_an_interrupt_is_kept(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(_embedding, "_BATCH_BYTES", 4 * 4 * 8 * 8 * 3)
    paths = list_images(folder)
    with open(paths[-1], "r+b") as file:
        file.truncate(250)  # of which the header can be read
    with pytest.raises(ValueError, match=r"1 of .+ image files"):
        cached(tmp_path).fit_transform(paths)
    clusterer = SCANClustering(
        2,
        n_heads=2,
        head_search=TrainingConfig(epochs=2),
        pretext=cached(tmp_path),
        random_state=0,
    )
    clusterer.fit(paths[:-1])
    (record,) = clusterer.history_["pretext"]
    assert record["embedded"] < record["images"] == 11


def test_nobody_waits_for_features_that_are_there(folder, tmp_path, monkeypatch):
    pretext = cached(tmp_path).fit(folder)
    expected = pretext.transform(folder)

    def held(self):
        raise AssertionError("the lock was asked for")

    monkeypatch.setattr("sklearn_scan._engine.RowStore.held", held)
    np.testing.assert_array_equal(pretext.transform(folder), expected)
    with pytest.raises(AssertionError, match="asked for"):
        pretext.transform([Image.new("RGB", (8, 8), "blue")])
