# SPDX-License-Identifier: BSD-3-Clause
"""The cache and the checkpoints see what the user's code has become."""

import functools
import os
import subprocess
import sys
import textwrap
import threading
import types

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.preprocessing import FunctionTransformer
from torch import nn

from sklearn_scan import SCANClustering, TrainingConfig
from sklearn_scan.pretext import SimCLR

pytestmark = pytest.mark.filterwarnings(
    "default::sklearn.exceptions.ConvergenceWarning"
)

HERE = sys.modules[__name__]


# What a user writes: factories that call other functions.

WIDTH = 8
OPTIMIZER = [torch.optim.SGD]
LOCK = threading.Lock()


def find_width():
    return WIDTH


def find_other_width():
    return 12


def flatten(width):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width))


def make_encoder(shape):
    return flatten(find_width())


def make_optimizer(parameters, lr, weight_decay):
    return OPTIMIZER[0](parameters, lr=lr)


def make_locked_encoder(shape):
    with LOCK:
        return flatten(8)


def make_locked_optimizer(parameters, lr, weight_decay):
    with LOCK:
        return torch.optim.SGD(parameters, lr=lr)


LOCKED = SimCLR(encoder=make_locked_encoder, epochs=1)


def shift(rows):
    return rows + 1


def move(rows):
    return shift(rows)


class Maker:
    def __init__(self, width):
        self.width = width

    def __call__(self, shape):
        return flatten(self.width)

    def make(self, shape):
        return flatten(self.width)


def close_over(width):
    return lambda shape: flatten(width)


class Turn(nn.Module):
    def forward(self, images):
        return turn(images)


def turn(images):
    return images.flip(-1)


def turn_elsewhere(images):
    return images.flip(-2)


def make_views(shape):
    return Turn()


def quick(pretext=None, **params):
    params = {"head_search": TrainingConfig(epochs=1), "clustering": None} | params
    return SCANClustering(
        3,
        n_heads=2,
        pretext=pretext or SimCLR(epochs=1),
        self_labeling=None,
        random_state=0,
        **params,
    )


@pytest.fixture
def images(digits):
    return digits[0][:60]


# memory=


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            functools.partial(Maker.make, Maker(8)),
            functools.partial(Maker.make, Maker(9)),
        ),
        (close_over(8), close_over(9)),
        (lambda shape: flatten(8), lambda shape: flatten(9)),
        (Maker(8), Maker(9)),
        (Maker(8).make, Maker(9).make),
    ],
    ids=["partial", "closure", "lambda", "instance", "bound method"],
)
def test_the_cache_tells_factories_apart(images, tmp_path, before, after):
    for encoder, width in ((before, 8), (after, 9), (before, 8)):
        clusterer = quick(SimCLR(encoder=encoder, epochs=1), memory=tmp_path).fit(
            images
        )
        assert clusterer.embedding_.shape == (60, width)
    folder = (
        tmp_path / "joblib" / "sklearn_scan" / "pretext" / "_caching" / "train_pretext"
    )
    assert len(list(folder.glob("*/output.pkl"))) == 2, "and the third was found"


@pytest.mark.parametrize(
    ("name", "value", "width"),
    [("find_width", find_other_width, 12), ("WIDTH", 10, 10)],
    ids=["a function", "a constant"],
)
def test_the_cache_sees_what_a_factory_calls(
    images, tmp_path, monkeypatch, name, value, width
):
    clusterer = quick(SimCLR(encoder=make_encoder, epochs=1), memory=tmp_path)
    assert clusterer.fit(images).embedding_.shape == (60, 8)
    monkeypatch.setattr(HERE, name, value)
    assert clusterer.fit(images).embedding_.shape == (60, width)


