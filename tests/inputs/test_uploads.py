# SPDX-License-Identifier: BSD-3-Clause
"""What a GPU is given of an array, on a machine that may have none."""

import gc
import weakref

import numpy as np
import pytest
import torch

from sklearn_scan import SCANClustering, TrainingConfig, _devices
from sklearn_scan._inputs import ArraySource, _array, learn_format, sharing
from sklearn_scan.pretext import SimCLR

pytestmark = pytest.mark.filterwarnings(
    "default::sklearn.exceptions.ConvergenceWarning"
)

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
ORDER = torch.tensor([7, 0, 7, 39])


@pytest.fixture
def uploads(monkeypatch):
    """Let the CPU be taken for a GPU; return the arrays that are copied to it."""
    copied = []
    upload = _array._upload

    def note(array, device):
        copied.append(array)
        return upload(array, device)

    monkeypatch.setattr(_array, "has_own_memory", lambda device: True)
    monkeypatch.setattr(_array, "_upload", note)
    return copied


def source_of(X, device="cpu"):
    return ArraySource(X, learn_format(X), device)


@pytest.mark.parametrize(
    "X",
    [
        IMAGES,
        IMAGES[..., ::-1],
        IMAGES[::-1, :, ::-1],
        IMAGES.transpose(0, 3, 1, 2),
        IMAGES[..., 0] / 255,
        IMAGES.reshape(40, -1)[:, ::-1].astype(np.float32)[::-1],
    ],
    ids=["plain", "BGR", "turned", "transposed", "float64", "rows"],
)
@pytest.mark.parametrize("n_bytes", [2**26, 1000], ids=["at once", "in parts"])
def test_a_resident_array_is_read_as_any_other(X, n_bytes, monkeypatch, uploads):
    monkeypatch.setattr(_array, "_BYTES_PER_PART", n_bytes)
    resident = source_of(X)
    assert resident.resident is not None
    monkeypatch.setattr(_array, "has_own_memory", lambda device: False)
    assert torch.equal(resident.read(ORDER), source_of(X).read(ORDER))


def test_a_resident_array_may_be_a_read_only_memmap(tmp_path, uploads, recwarn):
    np.save(tmp_path / "images.npy", IMAGES)
    X = np.load(tmp_path / "images.npy", mmap_mode="r")
    got = source_of(X).read(ORDER)
    assert torch.equal(got, source_of(IMAGES).read(ORDER))
    assert not recwarn


def test_a_bgr_view_is_clustered_as_a_copy_of_it(uploads):
    view, copy = (quick().fit(X) for X in (IMAGES[..., ::-1], IMAGES[..., ::-1].copy()))
    assert np.array_equal(view.embedding_, copy.embedding_)
    assert np.array_equal(view.labels_, copy.labels_)


# --- room --------------------------------------------------------------------------


def let_cuda_say(monkeypatch, **answers):
    for name, value in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)


def test_memory_that_torch_holds_back_is_free(monkeypatch):
    let_cuda_say(
        monkeypatch,
        mem_get_info=(100, 1000),
        memory_reserved=700,
        memory_allocated=200,
    )
    assert _devices.available_memory(torch.device("cuda")) == 600


@pytest.mark.parametrize(("reserved", "fits"), [(0, False), (2 * IMAGES.nbytes, True)])
def test_an_array_fits_where_torch_holds_enough_back(reserved, fits, monkeypatch):
    let_cuda_say(
        monkeypatch,
        mem_get_info=(IMAGES.nbytes, 2**30),
        memory_reserved=reserved,
        memory_allocated=0,
    )
    empty = torch.empty
    monkeypatch.setattr(
        torch, "empty", lambda *shape, **kw: empty(*shape, **kw | {"device": "cpu"})
    )
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *args, **kwargs: tensor)
    assert (source_of(IMAGES, "cuda").resident is not None) == fits


# --- once --------------------------------------------------------------------------


def quick(**params):
    once = TrainingConfig(epochs=1)
    return SCANClustering(
        3,
        pretext=SimCLR(epochs=1),
        head_search=once,
        clustering=once,
        self_labeling=once,
        threshold=0.1,
        keep="last",
        device="cpu",
        random_state=0,
        **params,
    )


def test_a_fit_copies_the_samples_once(uploads):
    quick().fit(IMAGES)
    assert [array is IMAGES for array in uploads].count(True) == 1


def test_after_a_fit_nothing_is_held(uploads, monkeypatch):
    held = []
    upload = _array._upload

    def hold_weakly(array, device):
        tensor = upload(array, device)
        held.append(weakref.ref(tensor))
        return tensor

    monkeypatch.setattr(_array, "_upload", hold_weakly)
    clusterer = quick().fit(IMAGES)
    gc.collect()
    assert clusterer.net_ is not None
    assert held
    assert [tensor() for tensor in held if tensor() is not None] == []


def test_an_array_that_was_changed_between_fits_is_read_anew(uploads):
    X = IMAGES.copy()
    kept = []
    for _ in range(2):
        with sharing():
            source = source_of(X)
            source.share()
            kept.append(source.read(ORDER))
            assert source_of(X).resident is source.resident
        kept.append(source)
        X[:] = 255 - X
    assert not torch.equal(kept[0], kept[2])


@pytest.mark.parametrize("other", ["array", "device", "no context"])
def test_only_sources_of_one_array_on_one_device_share(other, uploads):
    X = IMAGES.copy() if other == "array" else IMAGES
    if other == "no context":
        source = source_of(IMAGES)
        source.share()
        assert source_of(X).resident is not source.resident
        return
    with sharing():
        source = source_of(IMAGES)
        source.share()
        device = "meta" if other == "device" else "cpu"
        assert source_of(X, device).resident is not source.resident
