# SPDX-License-Identifier: BSD-3-Clause
"""Damage saved models, and load them: each is refused with a message, or equal.

    python benchmarks/mutations.py --mutations 500

*Damaged* files have bytes that were changed, as by a bad disk. Each must be refused
with a message, or give the probabilities of the model that was saved, to the bit.

*Forged* files are damaged by somebody who knows the format: a value of the description
is replaced, and the checksum is made right. Each must be refused with a message, or be
a model, which may be another one: who writes the file says what is in it. It must run
no code, and take no more memory than a model does.
"""

import argparse
import hashlib
import json
import resource
import tempfile
import tracemalloc
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

import sklearn_scan
from sklearn_scan import SCANClustering, TrainingConfig
from sklearn_scan.pretext import SimCLR

# What a forger might put in the place of a value.
_ODD_VALUES = (
    None,
    True,
    -1,
    0,
    3,
    2**31,
    2**63,
    10**400,
    1e308,
    "",
    "nan",
    "__class__",
    "os:system",
    "builtins:eval",
    "sklearn_scan:SCANClustering",
    "sklearn.pipeline:Pipeline",
    "estimator",
    "function",
    "partial",
    "array",
    "../../etc/passwd",
    [],
    {},
    [[[[[[]]]]]],
    {"type": "function", "name": "os:system"},
    {"type": "estimator", "name": "subprocess:Popen", "params": {}, "learned": {}},
    {"type": "float", "value": "nan"},
    {"type": "tuple", "items": [2**40, 2**40]},
    {"type": "strings", "text": None, "kind": "list"},
)


def damage(data, rng):
    """Return bytes with one kind of damage; in half of the cases in the header."""
    data = bytearray(data)
    n_header = 8 + int.from_bytes(data[:8], "little")
    end = n_header if rng.random() < 0.5 else len(data)
    start = int(rng.integers(end))
    stop = min(len(data), start + int(rng.integers(1, 40)))
    kind = rng.integers(6)
    if kind == 0:
        data[start] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        data[start:stop] = rng.bytes(stop - start)
    elif kind == 2:
        del data[start:stop]
    elif kind == 3:
        data[start:start] = rng.bytes(stop - start)
    elif kind == 4:
        del data[start:]
    else:
        data[start:start] = data[start:stop]
    return bytes(data)


def forge(data, change):
    """Return a file with another description, and the checksum of this.

    Parameters
    ----------
    data : bytes
        A file that `save` wrote.
    change : callable
        Is given the description, and changes it.
    """
    n_header = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + n_header])["__metadata__"]
    tensors = load_tensors(data)
    description = json.loads(tensors["description"].numpy().tobytes())
    change(description)
    text = json.dumps(description).encode()
    tensors["description"] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    return save_tensors(
        tensors, metadata | {"sha256": hashlib.sha256(text).hexdigest()}
    )


def replace_one(description, rng):
    """Put something odd in the place of one value of a description."""
    places = list(_list_places(description))
    holder, key = places[rng.integers(len(places))]
    if isinstance(holder, dict) and rng.random() < 0.1:
        del holder[key]
    else:
        holder[key] = _ODD_VALUES[rng.integers(len(_ODD_VALUES))]


def _list_places(node):
    """Yield all places of a value in JSON: what holds it, and the key or index."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        yield node, key
        if isinstance(value, (dict, list)):
            yield from _list_places(value)


def try_file(path, X, expected):
    """Load a file and predict; return in a word or two what came of it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = sklearn_scan.load(path, device="cpu")
    except ValueError as error:
        assert str(path) in str(error), "a message that does not name the file"
        return "refused"
    try:
        is_equal = np.array_equal(loaded.predict_proba(X), expected)
    except Exception as error:  # a forged model may not fit together
        return f"unusable ({type(error).__name__})"
    return "equal" if is_equal else "another model"


def make_models(X):
    """Return fitted clusterers by name: a trained network, and a transformer."""
    options = {"n_clusters": 3, "n_heads": 2, "random_state": 0, "device": "cpu"}
    quick = TrainingConfig(epochs=1)
    models = {
        "network": SCANClustering(
            pretext=SimCLR(encoder="mlp", epochs=1),
            head_search=quick,
            clustering=quick,
            self_labeling=None,
            **options,
        ),
        "PCA": SCANClustering(pretext=PCA(5), head_search=quick, **options),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: model.fit(X) for name, model in models.items()}


def run(models, X, n_mutations, folder, seed=0):
    """Return how often each outcome came, of damaged and of forged files."""
    rng = np.random.default_rng(seed)
    counts = {"damaged": Counter(), "forged": Counter()}
    saved = {}
    for name, model in models.items():
        sklearn_scan.save(model, folder / name)
        saved[name] = (folder / name).read_bytes(), model.predict_proba(X)
    for i in range(n_mutations):
        data, expected = saved[list(saved)[i % len(saved)]]
        path = folder / "mutated"
        path.write_bytes(damage(data, rng))
        counts["damaged"][try_file(path, X, expected)] += 1
        path.write_bytes(forge(data, lambda found: replace_one(found, rng)))
        counts["forged"][try_file(path, X, expected)] += 1
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mutations", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    X = load_digits().images[:60].astype(np.float32)
    models = make_models(X)
    before = _find_peak()
    tracemalloc.start()
    with tempfile.TemporaryDirectory() as folder:
        counts = run(models, X, options.mutations, Path(folder), options.seed)
    for kind, found in counts.items():
        outcomes = ", ".join(f"{n} {what}" for what, n in found.most_common())
        print(f"{options.mutations} {kind} files: {outcomes}")
    peak = tracemalloc.get_traced_memory()[1]
    print(
        f"memory: {peak / 2**20:.0f} MB at most in objects of Python and arrays; the "
        f"process grew by {_find_peak() - before:.0f} MB"
    )


def _find_peak():
    """Return the largest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


if __name__ == "__main__":
    main()