def test_the_cache_sees_what_a_view_calls(images, tmp_path, monkeypatch):
    once = TrainingConfig(epochs=1, views=make_views)
    clusterer = quick(clustering=once, keep="last", memory=tmp_path)
    before = clusterer.fit(images).confidence_
    monkeypatch.setattr(HERE, "turn", turn_elsewhere)
    assert not np.array_equal(clusterer.fit(images).confidence_, before)


def test_the_cache_sees_what_an_optimizer_calls(images, tmp_path, monkeypatch):
    training = TrainingConfig(optimizer=make_optimizer, epochs=3)
    clusterer = quick(PCA(3), head_search=training, memory=tmp_path)
    before = clusterer.fit(images).confidence_
    monkeypatch.setattr(HERE, "OPTIMIZER", [torch.optim.Adam])
    assert not np.array_equal(clusterer.fit(images).confidence_, before)


def test_the_cache_sees_what_another_pretext_calls(images, tmp_path, monkeypatch):
    clusterer = quick(FunctionTransformer(move), memory=tmp_path)
    before = clusterer.fit(images).embedding_
    monkeypatch.setattr(HERE, "shift", lambda rows: rows + 2)
    assert np.array_equal(clusterer.fit(images).embedding_, before + 1)


@pytest.mark.parametrize(
    ("params", "named"),
    [
        (
            {"pretext": LOCKED},
            "'encoder'.*lock",
        ),
        (
            {"head_search": TrainingConfig(optimizer=make_locked_optimizer)},
            "optimizer.*lock",
        ),
        ({"pretext": FunctionTransformer(lambda X: X)}, "pretext.*cannot be pickled"),
    ],
    ids=["encoder", "optimizer", "transformer"],
)
def test_what_is_not_known_again_is_not_cached_and_says_so(
    images, tmp_path, params, named
):
    with pytest.warns(UserWarning, match=f"memory= does not hold.*{named}") as caught:
        first = quick(**params, memory=tmp_path).fit(images)
    assert sum("memory= does not hold" in str(w.message) for w in caught) == 1
    plain = quick(**params).fit(images)
    np.testing.assert_array_equal(first.labels_, plain.labels_)


# checkpoint=


def test_a_checkpoint_is_not_that_of_another_helper(images, tmp_path, monkeypatch):
    clusterer = quick(
        PCA(3),
        head_search=TrainingConfig(optimizer=make_optimizer, epochs=2),
        checkpoint=tmp_path,
    ).fit(images)
    assert len(list(tmp_path.glob("head_search-*"))) == 1
    clusterer.fit(images)
    assert len(list(tmp_path.glob("head_search-*"))) == 1
    monkeypatch.setattr(HERE, "OPTIMIZER", [torch.optim.Adam])
    clusterer.fit(images)
    assert len(list(tmp_path.glob("head_search-*"))) == 2


def test_a_checkpoint_takes_lambdas(images, tmp_path):
    training = TrainingConfig(
        epochs=1, optimizer=lambda p, **k: torch.optim.SGD(p, **k)
    )
    quick(clustering=training, checkpoint=tmp_path).fit(images)
    assert len(list(tmp_path.glob("clustering-*"))) == 1


def test_a_checkpoint_needs_what_is_known_again(images, tmp_path):
    training = TrainingConfig(epochs=1, optimizer=make_locked_optimizer)
    with pytest.raises(ValueError, match=r"'clustering', optimizer.*lock"):
        quick(clustering=training, checkpoint=tmp_path).fit(images)


# The fingerprint itself.


def run(code, **names):
    names = {"__name__": "__main__", "nn": nn, "functools": functools} | names
    exec(textwrap.dedent(code), names)
    return names["f"]


def both(before, after):
    from sklearn_scan._engine import fingerprint

    return fingerprint(before), fingerprint(after)


