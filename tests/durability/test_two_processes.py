# SPDX-License-Identifier: BSD-3-Clause
"""One fit in two processes: the losses of one process, and the same labels in both."""

import json
import os
import re
import runpy
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import TASKS

import sklearn_scan
from sklearn_scan import SCANClustering, config_context
from sklearn_scan._world._splitting import _own_draws

pytest.importorskip("accelerate")

ROOT = Path(__file__).parents[2]
SOURCE = Path(sklearn_scan.__file__).parents[1]

# What both processes run, and the process of the tests beside them.
PROGRAM = '''
import functools, json, os, runpy, sys, warnings
from pathlib import Path
import numpy as np
from PIL import Image
from sklearn.callback import ScoringMonitor
from sklearn.datasets import load_digits
from torch import nn
from sklearn_scan import SCANClustering, TrainingConfig, pretext, set_config
from sklearn_scan._engine._checkpoint import Checkpoint
from sklearn_scan._stages import _mining
from sklearn_scan.metrics import hungarian_accuracy_scorer
from sklearn_scan.pretext import Pretrained, SimCLR

RANK = int(os.environ.get("RANK", 0))
seen = {"training": 0, "evaluation": 0, "mined": 0}


class Net(nn.Sequential):
    """Counts the samples that it looks at."""

    def __init__(self, shape):
        size = int(np.prod(shape))
        norm = nn.BatchNorm1d(32)
        super().__init__(nn.Flatten(), nn.Linear(size, 32), norm, nn.ReLU())

    def forward(self, batch):
        seen["training" if self.training else "evaluation"] += len(batch)
        return super().forward(batch)


@functools.wraps(_mining.mine_neighbors)
def mine_neighbors(*args, **kwargs):
    seen["mined"] += 1
    return mine_neighbors.__wrapped__(*args, **kwargs)


def fit(folder):
    _mining.mine_neighbors = mine_neighbors
    X, y = load_digits(n_class=3, return_X_y=True)
    X = X.reshape(-1, 8, 8)[:151]
    few = TrainingConfig(epochs=3, optimizer="sgd", lr=0.01, batch_size=64)
    clusterer = SCANClustering(
        3, n_heads=2, views="affine", threshold=0.5, keep="last", random_state=0,
        pretext=SimCLR(encoder=Net, epochs=4, optimizer="sgd", batch_size=51),
        head_search=TrainingConfig(epochs=10), clustering=few, self_labeling=few,
        memory=str(folder / "cache"), checkpoint=folder / "state",
        device="cpu", precision="float32",
    )
    seen.update(training=0, evaluation=0, mined=0)
    clusterer.fit(X)
    counts, history = dict(seen), clusterer.history_
    probabilities = clusterer.predict_proba(X)
    again = clusterer.fit(X)  # from the cache
    assert np.array_equal(again.predict_proba(X), probabilities)
    return {
        "seen": counts,
        "labels": clusterer.labels_.tolist(),
        "probabilities": probabilities.tolist(),
        "losses": [r["loss"] for stage in ("pretext", "clustering", "self_labeling")
                   for r in history[stage]],
    }


def train_tasks():
    """Return the losses of every pretext task."""
    losses = {}
    for name in pretext.__all__:
        if name == "Pretrained":
            continue
        task = getattr(pretext, name)(
            encoder="mlp", epochs=2, optimizer="sgd", lr=0.01, batch_size=21,
            device="cpu", precision="float32", random_state=0,
        )
        task.fit(load_digits().images[:63])
        losses[name] = [record["loss"] for record in task.history_]
    return losses


def embed_folder(folder):
    pictures = folder / "pictures"
    if RANK == 0:
        pictures.mkdir(exist_ok=True)
        for i, pixels in enumerate(load_digits().images[:21].astype(np.uint8) * 15):
            Image.fromarray(pixels).save(pictures / f"{i:02}.png")
        (folder / "there").touch()
    while not (folder / "there").exists():
        pass
    found = []
    for memory in (None, str(folder / "features"), str(folder / "features")):
        seen.update(training=0, evaluation=0, mined=0)
        frozen = Pretrained(Net, image_shape=(8, 8), memory=memory, random_state=0)
        clusterer = SCANClustering(
            2, K=3, n_heads=2, pretext=frozen, head_search=TrainingConfig(epochs=5),
            device="cpu", precision="float32", random_state=0,
        ).fit(pictures)
        found.append((seen["evaluation"], clusterer.embedding_.tolist()))
    return found


def resume(folder):
    """Interrupt a fit, and go on with it; compare with a fit that was not."""
    few = TrainingConfig(epochs=3)
    clusterer = SCANClustering(
        2, K=3, n_heads=2, pretext=SimCLR(encoder="mlp", epochs=4), head_search=few,
        clustering=few, self_labeling=None, device="cpu", random_state=0,
    )
    X, y = load_digits().images[:40], load_digits().target[:40]
    if RANK == 1:  # which must not wait for the others
        clusterer.set_callbacks(ScoringMonitor(scoring=hungarian_accuracy_scorer))
    expected = clusterer.fit(X, y).predict_proba(X)
    write, n_written = Checkpoint.on_epoch_end, []

    def write_and_stop(self, net, **kwargs):
        write(self, net, **kwargs)
        n_written.append(1)
        if len(n_written) == 2:
            raise KeyboardInterrupt

    Checkpoint.on_epoch_end = write_and_stop
    clusterer.set_params(checkpoint=folder / "interrupted")
    for _ in range(2):
        try:
            clusterer.fit(X, y)
        except KeyboardInterrupt:
            n_written.append("interrupted")
    assert n_written[2] == "interrupted" and len(n_written) == 3 + 2 + 3 + 3
    assert np.array_equal(clusterer.predict_proba(X), expected)
    return sorted(path.name.split("-")[0] for path in folder.glob("interrupted/*.pt"))


def refuse_other_samples():
    try:
        SCANClustering(2, n_heads=2).fit(np.eye(40)[RANK:])
    except ValueError as error:
        return str(error)


if __name__ == "__main__":
    set_config(distributed=True)
    folder = Path(sys.argv[1])
    found = fit(folder) | {"folder": embed_folder(folder)}
    found["tasks"] = train_tasks()
    found["refused"] = refuse_other_samples()
    found["resumed"] = resume(folder)
    arguments = ["--folder", folder / "pictures", "--encoder", "convnet"]
    runpy.run_path(sys.argv[2])["main"]([*map(str, arguments), "--device", "cpu"])
    (folder / f"{RANK}.json").write_text(json.dumps(found))
'''

