# SPDX-License-Identifier: BSD-3-Clause
"""Encoders that were trained elsewhere: by name, by file, by function."""

import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import torch
from joblib import Memory
from PIL import Image
from safetensors.torch import save_file
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from torch import nn

from sklearn_scan import SCANClustering, TrainingConfig, _console, list_images
from sklearn_scan._disk import _digests
from sklearn_scan._inputs import LazyImages
from sklearn_scan._nets import wrap_network
from sklearn_scan._nets._encoders import Encoder
from sklearn_scan.pretext import Pretrained, _embedding
from sklearn_scan.pretext._named import find_named

# A few epochs on a few pictures do not find every cluster.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

N_FILES = 24
ORIENTATION, QUARTER_TURN = 274, 6
SMALL_OF_TORCHVISION = "torchvision/MobileNet_V3_Small_Weights.IMAGENET1K_V1"


class Tiny(nn.Sequential):
    """A network with batch normalisation, which training would change."""

    def __init__(self, shape):
        super().__init__(
            nn.Conv2d(shape[0], 8, 3, stride=2),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
        )


class Wide(nn.Sequential):
    """A network with 400 KB of weights."""

    def __init__(self, shape):
        super().__init__(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], 512))


def make_tiny(encoder=Tiny, *args, **options):
    given = {"mean": (0.5,) * 3, "std": (0.25,) * 3, "image_shape": (8, 8, 3)}
    return Pretrained(encoder, *args, random_state=0, **(given | options))


def cluster(pretext, **options):
    return SCANClustering(
        n_clusters=2,
        n_heads=2,
        head_search=TrainingConfig(epochs=2),
        pretext=pretext,
        random_state=0,
        **options,
    )


def write(path, pixels, *, seconds=1e9):
    """Write a picture, as if a while ago."""
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    os.utime(path, (seconds, seconds))


def make_pixels(seed, shape=(12, 10, 3)):
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 120, shape) + 130 * (seed % 2)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Return a folder of small pictures, dark and light in turn."""
    (tmp_path / "pictures").mkdir()
    for i in range(N_FILES):
        write(tmp_path / "pictures" / f"{i:02}.png", make_pixels(i))
    return tmp_path / "pictures"


@pytest.fixture
def paths(folder):
    return list_images(folder)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Return the paths of a wide, a tall and a small picture, and of a large one."""
    folder, found = tmp_path_factory.mktemp("pictures"), []
    rng = np.random.default_rng(0)
    for i, size in enumerate([(90, 300), (200, 70), (20, 24), (400, 500)]):
        found.append(str(folder / f"{i}.png"))
        write(found[-1], rng.integers(0, 256, (*size, 3)))
    return found


@pytest.fixture(scope="module")
def timm():
    return pytest.importorskip("timm")


@pytest.fixture(scope="module")
def named(timm, tmp_path_factory):
    """Return the parameters of a small encoder of timm whose weights are in a file."""
    path = tmp_path_factory.mktemp("weights") / "test_vit.pth"
    torch.save(make_model(timm, "test_vit").state_dict(), path)
    return {"encoder": "timm/test_vit", "weights": path, "precision": "float32"}


@pytest.fixture
def shown():
    """Return a list of the sizes of batches that encoders are shown."""
    sizes = []

    def count(module, inputs):
        # Heads on features have an encoder that reads rows.
        if isinstance(module, Encoder) and inputs[0].ndim == 4:
            sizes.append(len(inputs[0]))

    hook = nn.modules.module.register_module_forward_pre_hook(count)
    yield sizes
    hook.remove()


@pytest.fixture
def opened(monkeypatch):
    """Return lists of the files that are decoded, and of those that are hashed."""
    decoded, hashed = [], []
    open_picture, digest = Image.open, _digests.digest_file

    def count_decoded(path, *args, **kwargs):
        decoded.append(str(path))
        return open_picture(path, *args, **kwargs)

    def count_hashed(path):
        hashed.append(path)
        return digest(path)

    monkeypatch.setattr(Image, "open", count_decoded)
    monkeypatch.setattr(_digests, "digest_file", count_hashed)
    return decoded, hashed


def fail(*args, **kwargs):
    raise AssertionError("was called")


def raising(error):
    def fail(*args, **kwargs):
        raise error

    return fail