@pytest.mark.parametrize(
    ("code", "old", "new"),
    [
        ("def f(): return 1", "1", "2"),
        ("def f(): return 1", "1", "1.0"),
        ("def f(x=1): return x", "1", "2"),
        ("def f(*, x=1): return x", "1", "2"),
        ("def f(): return g()\ndef g(): return h()\ndef h(): return 1", "1", "2"),
        ("def f(): return f() or g()\ndef g(): return f() and 1", "1", "2"),
        ("def f(): return (lambda: g())\ndef g(): return 1", "1", "2"),
        ("def f(): return A().m()\nclass A:\n def m(self): return 1", "1", "2"),
        ("class B:\n x = 1\nclass f(B): pass", "1", "2"),
        ("class f:\n @property\n def p(self): return 1", "1", "2"),
        ("class f:\n @staticmethod\n def p(): return 1", "1", "2"),
        ("class f(nn.Module):\n def forward(self, x): return x + 1", "1", "2"),
        ("class A:\n __slots__ = 'x'\nf = A()\nf.x = 1", "1", "2"),
        ("@functools.lru_cache\ndef f(): return 1", "1", "2"),
        ("def g(): return 1\nf = functools.wraps(g)(lambda: g())", "1", "2"),
        ("x = {'a': [1, {2}]}\ndef f(): return x", "1", "3"),
        ("def f(): return 1 in {'a', 'b'}", "b", "c"),
        ("f = nn.Flatten", "Flatten", "Identity"),
        ("f = {'a': 1}.get", "1", "2"),
    ],
)
def test_a_change_is_seen(code, old, new):
    same, again = both(run(code), run("\n\n" + code))
    assert same == again, "not where the code stands"
    before, after = both(run(code), run(new.join(code.rsplit(old, 1))))
    assert before != after


def test_what_a_module_of_the_user_holds_is_seen(monkeypatch):
    helpers = types.ModuleType("helpers_of_the_user")
    helpers.width, helpers.other = 1, 1
    monkeypatch.setitem(sys.modules, helpers.__name__, helpers)
    codes = (
        "def f(): return helpers.width",
        "def f():\n from helpers_of_the_user import width\n return width",
    )
    functions = [run(code, helpers=helpers) for code in codes]
    for function in functions:
        before, _ = both(function, None)
        helpers.other += 1
        assert both(function, None)[0] == before, "it is not used"
        helpers.width += 1
        assert both(function, None)[0] != before


@pytest.mark.parametrize(
    ("value", "other"),
    [
        (np.arange(3), np.arange(3.0)),
        (np.zeros((2, 3)), np.zeros((3, 2))),
        (torch.zeros(2), torch.ones(2)),
        (torch.zeros(2, dtype=torch.bfloat16), torch.zeros(2, dtype=torch.float16)),
        (functools.partial(int, base=2), functools.partial(int, base=3)),
        (np.random.RandomState(0), np.random.RandomState(1)),
        (("ab", "c"), ("a", "bc")),
        ([1], (1,)),
        (True, 1),
    ],
    # Not `repr`, which may hold an address: all processes must know the same tests.
    ids=lambda value: type(value).__name__,
)
def test_values_are_told_apart(value, other):
    before, after = both(value, other)
    assert before != after
    assert before == both(value, other)[0]


SCRIPT = """
import functools
from torch import nn
from sklearn_scan._engine import fingerprint

NAMES = {"a", "b", "c", "d", "e"}

class View(nn.Module):
    names = frozenset(NAMES)

    def forward(self, batch):
        return batch if type(self) in NAMES else super().forward(batch)

def make(shape, names=NAMES):
    return View() if shape in {"x", "y", "z"} else nn.Flatten()

print(fingerprint([make, functools.partial(make, names=("a",)), lambda: make(View)]))
"""


def test_processes_agree(tmp_path):
    told = set()
    # Of these two seeds, all sets above have different orders.
    for seed, folder in (("1", "here"), ("2", "there")):
        script = tmp_path / folder / "script.py"
        script.parent.mkdir()
        script.write_text(SCRIPT)
        result = subprocess.run(
            [sys.executable, str(script)],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        told.add(result.stdout)
    assert len(told) == 1
