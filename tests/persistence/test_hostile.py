# SPDX-License-Identifier: BSD-3-Clause
"""A file that was damaged, or forged, is refused with a message."""

import json
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
from mutations import forge, run
from safetensors.numpy import save_file

from sklearn_scan import load, save
from sklearn_scan.pretext import SimCLR

OS_SYSTEM = {"type": "function", "name": "os:system"}


@pytest.fixture
def saved(fit, tmp_path):
    """Return the path of a saved model on a PCA, and one with a network."""
    for kind in ("PCA", "no head search"):
        save(fit(kind)[0], tmp_path / kind)
    return tmp_path


def refuse(path, said):
    with pytest.raises(ValueError, match=said) as caught:
        load(path)
    assert str(path) in str(caught.value)


def refuse_forged(saved, change, said, kind="PCA"):
    path = saved / kind
    path.write_bytes(forge(path.read_bytes(), change))
    refuse(path, said)


def learned(description):
    return description["estimator"]["learned"]


def test_mutated_files_are_refused_or_equal(fit, images, tmp_path, pytestconfig):
    models = {kind: fit(kind)[0] for kind in ("PCA", "no head search")}
    n_mutations = pytestconfig.getoption("--mutations")
    found = run(models, images, n_mutations, tmp_path)
    assert set(found["damaged"]) <= {"refused", "equal"}
    assert found["damaged"]["refused"] > n_mutations / 2
    assert found["forged"]["refused"] > n_mutations / 4


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1234567",
        b"\x00" * 100,
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2) + b"{}",
        pickle.dumps({}),
        (struct.pack("<Q", 200_000) + b"{" + b'"a":[' * 39_999).ljust(300_000, b"["),
    ],
    ids=["empty", "short", "zeros", "long header", "no header", "pickle", "deep"],
)
def test_what_is_no_model(content, tmp_path):
    (tmp_path / "saved").write_bytes(content)
    refuse(tmp_path / "saved", "is refused")


def test_other_files_of_safetensors_and_zips(tmp_path):
    save_file({"a": np.zeros(3)}, tmp_path / "weights")
    refuse(tmp_path / "weights", "not written by sklearn_scan.save")
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("../out.txt", "x")
    refuse(tmp_path / "zip", "no file of safetensors")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a pipe with a name")
def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    refuse(tmp_path / "pipe", "no regular file")
    refuse(tmp_path, "no regular file")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing")


def rewrite_header(path, change):
    """Write a file with another header, and the same arrays."""
    data = path.read_bytes()
    end = 8 + struct.unpack("<Q", data[:8])[0]
    header = change(json.loads(data[8:end]))
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[end:])


def test_a_newer_format_says_what_reads_it(saved):
    def change(header):
        header["__metadata__"] |= {"format_version": "2", "sklearn_scan": "3.1.4"}
        return header

    rewrite_header(saved / "PCA", change)
    refuse(saved / "PCA", r"version 2 of the format.*Install sklearn_scan 3\.1\.4")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"shape": [2**40, 2**40]}, "safetensors says"),
        ({"dtype": "PICKLE"}, "safetensors says"),
        ({"data_offsets": [0, 2**50]}, "safetensors says"),
    ],
)
def test_arrays_of_a_size_that_the_file_has_not(saved, entry, said):
    def change(header):
        name = next(n for n in header if n.endswith("embedding_"))
        header[name] |= entry
        return header

    rewrite_header(saved / "PCA", change)
    refuse(saved / "PCA", said)


def test_the_same_name_twice(saved):
    def change(header):
        text = json.dumps(header).encode()
        return text[:-1] + b"," + text[1:]

    rewrite_header(saved / "PCA", change)
    refuse(saved / "PCA", "occurs twice")


def test_a_checksum_is_of_each_array(saved):
    path = saved / "PCA"
    data = bytearray(path.read_bytes())
    begin = 8 + struct.unpack("<Q", data[:8])[0]
    offset = json.loads(data[8:begin])["embedding_"]["data_offsets"][0]
    data[begin + offset] ^= 1
    path.write_bytes(data)
    refuse(path, "checksum of the array.*damaged")


