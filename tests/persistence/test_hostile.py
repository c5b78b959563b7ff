# SPDX-License-Identifier: BSD-3-Clause
"""A file that was damaged, or forged, is refused with a message."""

import json
import os
import pickle
import struct
import zipfile

import joblib
import numpy as np
import pytest
import torch
from mutations import forge, run
from safetensors.numpy import save_file
from sklearn.base import clone

from sklearn_scan import load, merge, save
from sklearn_scan.pretext import SimCLR

RESULTS = ["labels_", "confidence_", "neighbors_", "prototypes_"]
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


def test_a_folder(tmp_path):
    refuse(tmp_path, "it is a folder, and no regular file")


def test_a_pickle_says_what_reads_it(fit, tmp_path):
    joblib.dump(fit("rows")[0], tmp_path / "model.joblib")
    refuse(tmp_path / "model.joblib", "a pickle. If you trust it, joblib.load")
    torch.save({}, tmp_path / "weights.pth")
    refuse(tmp_path / "weights.pth", "parameter `weights` of Pretrained")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a pipe with a name")
def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    refuse(tmp_path / "pipe", "no regular file")
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


def test_a_newer_release_of_the_same_format_is_named(saved):
    def change(description):
        description["versions"]["sklearn_scan"] = "3.1.4"
        description["estimator"]["params"]["new_parameter"] = 1

    refuse_forged(saved, change, r"new_parameter.*written by sklearn_scan 3\.1\.4")


def test_messages_hold_no_control_characters(saved):
    def change(header):
        header["__metadata__"] |= {"format_version": "2", "sklearn_scan": "\x1b[2J"}
        return header

    rewrite_header(saved / "PCA", change)
    with pytest.raises(ValueError, match="unknown release") as caught:
        load(saved / "PCA")
    assert str(caught.value).isprintable()


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


def scalar(dtype, value):
    return {"type": "scalar", "dtype": dtype, "value": value}


def record(name):
    return {"type": "record", "name": name, "fields": {}}


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
        (set_node("learned", "net_", value={"type": "dict", "items": []}), "net_ is"),
        (set_node("learned", "_backbone", value=None), "_backbone is not what"),
        (set_node("learned", "_known_samples", value=None), "_known_samples is not"),
        (set_node("learned", "_skl_callbacks", value=[]), "_skl_callbacks is not"),
        (set_node("learned", "_parameter_constraints", value=[]), "constraints is not"),
        (set_node("learned", "temperature_", value=0.0), "temperature_ is not what"),
        (set_node("learned", "n_clusters_", value=2), "n_clusters_ is not what"),
        (set_node("backbone", "learned", "open", value=1), "the backbone is not what"),
        (set_node("backbone", "learned", "format", value=1), "the format of the"),
        (set_node("params", "threshold", value=float("nan")), "NaN is no JSON"),
        (set_node("params", "threshold", value=-float("inf")), "-Infinity is no JSON"),
        (set_node("learned", "x_", value=scalar("int8", "300")), "does not fit"),
        (set_node("learned", "x_", value=scalar("int64", "9" * 5000)), "does not fit"),
        (set_node("learned", "x_", value=scalar("object", "1")), "no type of a number"),
        (set_node("learned", "x_", value=record("Table")), "no record"),
        (set_node("learned", "x_", value=record("sklearn_scan._cli:R")), "no record"),
        (set_node("network", "module", value="SelfLabelingNetwork"), "no module"),
        (set_node("network", "module", value="Identity"), "is not what it can be"),
        (set_node("network", "children", "heads", "module", value="Linear"), "heads"),
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


@pytest.mark.parametrize("name", ["memory", "checkpoint", "device", "threshold"])
def test_no_parameter_comes_in_as_an_attribute(name, saved):
    """Those of one machine are not taken from a file, the folder of a cache above all.

    What is in such a folder are pickles.
    """

    def change(description):
        del description["estimator"]["params"][name]
        learned(description)[name] = "/tmp/elsewhere"

    refuse_forged(saved, change, f"{name} is not what")


@pytest.mark.parametrize("place", [-1, 625, 2**20, True, 1.0])
def test_a_generator_reads_no_memory_of_others(place, fit, tmp_path):
    model = clone(fit("rows")[0]).set_params(random_state=np.random.RandomState(0))
    path = tmp_path / "saved"
    save(model, path)
    assert load(path).random_state.randint(99) == np.random.RandomState(0).randint(99)

    def change(description):
        description["estimator"]["params"]["random_state"]["state"][2] = place

    path.write_bytes(forge(path.read_bytes(), change))
    refuse(path, "random numbers has another state")


@pytest.mark.parametrize("change", ["group", "missing", "type", "temperature", "count"])
def test_merged_heads_that_do_not_fit_together(change, fit, tmp_path):
    path = tmp_path / "saved"
    merged = merge(fit("rows")[0], [[0, 1]])
    heads = merged.net_.module_.heads
    if change == "group":
        heads.groups = heads.groups + 1
    elif change == "missing":
        heads.groups = heads.groups[:-1]
    elif change == "type":
        heads.groups = heads.groups.float()
    elif change == "temperature":
        heads.temperature = -1.0
    else:
        heads.n_heads = 2
    save(merged, path)
    refuse(path, "the merged heads of the network")


def test_heads_of_another_size(fit, tmp_path):
    model = pickle.loads(pickle.dumps(fit("rows")[0]))
    model.net_.module_.heads.n_classes = 4
    save(model, tmp_path / "saved")
    refuse(tmp_path / "saved", "the heads of the network")


@pytest.mark.parametrize("name", RESULTS)
def test_results_for_fewer_samples_than_there_are(name, fit, tmp_path):
    model = pickle.loads(pickle.dumps(fit("rows")[0]))
    setattr(model, name, getattr(model, name)[:-1])
    save(model, tmp_path / "saved")
    refuse(tmp_path / "saved", f"{name} is not what")


@pytest.mark.parametrize("ends", [[5, 3], [-1, 4], [0, 10**9], [4, 3]])
def test_strings_are_cut_where_they_end(ends, fit, tmp_path):
    model = pickle.loads(pickle.dumps(fit("rows")[0]))
    model.names_ = ["ab"] * 200
    model.other_ = np.array(ends)
    path = tmp_path / "saved"
    save(model, path)

    def change(description):
        names, other = (learned(description)[n] for n in ("names_", "other_"))
        names["ends"] = other

    path.write_bytes(forge(path.read_bytes(), change))
    refuse(path, "not cut where they end")


def test_strings_that_would_fill_the_memory(saved):
    text = ["x" * 100_000, *[""] * 5000]
    node = {"type": "objects", "items": text, "shape": [5001], "kind": "str"}
    refuse_forged(saved, set_node("learned", "x_", value=node), "too much memory")


def test_files_that_were_skipped_are_among_the_files(saved):
    def change(description):
        spec = learned(description)["input_spec_"]["fields"]
        spec["skipped"] = {"type": "dict", "items": [["a.png", "damaged"]]}

    refuse_forged(saved, change, "skipped of the samples")


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
