# SPDX-License-Identifier: BSD-3-Clause
"""Fits in the threads of one process, and what torch shares between them."""

import multiprocessing
import sys
import threading
import time

import numpy as np
import pytest
import torch
from joblib import Parallel, delayed, parallel_config
from sklearn.datasets import load_digits
from sklearn.model_selection import KFold, cross_validate

from sklearn_scan import SCANClustering, TrainingConfig
from sklearn_scan._engine import Runtime
from sklearn_scan.pretext import DeepCluster, SimCLR

# A few epochs find no ten clusters; and a process that has threads may be forked.
pytestmark = [
    pytest.mark.filterwarnings("default::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("default:.*fork:DeprecationWarning"),
]

RUNTIME = Runtime.resolve("cpu", "float32")


@pytest.fixture(params=[torch.float32, torch.float64], ids=str)
def dtype(request):
    """Make a type torch's default; see to it that it stays that."""
    torch.set_default_dtype(request.param)
    try:
        yield request.param
        assert torch.get_default_dtype() == request.param
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.fixture
def switching():
    """Let threads take turns often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def quick(seed=0, pretext=None, **params):
    return SCANClustering(
        3,
        n_heads=3,
        pretext=pretext or SimCLR(epochs=3, batch_size=32),
        head_search=TrainingConfig(epochs=3, batch_size=16),
        clustering=TrainingConfig(epochs=2, batch_size=16),
        self_labeling=TrainingConfig(epochs=2, batch_size=16),
        threshold=0.1,
        random_state=seed,
        **params,
    )


IMAGES = load_digits().images[:90]


def fit_and_answer(seed, **params):
    clusterer = quick(seed, **params).fit(IMAGES)
    return (
        clusterer.embedding_,
        clusterer.confidence_,
        clusterer.predict_proba(IMAGES),
        clusterer.transform(IMAGES),
        clusterer.score(IMAGES),
    )


def assert_same(first, second):
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_fits_in_threads_are_those_of_fits_alone(dtype, switching):
    alone = [fit_and_answer(seed) for seed in range(3)]
    generator = torch.get_rng_state()
    with parallel_config(backend="threading", n_jobs=3):
        together = Parallel()(delayed(fit_and_answer)(seed) for seed in range(3))
    for one, other in zip(alone, together, strict=True):
        assert_same(one, other)
    assert torch.equal(torch.get_rng_state(), generator)


def test_a_pretext_with_a_loop_of_its_own_in_threads(switching):
    def embed(seed):
        pretext = DeepCluster(epochs=2, batch_size=32, random_state=seed)
        return pretext.fit_transform(IMAGES)

    alone = [embed(seed) for seed in range(2)]
    with parallel_config(backend="threading", n_jobs=2):
        assert_same(alone, Parallel()(delayed(embed)(seed) for seed in range(2)))


def test_threads_share_a_cache(tmp_path, switching):
    alone = fit_and_answer(0)
    with parallel_config(backend="threading", n_jobs=3):
        together = Parallel()(
            delayed(fit_and_answer)(0, memory=str(tmp_path)) for _ in range(3)
        )
    for other in together:
        assert_same(alone, other)


def test_cross_validation_in_threads(dtype, switching):
    cv = KFold(3, shuffle=True, random_state=0)
    alone = cross_validate(quick(), IMAGES, cv=cv, error_score="raise")
    with parallel_config(backend="threading", n_jobs=3):
        together = cross_validate(quick(), IMAGES, cv=cv, error_score="raise")
    np.testing.assert_array_equal(alone["test_score"], together["test_score"])


def test_a_fit_within_a_fit_does_not_wait_for_a_thread_that_waits_for_it(tmp_path):
    # As a callback may do, while another thread wants the same pretext.
    trains, answers = threading.Event(), []

    def fit():
        answers.append(quick(memory=str(tmp_path)).fit(IMAGES).labels_)

    def fit_within():
        with RUNTIME.isolated(0):
            trains.set()
            time.sleep(1)
            fit()

    threads = [threading.Thread(target=f, daemon=True) for f in (fit_within, fit)]
    threads[0].start()
    trains.wait()
    threads[1].start()
    for thread in threads:
        thread.join(timeout=120)
    np.testing.assert_array_equal(*answers)


# What all that stands on: `Runtime.isolated`.


def draw(seed, n_draws=50):
    with RUNTIME.isolated(seed):
        drawn = [torch.rand(2) for _ in range(n_draws)]
        with RUNTIME.isolated(seed + 1):
            drawn += [torch.rand(2) for _ in range(n_draws)]
        drawn += [torch.rand(2) for _ in range(n_draws)]
    return torch.stack(drawn)


def test_the_context_may_be_nested_and_entered_by_several_threads(dtype, switching):
    alone = [draw(seed) for seed in range(8)]
    generator = torch.get_rng_state()
    with parallel_config(backend="threading", n_jobs=4):
        together = Parallel()(delayed(draw)(seed) for seed in range(8))
    assert all(map(torch.equal, alone, together))
    assert {drawn.dtype for drawn in together} == {torch.float32}
    assert torch.equal(torch.get_rng_state(), generator)


def test_after_an_exception_the_next_thread_has_its_turn(dtype):
    with pytest.raises(KeyboardInterrupt), RUNTIME.isolated(0), RUNTIME.isolated(1):
        raise KeyboardInterrupt
    generator = torch.get_rng_state()
    drawn = []
    thread = threading.Thread(target=lambda: drawn.append(draw(0)), daemon=True)
    thread.start()
    thread.join(timeout=60)
    assert torch.equal(drawn[0], draw(0))
    assert torch.equal(torch.get_rng_state(), generator)


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="there is no fork"
)
@pytest.mark.parametrize("forks_in", ["another thread", "the thread that trains"])
def test_a_forked_process_does_not_wait_for_threads_that_it_has_not(forks_in):
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=lambda: queue.put(draw(0).tolist()), daemon=True)
    entered, forked = threading.Event(), threading.Event()

    def train():
        with RUNTIME.isolated(5):
            if forks_in == "the thread that trains":
                child.start()
            entered.set()
            forked.wait()

    thread = threading.Thread(target=train)
    thread.start()
    entered.wait()
    if forks_in == "another thread":
        child.start()
    forked.set()
    thread.join()
    child.join(timeout=60)
    try:
        assert child.exitcode == 0
        assert queue.get() == draw(0).tolist()
    finally:
        child.kill()