def make_model(timm, name, **options):
    """Return a network of timm whose every weight is at random, also biases."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return randomised(timm.create_model(name, pretrained=False, **options))


def randomised(network):
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return network.eval()


def save_torch(state, folder):
    torch.save(state, folder / "weights.pth")
    return folder / "weights.pth"


def save_safetensors(state, folder):
    state = {name: value.contiguous() for name, value in state.items()}
    save_file(state, folder / "model.safetensors")
    return str(folder / "model.safetensors")


def read_with(transform, paths):
    """Return a batch as a library makes it of files."""
    return torch.stack([transform(Image.open(p).convert("RGB")) for p in paths])


# --- what networks are given -------------------------------------------------------


def find_given(name, paths, image_size=None):
    """Return what the network of a named encoder is given of files."""
    preparation = find_named(name, image_size).find_preparation()
    images = LazyImages(paths, preparation)
    format = preparation.find_format(images)
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    encoder = wrap_network(network, format)
    batch = format.decode(torch.from_numpy(np.asarray(images)))
    return (batch - encoder.mean) * encoder.scale


@pytest.mark.parametrize(
    "name",
    [
        "test_vit",
        "test_resnet",
        "resnet50.a1_in1k",
        "vit_small_patch14_dinov2.lvd142m",
        "vit_base_patch16_siglip_384.webli",
        "vit_base_patch32_clip_448.laion2b_ft_in12k_in1k",
        "dm_nfnet_f0.dm_in1k",
        "tf_efficientnet_b3.ns_jft_in1k",
        "mixer_b16_224.goog_in21k",
    ],
)
def test_images_are_prepared_as_timm_does(timm, name, pictures):
    config = timm.get_pretrained_cfg(name).to_dict()
    config = timm.data.resolve_data_config(pretrained_cfg=config)
    transform = timm.data.create_transform(**config, is_training=False)
    found = find_given(f"timm/{name}", pictures)
    torch.testing.assert_close(found, read_with(transform, pictures), atol=1e-5, rtol=0)


def test_the_models_of_timm_above_differ_in_all_that_counts(timm):
    names = ["dm_nfnet_f0.dm_in1k", "tf_efficientnet_b3.ns_jft_in1k", "test_resnet"]
    configs = [timm.get_pretrained_cfg(name) for name in names]
    for key in ("crop_mode", "interpolation", "mean", "crop_pct", "input_size"):
        assert len({getattr(config, key) for config in configs}) > 1, key


@pytest.mark.parametrize(
    "name",
    [
        "ResNet50_Weights.IMAGENET1K_V2",
        "MobileNet_V3_Small_Weights.IMAGENET1K_V1",
        "EfficientNet_B0_Weights.IMAGENET1K_V1",
        "Inception_V3_Weights.IMAGENET1K_V1",
        "ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1",
    ],
)
def test_images_are_prepared_as_torchvision_does(name, pictures):
    from torchvision.models import get_weight

    expected = read_with(get_weight(name).transforms(), pictures)
    found = find_given(f"torchvision/{name}", pictures)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_smaller_crop_is_of_a_smaller_picture(pictures):
    from torchvision.models import get_weight

    weights = get_weight(SMALL_OF_TORCHVISION.partition("/")[2])
    expected = read_with(weights.transforms(crop_size=112, resize_size=128), pictures)
    found = find_given(SMALL_OF_TORCHVISION, pictures, 112)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "side"), [("dinov2", 224), ("dinov2-base", 224), ("clip", 224)]
)
def test_short_names_have_the_size_that_they_were_published_with(timm, name, side):
    assert find_named(name).find_preparation().image_shape == (side, side, 3)
    assert find_named(name, 112).find_preparation().image_shape == (112, 112, 3)


@pytest.mark.parametrize("save", [save_torch, save_safetensors])
@pytest.mark.parametrize("name", ["test_vit", "test_vit3", "test_resnet"])
def test_features_are_those_of_timm(timm, name, save, pictures, tmp_path):
    model = make_model(timm, name)
    config = timm.data.resolve_model_data_config(model)
    batch = read_with(timm.data.create_transform(**config, is_training=False), pictures)
    with torch.no_grad():
        expected = model.forward_head(model.forward_features(batch), pre_logits=True)
    weights = save(model.state_dict(), tmp_path)
    encoder = Pretrained(f"timm/{name}", weights, precision="float32")
    found = encoder.fit_transform(pictures)
    assert found.dtype == np.float32
    assert encoder.image_shape_ == (160, 160, 3)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["test_vit3", "test_resnet"])
def test_an_image_size_of_ones_own(timm, name, pictures, tmp_path):
    weights = save_torch(make_model(timm, name).state_dict(), tmp_path)
    own = {"img_size": 96} if name == "test_vit3" else {}
    overlay = {"file": str(weights)}
    model = timm.create_model(
        name, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay, **own
    ).eval()
    config = timm.data.resolve_model_data_config(model, {"input_size": (3, 96, 96)})
    batch = read_with(timm.data.create_transform(**config, is_training=False), pictures)
    with torch.no_grad():
        expected = model(batch)
    for given in (weights, torch.load(weights)):
        encoder = Pretrained(f"timm/{name}", given, image_size=96, precision="float32")
        found = encoder.fit_transform(pictures)
        assert encoder.image_shape_ == (96, 96, 3)
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("save", [save_torch, save_safetensors])
def test_features_are_those_of_torchvision(save, pictures, tmp_path):
    from torchvision.models import get_model, get_weight

    with torch.random.fork_rng():
        model = randomised(get_model("mobilenet_v3_small", weights=None))
    weights = save(model.state_dict(), tmp_path)
    model.classifier[-1] = nn.Identity()
    name = SMALL_OF_TORCHVISION.partition("/")[2]
    with torch.no_grad():
        expected = model(read_with(get_weight(name).transforms(), pictures))
    encoder = Pretrained(SMALL_OF_TORCHVISION, weights, precision="float32")
    np.testing.assert_allclose(encoder.fit_transform(pictures), expected, atol=1e-4)
    smaller = Pretrained(SMALL_OF_TORCHVISION, weights, image_size=112).fit(pictures)
    assert smaller.image_shape_ == (112, 112, 3)


def test_weights_of_a_named_encoder_may_have_a_prefix_and_a_head(timm, pictures, named):
    state = torch.load(named["weights"])
    assert "head.weight" in state
    given = {f"module.{name}": value for name, value in state.items()}
    given |= {name: torch.zeros_like(value) for name, value in state.items()}
    found = Pretrained("timm/test_vit", given, prefix="module.", precision="float32")
    expected = Pretrained(**named).fit_transform(pictures)
    np.testing.assert_allclose(found.fit_transform(pictures), expected, atol=1e-6)


# --- what cannot be ----------------------------------------------------------------


def fit_error(kind, *args, X=None, **options):
    """Return what the error says that fitting raises."""
    X = np.zeros((3, 8, 8, 3), np.uint8) if X is None else X
    with pytest.raises(kind) as caught:
        Pretrained(*args, **options).fit(X)
    return str(caught.value)


def not_fetched():
    from huggingface_hub.errors import LocalEntryNotFoundError

    return LocalEntryNotFoundError("no network")


def test_weights_of_timm_that_are_not_here_are_named(timm, monkeypatch):
    monkeypatch.setattr(timm, "create_model", raising(not_fetched()))
    said = fit_error(FileNotFoundError, "dinov2")
    for part in (
        "The weights of 'vit_small_patch14_dinov2.lvd142m' are not on this machine, "
        "and could not be downloaded. Download model.safetensors from "
        "https://huggingface.co/timm/vit_small_patch14_dinov2.lvd142m ",
        'weights="path/to/model.safetensors"',
        "HF_HOME",
    ):
        assert part in said


def test_weights_of_torchvision_that_are_not_here_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", raising(URLError("none")))
    said = fit_error(FileNotFoundError, SMALL_OF_TORCHVISION)
    file = "mobilenet_v3_small-047dcff4.pth"
    for part in (
        "'MobileNet_V3_Small_Weights.IMAGENET1K_V1' are not on this machine",
        f"Download https://download.pytorch.org/models/{file}",
        repr(str(tmp_path / "hub" / "checkpoints")),
        f'weights="path/to/{file}"',
    ):
        assert part in said


def test_a_model_of_the_hub_without_its_configuration(timm, monkeypatch, named):
    load = "load_model_config_from_hf"
    monkeypatch.setattr(timm.models, load, raising(not_fetched()))
    for weights in (None, named["weights"]):
        said = fit_error(FileNotFoundError, "hf-hub:me/mine", weights)
        assert "'hf-hub:me/mine'" in said
        assert "https://huggingface.co/me/mine" in said
        assert "config.json" in said
        assert "HF_HOME" in said
        assert "weights=" not in said, "a file of weights would not help"


@pytest.mark.parametrize(
    "name", ["vit_smal_patch14_dinov2.lvd142m", "vit_small_patch14_dinov2.lvd14m"]
)
def test_a_wrong_name_of_timm_is_told_similar_ones(timm, name):
    said = fit_error(ValueError, f"timm/{name}")
    assert f"timm {timm.__version__} has no model {name!r}." in said
    assert "Similar names: " in said
    assert "vit_small_patch14_dinov2.lvd142m" in said
    assert "timm.list_pretrained() lists all" in said


def test_a_wrong_name_of_torchvision_is_told_similar_ones():
    said = fit_error(ValueError, "torchvision/ResNet18_Weights.V3")
    assert "torchvision has no weights 'ResNet18_Weights.V3'." in said
    similar = "ResNet18_Weights.IMAGENET1K_V1, ResNet18_Weights.DEFAULT."
    assert said.endswith(f"Similar names: {similar}")
    said = fit_error(ValueError, "torchvision/ResNet_18_Weights.DEFAULT")
    assert "Similar names: ResNet18_Weights.DEFAULT, " in said


def test_networks_of_torchvision_without_features_are_refused():
    said = fit_error(ValueError, "torchvision/SqueezeNet1_1_Weights.IMAGENET1K_V1", {})
    assert "SqueezeNet has no linear layer to be taken off" in said
    name = "FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1"
    said = fit_error(ValueError, f"torchvision/{name}")
    assert f"{name!r} are not of a classifier of images" in said


def test_an_unknown_encoder_is_told_what_there_is():
    said = fit_error(ValueError, "resnet19")
    assert said.startswith("Unknown encoder='resnet19'. Choose 'timm/NAME'")
    for name in ("torchvision/WEIGHTS", "hf-hub:", "dinov2-base", "clip", "resnet18"):
        assert f"'{name}" in said


def test_without_timm_it_is_said_how_to_install_it(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("timm.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "timm", None)
    for encoder in ("dinov2", "timm/resnet18", "hf-hub:me/mine"):
        said = fit_error(ImportError, encoder)
        assert said.startswith("Encoders of timm need timm: pip install timm")
        assert "sklearn_scan[timm]" in said


@pytest.mark.parametrize("name", ["mean", "std"])
def test_named_encoders_have_statistics_of_their_own(name):
    said = fit_error(ValueError, "dinov2", **{name: (0.5, 0.5, 0.5)})
    assert said == (
        f"{name}=(0.5, 0.5, 0.5) was given, and the encoder 'dinov2' has its own. "
        f"Leave {name} out."
    )


@pytest.mark.parametrize("encoder", [Tiny, "resnet18", "auto"])
def test_image_size_is_for_named_encoders(encoder):
    said = fit_error(ValueError, encoder, image_size=96)
    assert said.startswith("image_size=96 is for encoders of other libraries")
    assert "Pass image_shape=(h, w, 3) instead" in said


def test_a_named_encoder_reads_no_rows(timm):
    said = fit_error(ValueError, "timm/test_vit", X=np.zeros((3, 192)))
    assert "X holds rows of 192 features, and the encoder reads images" in said
    assert "Pass image_shape=(h, w) or (h, w, c)" in said


@pytest.mark.parametrize("save", [save_torch, save_safetensors, lambda state, _: state])
@pytest.mark.parametrize("encoder", ["timm/test_vit", SMALL_OF_TORCHVISION])
def test_weights_of_another_network_are_refused(timm, encoder, save, tmp_path):
    weights = save(make_model(timm, "test_resnet").state_dict(), tmp_path)
    said = fit_error(ValueError, encoder, weights)
    assert "The weights have no entry for " in said
    assert f"encoder={encoder!r}" in said
    assert "bn1.running_mean" in said, "what they have"


def test_weights_of_another_shape_are_refused(timm, named):
    state = dict(torch.load(named["weights"]))
    state["blocks.1.attn.proj.weight"] = torch.zeros(3, 3)
    said = fit_error(ValueError, "timm/test_vit", state)
    assert "1 weights are of another shape than encoder='timm/test_vit' has" in said
    assert "'blocks.1.attn.proj.weight': (3, 3) was given, and (64, 64)" in said


@pytest.mark.parametrize("encoder", ["timm/test_vit", SMALL_OF_TORCHVISION, Tiny])
@pytest.mark.parametrize("file", ["no_such.pth", "no_such.safetensors"])
def test_a_file_of_weights_that_is_not_there_is_named(timm, encoder, file, tmp_path):
    assert file in fit_error(FileNotFoundError, encoder, tmp_path / file)


# --- nothing before fit ------------------------------------------------------------


def test_nothing_is_loaded_before_fit(timm, monkeypatch):
    import torchvision

    monkeypatch.setattr(timm, "create_model", fail)
    monkeypatch.setattr(timm.models, "load_model_config_from_hf", fail)
    monkeypatch.setattr(torchvision.models, "get_model", fail)
    monkeypatch.setattr(torch, "load", fail)
    for encoder in ("dinov2", "hf-hub:me/mine", SMALL_OF_TORCHVISION, fail):
        estimator = Pretrained(encoder, "nowhere.pth", memory="nowhere")
        copies = [estimator, clone(estimator), clone(SCANClustering(pretext=estimator))]
        for each in copies:
            assert "nowhere.pth" in repr(each)
            assert each.get_params()
            assert pickle.loads(pickle.dumps(each)).get_params()
        assert not os.path.exists("nowhere")
        estimator.set_params(image_size=96, store_weights=False)
        assert estimator.get_params()["image_size"] == 96


def test_importing_loads_no_library_of_networks():
    code = (
        "import sys, sklearn_scan.pretext as p; p.Pretrained('dinov2')\n"
        "print([m for m in ('timm', 'torchvision', 'huggingface_hub') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# --- how often images are looked at ------------------------------------------------


def test_each_image_is_shown_to_the_network_once(folder, shown):
    clusterer = cluster(make_tiny()).fit(folder)
    assert sum(shown) == N_FILES
    (record,) = clusterer.history_["pretext"]
    assert (record["images"], record["embedded"]) == (N_FILES, N_FILES)
    assert clusterer.embedding_.shape == (N_FILES, 32)


def test_a_second_fit_reads_no_file(folder, shown, opened, tmp_path):
    clusterer = cluster(make_tiny(), memory=tmp_path / "cache", precision="bfloat16")
    first = clusterer.fit(folder)
    seen = opened[0] + opened[1]
    assert set(seen) == set(list_images(folder))
    for found in (shown, *opened):
        found.clear()
    second = clone(clusterer).fit(folder)
    np.testing.assert_array_equal(second.predict(folder), first.labels_)
    assert (shown, *opened) == ([], [], [])
    np.testing.assert_array_equal(second.embedding_, first.embedding_)
    assert second.history_["pretext"][0]["embedded"] == 0


def test_predict_keeps_what_it_embeds(folder, paths, shown, tmp_path):
    clusterer = cluster(make_tiny(), memory=tmp_path / "cache").fit(paths[:12])
    shown.clear()
    once = clusterer.transform(folder)
    assert sum(shown) == 12, "those that fit has not seen"
    np.testing.assert_array_equal(clusterer.transform(folder), once)
    assert sum(shown) == 12


def test_a_file_that_was_touched_is_hashed_and_not_embedded(
    folder, paths, shown, opened, tmp_path
):
    encoder = make_tiny(memory=tmp_path / "cache")
    expected = encoder.fit_transform(folder)
    os.utime(paths[3], (1.1e9, 1.1e9))
    for found in (shown, *opened):
        found.clear()
    np.testing.assert_array_equal(encoder.transform(folder), expected)
    assert shown == []
    assert opened[1] == [paths[3]]


def test_a_file_that_has_changed_is_embedded_anew(folder, paths, shown, tmp_path):
    encoder = make_tiny(memory=tmp_path / "cache", precision="float32")
    before = encoder.fit_transform(folder)
    write(paths[3], make_pixels(99), seconds=1.1e9)
    shown.clear()
    after = encoder.transform(folder)
    assert shown == [1]
    np.testing.assert_array_equal(np.flatnonzero((before != after).any(axis=1)), [3])
    np.testing.assert_allclose(
        after, make_tiny(precision="float32").fit_transform(paths), atol=1e-5
    )


def test_a_search_embeds_each_picture_once(paths, shown, tmp_path):
    pipeline = make_pipeline(
        make_tiny(memory=tmp_path / "cache"), KMeans(n_init=1, random_state=0)
    )
    search = GridSearchCV(
        pipeline, {"kmeans__n_clusters": [2, 3]}, cv=2, error_score="raise"
    )
    search.fit(paths)
    assert sum(shown) == N_FILES


def test_duplicates_are_embedded_once(paths, shown, tmp_path):
    copy = tmp_path / "copy.png"
    shutil.copy(paths[0], copy)
    some = [*paths[:4], *paths[:4], str(copy)]
    found = make_tiny(memory=tmp_path / "cache").fit_transform(some)
    assert sum(shown) == 4
    np.testing.assert_array_equal(found[4:8], found[:4])
    np.testing.assert_array_equal(found[8], found[0])


def test_arrays_and_pictures_are_known_by_their_content(named, shown, tmp_path):
    encoder = Pretrained(**named, memory=tmp_path / "cache")
    arrays = np.stack([make_pixels(i) for i in range(4)])
    expected = encoder.fit_transform(arrays)
    assert sum(shown) == 4
    pictures = [Image.fromarray(pixels) for pixels in arrays]
    np.testing.assert_array_equal(encoder.transform(pictures[::-1]), expected[::-1])
    assert sum(shown) == 4


def test_other_weights_sizes_and_precisions_are_other_features(paths, tmp_path):
    memory = {"memory": tmp_path / "cache"}
    other = Tiny((3, 8, 8)).state_dict()
    for options in (
        {},
        {"weights": other},
        {"image_shape": (12, 10, 3)},
        {"mean": (0.4,) * 3},
        {"precision": "bfloat16"},
        {"precision": "float32"},
    ):
        found = make_tiny(**options, **memory).fit_transform(paths)
        expected = make_tiny(**options).fit_transform(paths)
        np.testing.assert_array_equal(found, expected)


def test_features_belong_to_the_range_that_images_are_read_in(tmp_path):
    rng = np.random.default_rng(0)
    dark = rng.random((6, 8, 8))
    bright = np.concatenate([dark, 255 * rng.random((6, 8, 8))])
    options = {"mean": (0.5,), "std": (0.25,), "image_shape": None}
    encoder = make_tiny(**options, memory=tmp_path / "cache")
    encoder.fit_transform(dark)
    expected = make_tiny(**options).fit_transform(bright)
    np.testing.assert_array_equal(encoder.fit_transform(bright), expected)


@pytest.mark.parametrize("kind", [str, Path, Memory])
def test_memory_may_be_a_path_or_a_memory(paths, shown, tmp_path, kind):
    memory = tmp_path / "cache"
    memory = Memory(memory, verbose=0) if kind is Memory else kind(memory)
    for _ in range(2):
        make_tiny(memory=memory).fit_transform(paths)
    assert sum(shown) == N_FILES


def test_an_encoder_that_cannot_be_known_again_warns(paths, tmp_path):
    with open(paths[0], "rb") as file:
        encoder = make_tiny(lambda shape: file and Tiny(shape), memory=tmp_path / "c")
        with pytest.warns(UserWarning, match="memory= does not hold what Pretrained"):
            assert len(encoder.fit_transform(paths)) == N_FILES


def test_files_are_decoded_a_batch_at_a_time(tmp_path, monkeypatch):
    for i in range(200):
        write(tmp_path / f"{i:03}.png", make_pixels(i, (8, 8, 3)))
    monkeypatch.setattr(_embedding, "_BATCH_BYTES", 16 * 4 * 8 * 8 * 3)
    from sklearn_scan._inputs import _lazy

    draw, sizes = _lazy.draw_files, []

    def count(paths, *args):
        sizes.append(len(paths))
        return draw(paths, *args)

    monkeypatch.setattr(_lazy, "draw_files", count)
    cluster(make_tiny()).fit(tmp_path)
    assert max(sizes) == 16
    assert sum(sizes) == 200
    # Statistics of the images are learned in parts as well.
    cluster(make_tiny(mean="data", std="data")).fit(tmp_path)
    assert max(sizes) <= 64


# --- the encoder stays as it is ----------------------------------------------------


def states_of(encoder):
    """Return the weights of an encoder by their names in its network."""
    return {
        name.rpartition("network.")[2]: value.clone()
        for name, value in encoder.state_dict().items()
        if "network." in name
    }


def are_equal(first, second):
    assert list(first) == list(second)
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def weights():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return randomised(Tiny((3, 8, 8))).state_dict()


def test_a_pretrained_encoder_stays_as_it_is(folder, weights):
    clusterer = cluster(make_tiny(weights=weights)).fit(folder)
    assert are_equal(states_of(clusterer.pretext_.net_.module_.encoder), weights)
    assert set(clusterer.history_) == {"pretext", "head_search", "calibration"}
    np.testing.assert_array_equal(
        clusterer.embedding_,
        clusterer.pretext_.embed_samples(
            clusterer._check_samples(folder), clusterer._resolve_runtime()
        ),
    )


@pytest.mark.parametrize("stage", ["clustering", "self_labeling"])
def test_it_is_trained_where_that_is_asked_for(folder, weights, stage):
    clusterer = cluster(
        make_tiny(weights=weights),
        threshold=0.1,
        keep="last",
        **{stage: TrainingConfig(epochs=1)},
    ).fit(folder)
    assert not are_equal(states_of(clusterer.net_.module_.encoder), weights)
    assert are_equal(states_of(clusterer.pretext_.net_.module_.encoder), weights)
    stages = {"pretext", "head_search", stage, "selection", "calibration"}
    assert set(clusterer.history_) == stages
    assert clusterer.predict(folder).shape == (N_FILES,)


@pytest.mark.parametrize(
    "freeze", [lambda p, _: p, lambda p, X: FrozenEstimator(p.fit(X))]
)
def test_one_that_is_trained_embeds_as_the_clusterer_says(folder, tmp_path, freeze):
    clusterer = cluster(
        freeze(make_tiny(), folder),
        clustering=TrainingConfig(epochs=1),
        precision="float32",
        memory=tmp_path / "cache",
    )
    expected = make_tiny(precision="float32").fit_transform(folder)
    for _ in range(2):
        clusterer.fit(folder)
        np.testing.assert_allclose(clusterer.embedding_, expected, atol=1e-6)
    for record in clusterer.history_.get("pretext", []):
        assert record["embedded"] == 0


@pytest.mark.parametrize("store_weights", [True, False])
def test_a_fitted_one_is_used_and_not_changed(
    folder, paths, weights, tmp_path, store_weights
):
    file = save_torch(weights, tmp_path)
    fitted = make_tiny(weights=file, store_weights=store_weights).fit(paths[:5])
    file.unlink()  # it is in memory
    before = dict(vars(fitted)), states_of(fitted.net_.module_.encoder)
    pretext = FrozenEstimator(fitted)
    clusterer = cluster(pretext, memory=tmp_path / "cache").fit(folder)
    assert clusterer.pretext is pretext
    assert pretext.estimator is fitted
    assert vars(fitted) == before[0]
    assert fitted.memory is None
    assert are_equal(states_of(fitted.net_.module_.encoder), before[1])
    assert "pretext" not in clusterer.history_
    np.testing.assert_array_equal(clusterer.embedding_, fitted.transform(folder))
    np.testing.assert_array_equal(clusterer.predict(folder), clusterer.labels_)


def test_a_copy_of_a_fitted_one_is_trained(folder, paths, weights):
    fitted = make_tiny(weights=weights).fit(paths)
    stage = TrainingConfig(epochs=1)
    clusterer = cluster(FrozenEstimator(fitted), clustering=stage, keep="last")
    clusterer.fit(folder)
    assert not are_equal(states_of(clusterer.net_.module_.encoder), weights)
    assert are_equal(states_of(fitted.net_.module_.encoder), weights)
    assert "pretext" not in clusterer.history_


# --- what samples may be -----------------------------------------------------------


def as_kinds(paths):
    """Return the same images as everything that they may be."""
    pictures = [Image.open(path) for path in paths]
    arrays = np.stack([np.asarray(picture) for picture in pictures])
    return {
        "folder": os.path.dirname(paths[0]),
        "paths": paths,
        "array of paths": np.array(paths),
        "pictures": pictures,
        "uint8": arrays,
        "channels first": arrays.transpose(0, 3, 1, 2),
        "floats": arrays / 255,
        "tensor": torch.from_numpy(arrays),
    }


KINDS = ["folder", "pictures", "uint8", "channels first", "floats"]


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_every_kind_have_the_same_features(named, paths, kind):
    kinds = as_kinds(paths)
    encoder = Pretrained(**named).fit(kinds[kind])
    expected = encoder.transform(kinds.pop(kind))
    if kind in ("uint8", "channels first"):
        with pytest.raises(ValueError, match=r"in the range 0 to 255\. Scale them"):
            encoder.transform(kinds.pop("floats"))
    for other, X in kinds.items():
        found = encoder.transform(X)
        np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=other)


def test_a_clusterer_predicts_images_of_every_kind(named, folder, paths):
    clusterer = cluster(Pretrained(**named), precision="float32").fit(folder)
    assert clusterer.paths_ == paths
    assert clusterer.image_shape_ == (160, 160, 3)
    for kind, X in as_kinds(paths).items():
        np.testing.assert_array_equal(clusterer.predict(X), clusterer.labels_, kind)
    other = np.stack([make_pixels(i, (30, 50, 3)) for i in range(3)])
    assert clusterer.predict(other).shape == (3,)
    assert clusterer.predict([Image.new("L", (5, 9)), Image.new("RGB", (90, 5))]).any


def test_gray_images_are_read_as_grays(named):
    gray = np.stack([make_pixels(i, (12, 10)) for i in range(3)])
    encoder = Pretrained(**named).fit(gray)
    expected = encoder.transform(gray[..., None].repeat(3, axis=-1))
    np.testing.assert_array_equal(encoder.transform(gray), expected)
    np.testing.assert_array_equal(encoder.transform(gray[..., None]), expected)


def test_rows_are_images_where_they_have_a_shape(named):
    images = np.stack([make_pixels(i) for i in range(3)])
    rows = images.reshape(3, -1)
    encoder = Pretrained(**named, image_shape=(12, 10, 3)).fit(rows)
    assert encoder.n_features_in_ == 360
    expected = encoder.transform(images)
    np.testing.assert_array_equal(encoder.transform(rows), expected)
    np.testing.assert_array_equal(Pretrained(**named).fit_transform(images), expected)
    with pytest.raises(ValueError, match="features"):
        encoder.transform(rows[:, :-1])


def test_pictures_lie_on_white_and_stand_upright(named, folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    upright = Image.fromarray(make_pixels(1))
    exif = Image.Exif()
    exif[ORIENTATION] = QUARTER_TURN
    upright.rotate(90, expand=True).save(other / "a.png", exif=exif)
    upright.save(other / "b.png")
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(other / "c.png")
    Image.new("RGB", (8, 8), "white").save(other / "d.png")
    encoder = Pretrained(**named).fit(folder)
    found = encoder.transform(other)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[2], found[3])
    opened = [Image.open(path) for path in list_images(other)]
    np.testing.assert_array_equal(encoder.transform(opened), found)


@pytest.mark.parametrize("memory", [False, True])
def test_files_that_cannot_be_read_are_named_first(
    folder, memory, shown, tmp_path, monkeypatch
):
    monkeypatch.setattr(_embedding, "_BATCH_BYTES", 4 * 4 * 8 * 8 * 3)
    memory = tmp_path / "cache" if memory else None
    encoder = make_tiny(memory=memory).fit(folder)
    (folder / "a.png").write_text("no picture")
    (folder / "b.png").write_text("no picture either")
    says = r"2 of 26 image files cannot be read:\n.*a\.png: no picture.*\n.*b\.png"
    for use in (encoder.transform, cluster(make_tiny(), memory=memory).fit):
        with pytest.raises(ValueError, match=says):
            use(folder)
    assert shown == []


def test_a_file_that_has_gone_is_named(paths, tmp_path):
    encoder = make_tiny(memory=tmp_path / "cache").fit(paths)
    encoder.transform(paths)
    os.remove(paths[0])
    with pytest.raises((ValueError, FileNotFoundError), match=r"00\.png"):
        encoder.transform(paths)


def test_one_picture_is_too_few_to_fit_and_enough_to_transform(named, paths):
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        Pretrained(**named).fit(paths[:1])
    assert Pretrained(**named).fit(paths).transform(paths[:1]).shape == (1, 64)


# --- pickles -----------------------------------------------------------------------


@pytest.fixture
def file(tmp_path):
    """Return a file of the weights of `Wide`."""
    with torch.random.fork_rng():
        torch.save(Wide((3, 8, 8)).state_dict(), tmp_path / "wide.pth")
    return tmp_path / "wide.pth"


def test_a_pickle_holds_the_weights(file, paths):
    encoder = make_tiny(Wide, file).fit(paths)
    expected = encoder.transform(paths)
    content = pickle.dumps(encoder)
    assert len(content) > 390_000
    file.unlink()
    np.testing.assert_array_equal(pickle.loads(content).transform(paths), expected)


def test_a_pickle_without_weights_loads_them_when_they_are_needed(
    file, paths, monkeypatch
):
    encoder = make_tiny(Wide, file, store_weights=False).fit(paths)
    expected = encoder.transform(paths)
    content = pickle.dumps(encoder)
    assert len(content) < 50_000
    with monkeypatch.context() as patched:
        patched.setattr(torch, "load", fail)
        loaded = pickle.loads(pickle.dumps(pickle.loads(content)))
        assert clone(loaded).get_params() == encoder.get_params()
    np.testing.assert_array_equal(loaded.transform(paths), expected)
    assert len(loaded.get_feature_names_out()) == 512
    np.testing.assert_array_equal(encoder.transform(paths), expected)


def test_a_pickle_does_not_take_other_weights(file, paths):
    content = pickle.dumps(make_tiny(Wide, file, store_weights=False).fit(paths))
    torch.save(randomised(Wide((3, 8, 8))).state_dict(), file)
    loaded = pickle.loads(content)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"store_weights=False\. Fit it anew"):
            loaded.transform(paths)


def test_a_pickle_says_which_file_it_needs(file, paths):
    content = pickle.dumps(make_tiny(Wide, file, store_weights=False).fit(paths))
    state = file.read_bytes()
    file.unlink()
    loaded = pickle.loads(content)
    with pytest.raises(FileNotFoundError, match=r"wide\.pth"):
        loaded.transform(paths)
    file.write_bytes(state)
    assert loaded.transform(paths).shape == (N_FILES, 512)


@pytest.mark.parametrize("store_weights", [True, False])
def test_a_clusterer_pickles(named, folder, store_weights):
    pretext = Pretrained(**named, store_weights=store_weights)
    clusterer = cluster(pretext).fit(folder)
    content = pickle.dumps(clusterer)
    assert (len(content) < 500_000) is not store_weights
    loaded = pickle.loads(content)
    np.testing.assert_array_equal(loaded.predict(folder), clusterer.predict(folder))
    np.testing.assert_array_equal(loaded.transform(folder), clusterer.transform(folder))


def test_features_have_names(named, paths):
    encoder = Pretrained(**named).fit(paths)
    names = encoder.get_feature_names_out()
    assert names[[0, -1]].tolist() == ["pretrained0", "pretrained63"]


# --- in pipelines ------------------------------------------------------------------


def test_pipelines_take_folders_and_paths(folder, paths):
    clusters = make_pipeline(
        make_tiny(), PCA(3, random_state=0), KMeans(2, n_init=3, random_state=0)
    )
    found = clusters.fit_predict(folder)
    np.testing.assert_array_equal(clusters.fit(paths).predict(folder), found)
    y = np.arange(N_FILES) % 2
    classifier = make_pipeline(make_tiny(), LogisticRegression())
    assert classifier.fit(folder, y).score(paths, y) == 1


def test_folds_are_taken_of_an_array_of_paths(paths, tmp_path):
    y = np.arange(N_FILES) % 2
    classifier = make_pipeline(make_tiny(memory=tmp_path / "c"), LogisticRegression())
    scores = cross_validate(classifier, np.array(paths), y, cv=3, error_score="raise")
    np.testing.assert_array_equal(scores["test_score"], [1, 1, 1])


# --- precision, and what is printed ------------------------------------------------


def test_precision_is_that_of_transform(named, paths):
    exact = Pretrained(**named).fit_transform(paths)
    rough = Pretrained(**named | {"precision": "bfloat16"}).fit_transform(paths)
    assert exact.dtype == rough.dtype == np.float32
    assert not np.array_equal(rough, exact)
    np.testing.assert_allclose(rough, exact, atol=0.05 * np.abs(exact).max())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_clusterer_predicts_in_the_precision_that_it_was_fitted_in(folder, precision):
    clusterer = cluster(make_tiny(), precision=precision).fit(folder)
    np.testing.assert_array_equal(clusterer.transform(folder), clusterer.embedding_)
    expected = make_tiny(precision=precision).fit_transform(folder)
    np.testing.assert_array_equal(clusterer.embedding_, expected)


def read_lines(capsys):
    """Return the lines that were printed, with single spaces, and forget them."""
    lines = capsys.readouterr().out.splitlines()
    return [" ".join(line.split()) for line in lines]


def test_progress_is_printed_where_it_is_asked_for(folder, capsys, tmp_path):
    memory = {"memory": tmp_path / "cache"}
    make_tiny(**memory).fit_transform(folder)
    cluster(make_tiny()).fit(folder).predict(folder)
    assert read_lines(capsys) == []
    make_tiny(verbose=1).fit_transform(folder)
    (line,) = read_lines(capsys)
    assert re.fullmatch(
        r"\[Pretrained\] embedding 24 images .* s [\d.]+ images/s", line
    )
    make_tiny(verbose=1, **memory).fit_transform(folder)
    kept = "[Pretrained] 24 of 24 images taken from the cache"
    assert read_lines(capsys) == [kept]


def test_a_clusterer_says_how_far_its_encoder_is(folder, capsys):
    begin = "[SCANClustering] embedding 24 images "
    clusterer = cluster(make_tiny(), verbose=1).fit(folder)
    assert read_lines(capsys)[0].startswith(begin)
    for method in (clusterer.predict, clusterer.transform, clusterer.score):
        method(folder)
        (line,) = read_lines(capsys)
        assert line.startswith(begin)


def test_a_line_says_how_long_the_embedding_will_take(folder, capsys, monkeypatch):
    monkeypatch.setattr(_embedding, "_BATCH_BYTES", 8 * 4 * 8 * 8 * 3)
    now = SimpleNamespace(seconds=0.0)

    def pass_time():
        now.seconds += 1.5
        return now.seconds

    clock = SimpleNamespace(perf_counter=pass_time)
    monkeypatch.setattr(_console, "time", clock)
    make_tiny(verbose=2).fit_transform(folder)
    *_, line, last = read_lines(capsys)
    n_done, seconds, left, rate = re.fullmatch(
        r".* (\d+)/24 images ([\d.]+) s, ([\d.]+) s left ([\d.]+) images/s", line
    ).groups()
    assert 0 < int(n_done) < 24
    expected = float(seconds) * (24 / int(n_done) - 1)
    assert float(left) == pytest.approx(expected, abs=0.1)
    assert float(rate) == pytest.approx(int(n_done) / (float(seconds) - 1.5), abs=0.1)
    assert "24 images" in last
