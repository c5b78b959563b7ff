# SPDX-License-Identifier: BSD-3-Clause
"""Reproducibility, global state that is given back, interrupts, progress, callbacks."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.callback import ProgressBar
from sklearn.model_selection import GridSearchCV

from sklearn_scan import SCANClustering, TrainingConfig
from sklearn_scan.pretext import SimCLR

pytestmark = pytest.mark.filterwarnings(
    "default::sklearn.exceptions.ConvergenceWarning"
)

STAGES = ("pretext", "head_search", "clustering", "self_labeling")

FIT = """
import warnings
import numpy as np
from sklearn.datasets import load_digits
from sklearn_scan import SCANClustering, TrainingConfig
from sklearn_scan.pretext import SimCLR
warnings.simplefilter("ignore")
clusterer = SCANClustering(
    pretext=SimCLR(epochs=2), head_search=TrainingConfig(epochs=5),
    clustering=TrainingConfig(epochs=1), self_labeling=TrainingConfig(epochs=1),
    threshold=0.1, random_state=0,
).fit(load_digits().images[:150])
print(clusterer.labels_.tolist(), clusterer.confidence_.tolist())
"""


def all_stages(**params):
    params = {"n_heads": 2} | params
    return SCANClustering(
        pretext=SimCLR(epochs=3),
        head_search=TrainingConfig(epochs=5),
        clustering=TrainingConfig(epochs=2),
        self_labeling=TrainingConfig(epochs=2),
        threshold=0.1,
        random_state=0,
        **params,
    )


@pytest.fixture
def images(digits):
    return digits[0][:150]


# Reproducibility.


def test_the_same_seed_gives_the_same_labels(images, device):
    if device != "cpu":
        pytest.skip("promised to the bit on a CPU alone")
    first, second = all_stages().fit(images), all_stages().fit(images)
    np.testing.assert_array_equal(first.labels_, second.labels_)
    np.testing.assert_array_equal(first.confidence_, second.confidence_)
    third = all_stages().set_params(random_state=1).fit(images)
    assert not np.array_equal(first.confidence_, third.confidence_)


def test_the_same_seed_gives_the_same_labels_in_two_processes(capsys):
    exec(FIT, {})
    here = capsys.readouterr().out
    there = subprocess.run(
        [sys.executable, "-c", FIT], capture_output=True, text=True, check=True
    ).stdout
    assert there == here


def test_a_generator_moves_on(images):
    generator = np.random.RandomState(0)
    clusterer = all_stages().set_params(random_state=generator)
    first = clusterer.fit(images).confidence_
    assert not np.array_equal(first, clusterer.fit(images).confidence_)


# Global state.


def global_state():
    """Return what `fit` must give back."""
    return (
        torch.get_rng_state().tolist(),
        str(np.random.get_state()),  # noqa: NPY002
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.get_default_dtype(),
        torch.backends.cudnn.benchmark,
    )


class Raise:
    """A callback that raises at the first epoch of a stage."""

    def __init__(self, stage, error):
        self.stage = stage
        self.error = error

    def setup(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "epoch" and context.parent.task_name == self.stage:
            raise self.error

    def teardown(self, estimator, context):
        self.was_torn_down = True


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_interrupt_leaves_fit_at_once_and_all_as_it_was(images, stage, error):
    torch.manual_seed(3)
    before = global_state()
    callback = Raise(stage, error)
    clusterer = all_stages().set_callbacks(callback)
    with pytest.raises(error):
        clusterer.fit(images)
    assert global_state() == before
    assert callback.was_torn_down
    assert not hasattr(clusterer, "labels_")
    started = [name for name in STAGES if clusterer.history_.get(name)]
    assert started == list(STAGES[: STAGES.index(stage) + 1])


def test_fit_and_predict_leave_all_as_it_was(images):
    torch.manual_seed(4)
    with torch.no_grad():
        before = global_state()
        clusterer = all_stages().fit(images)
        clusterer.predict(images)
        assert global_state() == before
    with torch.inference_mode():
        labels = all_stages().fit(images).labels_
    np.testing.assert_array_equal(labels, clusterer.labels_)


def test_the_data_are_left_as_they_were(images):
    copy = images.copy()
    copy.flags.writeable = False
    all_stages().fit(copy)
    np.testing.assert_array_equal(copy, images)


# Progress.


def fit_and_read(capsys, images, **params):
    """Return a fitted clusterer, and the lines that it has printed."""
    clusterer = all_stages(**params).fit(images)
    captured = capsys.readouterr()
    assert captured.err == ""
    return clusterer, captured.out.splitlines()


def test_verbose_prints_a_line_per_stage_and_changes_nothing(images, capsys):
    silent, nothing = fit_and_read(capsys, images)
    clusterer, lines = fit_and_read(capsys, images, verbose=1)
    assert nothing == []
    titles = [line.split()[:2] for line in lines]
    expected = ["pretext", "neighbors", *STAGES[1:], "fit"]
    assert titles == [["[SCANClustering]", title] for title in expected]
    assert max(map(len, lines)) <= 80
    found, confident = (
        clusterer.history_[stage][-1][name]
        for stage, name in (("pretext", "found"), ("self_labeling", "confident"))
    )
    assert " 3 epochs " in lines[0] and lines[0].endswith(f"  found {found:.3f}")
    assert lines[-2].endswith(f"  confident {confident:.3f}")
    n_sure = clusterer.history_["calibration"][0]["confident"]
    assert lines[-1].endswith(f"clusters  confident {n_sure:.3f}")
    for records in (*clusterer.history_.values(), *silent.history_.values()):
        for record in records:
            record.pop("seconds", None)
    assert clusterer.history_ == silent.history_


def test_verbose_2_prints_a_line_per_epoch_with_the_time_left(images, capsys):
    _, lines = fit_and_read(capsys, images, verbose=2)
    epochs = [line for line in lines if " epoch" in line]
    assert len(epochs) == 3 + 5 + 2 + 2
    assert epochs[0].startswith("[SCANClustering] pretext       1/3 epochs ")
    assert " s, " in epochs[0] and " s left  loss " in epochs[0]
    assert "  entropy " in epochs[4]
    assert " left" not in epochs[-1]


def test_a_pretext_on_its_own_prints_its_line(images, capsys):
    SimCLR(epochs=1).fit(images)
    assert capsys.readouterr().out == ""
    SimCLR(epochs=2, verbose=1).fit(images).transform(images)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("[SimCLR] pretext         2 epochs ")


class Record:
    """A callback that writes down the tasks, and may stop a stage."""

    def __init__(self, stop=None):
        self.stop = stop
        self.begun, self.ended = [], []

    def setup(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        self.begun.append((context.task_name, context.max_subtasks))

    def on_fit_task_end(self, estimator, context):
        self.ended.append(context.task_name)
        return context.task_name == "epoch" and context.parent.task_name == self.stop

    def teardown(self, estimator, context):
        pass


def test_callbacks_see_the_stages(images):
    record = Record()
    all_stages().set_callbacks(record).fit(images)
    stages = [task for task in record.begun if task[0] != "epoch"]
    assert stages[0][0] == "fit"
    assert stages[1:] == [
        ("pretext", 3),
        ("head_search", 5),
        ("clustering", 2),
        ("self_labeling", 2),
    ]
    assert sorted(record.ended) == sorted(name for name, _ in record.begun)


@pytest.mark.parametrize("stage", STAGES)
def test_a_callback_may_stop_a_stage(images, stage):
    clusterer = all_stages().set_callbacks(Record(stop=stage)).fit(images)
    lengths = {"pretext": 3, "head_search": 5, "clustering": 2, "self_labeling": 2}
    lengths[stage] = 1
    assert {name: len(clusterer.history_[name]) for name in STAGES} == lengths
    assert clusterer.labels_.shape == (len(images),)


def test_progress_bars_nest_in_a_search(images, capsys):
    search = GridSearchCV(all_stages(), {"K": [3, 5]}, cv=2)
    search.set_callbacks(ProgressBar()).fit(images)
    assert "GridSearchCV" in capsys.readouterr().out


def test_a_fitted_clusterer_with_callbacks_is_cloned(images):
    clusterer = all_stages().set_callbacks(Record())
    clone(clusterer).fit(images)


# Imports.


def test_the_import_is_light():
    code = (
        "import sys, sklearn_scan; heavy = {'torchvision', 'faiss', 'matplotlib'} "
        " & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
