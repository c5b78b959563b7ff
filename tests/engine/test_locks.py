# SPDX-License-Identifier: BSD-3-Clause
"""Lock files of the cache."""

import multiprocessing
import threading
import time

import pytest
from sklearn.decomposition import PCA

from sklearn_scan import SCANClustering, TrainingConfig
from sklearn_scan._disk._lock import hold
from sklearn_scan.pretext import SimCLR

pytestmark = [
    pytest.mark.filterwarnings("default::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("default:.*fork:DeprecationWarning"),
]

CAN_FORK = "fork" in multiprocessing.get_all_start_methods()


def quick(folder, pretext=None):
    once = TrainingConfig(epochs=1)
    return SCANClustering(
        3,
        pretext=pretext or SimCLR(epochs=1),
        head_search=once,
        clustering=once,
        self_labeling=once,
        threshold=0.1,
        memory=str(folder),
        random_state=0,
    )


def lock(folder):
    return hold(folder / "sklearn_scan-it.lock")


def add_one(folder, n_times):
    """Add to a number in a file, in a way that needs the lock."""
    counter = folder / "counter.txt"
    for _ in range(n_times):
        with lock(folder):
            number = int(counter.read_text())
            time.sleep(1e-4)
            counter.write_text(str(number + 1))


@pytest.mark.parametrize("pretext", [None, PCA(3)], ids=["SimCLR", "PCA"])
def test_a_fit_leaves_no_lock_file(digits, tmp_path, pretext):
    quick(tmp_path, pretext).fit(digits[0][:60])
    assert list(tmp_path.rglob("*.lock")) == []


@pytest.mark.parametrize("stage", ["pretext", "clustering"])
def test_a_fit_that_failed_leaves_no_lock_file(digits, tmp_path, monkeypatch, stage):
    from sklearn_scan._engine import Trainer

    seen = []
    train = Trainer.train

    def fail(trainer, asked, identity):
        if asked.name != stage:
            return train(trainer, asked, identity)
        seen.extend(tmp_path.rglob("*.lock"))
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "train", fail)
    with pytest.raises(KeyboardInterrupt):
        quick(tmp_path).fit(digits[0][:60])
    assert len(seen) == 1
    assert list(tmp_path.rglob("*.lock")) == []


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_lock_that_is_deleted_lets_in_one_at_a_time(tmp_path, kind):
    if kind == "process" and not CAN_FORK:
        pytest.skip("there is no fork")
    (tmp_path / "counter.txt").write_text("0")
    # Processes that are forked import nothing, and so are at work together.
    make = threading.Thread
    if kind == "process":
        make = multiprocessing.get_context("fork").Process
    workers = [make(target=add_one, args=(tmp_path, 100)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (tmp_path / "counter.txt").read_text() == "400"
    assert list(tmp_path.rglob("*.lock")) == []


@pytest.mark.skipif(not CAN_FORK, reason="there is no fork")
def test_who_waits_does_not_wait_for_forked_processes(tmp_path):
    context = multiprocessing.get_context("fork")
    child = context.Process(target=time.sleep, args=(60,), daemon=True)
    entered = threading.Event()

    def wait():
        with lock(tmp_path):
            entered.set()

    thread = threading.Thread(target=wait, daemon=True)
    try:
        with lock(tmp_path):
            thread.start()
            time.sleep(0.2)
            child.start()
            assert not entered.is_set()
        assert entered.wait(timeout=20)
        thread.join()
    finally:
        child.kill()
    assert list(tmp_path.rglob("*.lock")) == []


def test_where_no_lock_can_be_had_the_work_goes_on(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def refuse(descriptor, operation):
        raise OSError("no locks on this file system")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with lock(tmp_path):
        pass