def set_node(*keys, value):
    def change(description):
        node = description["estimator"]
        for key in keys[:-1]:
            node = node[key]
        node[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "builtins:eval",
        "subprocess:Popen",
        "numpy:load",
        "torch:load",
        "sklearn_scan._cli:main",
        "sklearn_scan.pretext:os.system",
        "sklearn.utils.fixes:parse_version",
        "sklearn.tests.test_base:MyEstimator",
        "sklearn.utils:os.system",
        "os",
        "",
        None,
        3,
    ],
)
def test_nothing_is_called_that_is_not_trusted(name, saved, monkeypatch):
    monkeypatch.setattr("os.system", lambda *_: pytest.fail("it was called"))
    function = {"type": "function", "name": name}
    refuse_forged(saved, set_node("params", "views", value=function), "trusted=")
    called = {"type": "partial", "parts": [function, [], {"type": "dict", "items": []}]}
    refuse_forged(saved, set_node("params", "views", value=called), "trusted=")
    estimator = {"type": "estimator", "name": name, "params": {}, "learned": {}}
    refuse_forged(saved, set_node("params", "pretext", value=estimator), "trusted=")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (set_node("params", "n_clusters", value=-1), "n_clusters"),
        (set_node("params", "unknown", value=1), "unknown"),
        (set_node("learned", "predict", value=1), "predict is not what"),
        (set_node("learned", "__class__", value=1), "__class__ is not what"),
        (set_node("learned", "input_spec_", value=None), "input_spec_"),
        (set_node("learned", "pretext_", value=3), "pretext_"),
        (set_node("network", "settings", "forward", value=1), "'forward'"),
        (set_node("network", "settings", "_modules", value=1), "'_modules'"),
        (set_node("network", "module", value="os:system"), "no module"),
        (set_node("network", "module", value="sklearn_scan._cli:main"), "no module"),
        (set_node("learned", "labels_", "shape", value=[2**60]), "shape"),
        (set_node("learned", "labels_", "block", value="../labels"), "no array"),
        (set_node("learned", "labels_", "type", value="pickle"), "not known"),
        (set_node("learned", "x_", value=[[]] * 3 + [{"type": "os"}]), "not known"),
    ],
)
def test_a_description_is_held_against_what_it_can_be(change, said, saved):
    refuse_forged(saved, change, said)


def test_a_description_that_is_too_deep(saved):
    def change(description):
        node = learned(description)["x_"] = []
        for _ in range(120):
            node.append([])
            node = node[0]

    refuse_forged(saved, change, "too deeply")


def test_numbers_that_are_no_indices(saved):
    def change(description):
        found = learned(description)
        found["labels_"] = found["confidence_"]

    refuse_forged(saved, change, "labels_ is not what")


def test_indices_beyond_the_samples(fit, saved):
    model = pickle.loads(pickle.dumps(fit("PCA")[0]))
    model.neighbors_[0, 0] = 10**6
    save(model, saved / "PCA")
    refuse(saved / "PCA", "neighbors_ is not what")


def test_one_array_is_not_asked_for_again_and_again(saved):
    def change(description):
        found = learned(description)
        found["x_"] = [found["embedding_"]] * 10_000

    refuse_forged(saved, change, "again and again")


def test_images_that_would_fill_the_memory(saved):
    def change(description):
        spec = learned(description)["input_spec_"]["fields"]
        shape = {"type": "tuple", "items": [10**6, 10**6]}
        spec["format"]["fields"]["sample_shape"] = shape

    refuse_forged(saved, change, "the shape of a sample", kind="no head search")


def test_encoders_that_would_fill_the_memory(tmp_path, images):
    path = tmp_path / "saved"
    save(SimCLR(encoder="mlp", epochs=1).fit(images), path)

    def change(description):
        node = description["estimator"]
        node["name"] = "sklearn_scan.pretext:Pretrained"
        node["params"] = {"encoder": "torchvision/ViT_L_16_Weights.IMAGENET1K_V1"}

    path.write_bytes(forge(path.read_bytes(), change))
    refuse(path, "weights are not those of encoder")


def test_the_network_of_another_encoder(saved):
    def change(description):
        learned(description)["pretext_"]["params"]["encoder"] = "resnet18"

    refuse_forged(saved, change, "has other weights", kind="no head search")