# Endless; the second process kills itself when the first epochs are over.
KILLED = """
import os, signal
from sklearn.datasets import load_digits
from sklearn_scan import set_config
from sklearn_scan.pretext import SimCLR

def views(shape):
    from torch import nn

    class Fatal(nn.Module):
        n = 0

        def forward(self, batch):
            self.n += 1
            if self.n == 50 and os.environ["RANK"] == "1":
                print("dies", flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            return batch

    return Fatal()

set_config(distributed=True)
task = SimCLR(encoder="mlp", views=views, epochs=10**6, device="cpu")
task.fit(load_digits().images[:100])
"""


def launch(path, *arguments, **kwargs):
    """Run a program in two processes; return the finished launcher."""
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "HF_HUB_OFFLINE": "1"}
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    for name, value in {
        "num_processes": 2, "num_machines": 1, "mixed_precision": "no",
        "dynamo_backend": "no", "main_process_port": 0,
    }.items():  # fmt: skip
        launcher += [f"--{name}", str(value)]
    return subprocess.run(
        [*launcher, str(path), *map(str, arguments)],
        env=environment, capture_output=True, text=True, timeout=200, check=False,
        **kwargs,
    )  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return what one process found, what two found, and what these printed."""
    folder = tmp_path_factory.mktemp("runs")
    program = folder / "program.py"
    program.write_text(PROGRAM)
    done = launch(program, folder, ROOT / "examples" / "two_processes.py")
    assert done.returncode == 0, done.stderr
    two = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]
    (folder / "one").mkdir()
    functions = runpy.run_path(str(program))
    one = functions["fit"](folder / "one")
    one["tasks"] = functions["train_tasks"]()
    one["folder"] = functions["embed_folder"](folder / "one")
    return one, two, done.stdout


pytestmark = pytest.mark.filterwarnings(
    "default::sklearn.exceptions.ConvergenceWarning"
)


def test_two_processes_have_the_losses_of_one(runs):
    one, two, _ = runs
    assert len(one["losses"]) == 10
    for each in two:
        np.testing.assert_allclose(each["losses"], one["losses"], rtol=0, atol=1e-3)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.__name__)
def test_every_pretext_task_has_the_losses_of_one_process(runs, task):
    one, two, _ = runs
    expected = one["tasks"][task.__name__]
    assert len(expected) == 2
    for each in two:
        found = each["tasks"][task.__name__]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


def test_all_processes_have_the_same_labels(runs):
    one, (first, second), _ = runs
    assert first["labels"] == second["labels"]
    assert first["probabilities"] == second["probabilities"]
    assert np.mean(np.equal(first["labels"], one["labels"])) > 0.99


def test_the_network_is_divided_and_neighbours_are_mined_once(runs):
    one, two, _ = runs
    for name in ("training", "evaluation"):
        counts = [each["seen"][name] for each in two]
        # `predict` and the measuring of memory are not divided.
        assert sum(counts) < 1.1 * one["seen"][name], name
        assert max(counts) < 0.6 * one["seen"][name], name
    assert [each["seen"]["mined"] for each in two] == [1, 0]


def test_a_folder_is_embedded_in_parts(runs):
    one, two, _ = runs
    n_embedded = [[n for n, _ in each["folder"]] for each in (one, *two)]
    assert n_embedded[0] == [23, 23, 2], "two at the beginning, to measure"
    assert np.subtract(n_embedded[1:], 2).tolist() == [[11, 11, 0], [10, 10, 0]]
    for each in two:
        for (_, found), (_, expected) in zip(
            each["folder"], one["folder"], strict=True
        ):
            np.testing.assert_allclose(found, expected, atol=1e-5)


def test_an_interrupted_fit_goes_on_with_one_checkpoint(runs):
    _, two, _ = runs
    for each in two:
        assert each["resumed"] == ["clustering", "head_search", "pretext"]


def test_other_samples_are_refused_in_all_processes(runs):
    _, two, _ = runs
    for each in two:
        assert each["refused"].startswith("X is not the same in all 2 processes.")


def test_one_process_prints_and_the_example_runs(runs):
    *_, printed = runs
    assert re.findall(r"^2 processes, clusters of", printed, re.MULTILINE)
    assert printed.count("[SCANClustering] fit ") == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="signals are others")
def test_a_killed_process_ends_the_others(tmp_path):
    path = tmp_path / "killed.py"
    path.write_text(KILLED)
    # On a busy machine the launcher may end the other one before it can say so.
    for _ in range(3):
        begin = time.monotonic()
        done = launch(path)
        assert time.monotonic() - begin < 60
        assert "dies" in done.stdout
        assert done.returncode != 0
        is_told = "LostProcessError: Process 0 of 2 cannot go on" in done.stderr
        if is_told:
            break
    assert is_told


def test_a_network_draws_for_its_own_samples():
    """Dropout draws others in each process, and leaves generators equal in all."""
    drawn, after = [], []
    for rank in range(2):
        torch.manual_seed(0)
        for _ in range(2):
            with _own_draws(rank, torch.device("cpu")):
                drawn.append(torch.rand(3 + rank)[:3].tolist())
        after.append(torch.rand(1).item())
    assert len(np.unique(drawn)) == 12
    assert after[0] == after[1]
    torch.manual_seed(0)
    with _own_draws(1, torch.device("cpu")):
        pass
    drawn = torch.rand(3)
    assert drawn.equal(torch.rand(3, generator=torch.Generator().manual_seed(0)))


def test_one_process_needs_no_accelerate(monkeypatch, blobs):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    clusterer = SCANClustering(3, n_heads=2, random_state=0)
    with config_context(distributed=True):
        clusterer.fit(blobs[0])
        monkeypatch.setenv("WORLD_SIZE", "2")
        with pytest.raises(ImportError, match='extra "accelerate"'):
            clusterer.fit(blobs[0])
    clusterer.fit(blobs[0])
