# SPDX-License-Identifier: BSD-3-Clause
"""Files that are whole or not there; damaged ones; full and forbidden folders."""

import errno
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest

from sklearn_scan import SCANClustering, TrainingConfig, _disk
from sklearn_scan._disk import DamagedFileError, _writing, read_checked, write_checked
from sklearn_scan._disk._writing import PART, check_writable, whole_file
from sklearn_scan._engine import RowStore, StageCache, _cache
from sklearn_scan._engine._net import StageNet
from sklearn_scan.pretext import SimCLR

POSIX = pytest.mark.skipif(os.name == "nt", reason="Windows has no such thing")

DIES = """
import os, signal, sys
from pathlib import Path
from sklearn_scan._disk import hold, whole_file

folder = Path(sys.argv[1])
with hold(folder / "sklearn_scan-it.lock"), whole_file(folder / "a.txt") as part:
    part.write_text("half of i")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder):
    return sorted(path.name for path in folder.rglob("*"))


@pytest.fixture
def full(monkeypatch):
    """Let the disk be full when files are to be on it."""

    def fail(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    return monkeypatch


def test_a_file_takes_its_place_when_it_is_written(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    with whole_file(path) as part:
        part.write_text("after")
        assert path.read_text() == "before"
        assert names(tmp_path) == sorted([part.name, "a.txt"])
    assert path.read_text() == "after"
    assert names(tmp_path) == ["a.txt"]


def test_a_file_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    order, path = [], tmp_path / "a.txt"

    def note(name):
        function = getattr(os, name)

        def noted(*args):
            order.append(name)
            return function(*args)

        monkeypatch.setattr(os, name, noted)

    note("fsync")
    note("replace")
    with whole_file(path) as part:
        part.write_text("it")
    assert order[:2] == ["fsync", "replace"]


@POSIX
def test_what_a_killed_process_leaves_is_swept(tmp_path):
    (tmp_path / "a.txt").write_text("before")
    done = subprocess.run([sys.executable, "-c", DIES, tmp_path], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 3, "a.txt, its part and the lock"
    assert (tmp_path / "a.txt").read_text() == "before"
    with _disk.hold(tmp_path / "sklearn_scan-another.lock"):
        assert names(tmp_path)[1:] == ["a.txt", "sklearn_scan-another.lock"]
    with whole_file(tmp_path / "b.txt") as part:
        part.write_text("b")
    assert names(tmp_path) == ["a.txt", "b.txt"]


@POSIX
def test_what_a_living_process_writes_is_not_swept(tmp_path):
    with whole_file(tmp_path / "a.txt") as part:
        part.write_text("a")
        thread = threading.Thread(target=_write, args=(tmp_path / "b.txt",))
        thread.start()
        thread.join()
        assert part.exists()
    assert names(tmp_path) == ["a.txt", "b.txt"]


def _write(path):
    with whole_file(path) as part:
        part.write_text("b")


def test_files_of_others_are_not_swept(tmp_path):
    others = [f"mine{PART}", ".part", "my.lock", "sklearn_scan.lock", ".a.scan-parts"]
    for name in others:
        (tmp_path / name).write_text("")
    _write(tmp_path / "b.txt")
    with _disk.hold(tmp_path / "sklearn_scan-it.lock"):
        pass
    assert names(tmp_path) == sorted([*others, "b.txt"])


def test_a_full_disk_is_explained_and_harms_nothing(tmp_path, full):
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(OSError) as caught, whole_file(path) as part:
        part.write_text("after")
    assert str(caught.value) == (
        f"Cannot write {str(path)!r}: No space left on device. Make room on that disk, "
        "or choose a folder on another one. What was there before is as it was."
    )
    assert caught.value.errno == errno.ENOSPC
    assert path.read_text() == "before"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(
    ("code", "kind", "reason"),
    [
        (errno.EACCES, PermissionError, "Permission denied"),
        (errno.EROFS, OSError, "Read-only file system"),
    ],
)
def test_a_forbidden_folder_is_explained(tmp_path, monkeypatch, code, kind, reason):
    def refuse(path, *args, **kwargs):
        raise OSError(code, os.strerror(code), path)

    monkeypatch.setattr(_writing.os, "open", refuse)
    with pytest.raises(kind) as caught:
        check_writable(tmp_path, "It is the folder of checkpoint=.")
    assert str(caught.value) == (
        f"Cannot write {str(tmp_path)!r}: {reason}. Choose a folder that you may write "
        "to, or allow it. It is the folder of checkpoint=."
    )


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has other rights")
def test_a_folder_without_permission_is_explained(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("the superuser may write everywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="Choose a folder that you may write to"):
        _write(tmp_path / "a.txt")


def test_a_name_may_be_as_long_as_names_can_be(tmp_path):
    _write(tmp_path / ("n" * 255))
    assert names(tmp_path) == ["n" * 255]


@pytest.mark.parametrize("damage", ["bit", "torn", "empty", "head"])
def test_damaged_content_is_recognised(tmp_path, damage):
    path = tmp_path / "a"
    write_checked(path, b"some content")
    assert bytes(read_checked(path)) == b"some content"
    content = bytearray(path.read_bytes())
    if damage == "bit":
        content[-1] ^= 1
    content = {"torn": content[:-1], "empty": b""}.get(damage, content)
    path.write_bytes(content[1:] if damage == "head" else content)
    with pytest.raises(DamagedFileError, match="checksum"):
        read_checked(path)


# --- the cache ---------------------------------------------------------------------

CALLS = []


def double(x, scale):
    CALLS.append(scale)
    return {"rows": x * 2, "names": ["a"], "scale": scale}


# In the cache, one's own results are known by the name of the package.
double.__module__ = "sklearn_scan.double"


def fetch(folder, x):
    return StageCache.open(folder).fetch(double, x, 3, lock=lambda: "it")


def damage(path, place=0.5):
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 255
    path.write_bytes(content)


@pytest.mark.parametrize("place", [0.5, 0.02], ids=["an array", "the pickle"])
def test_a_damaged_result_of_the_cache_is_computed_anew(tmp_path, place):
    x = np.arange(3000.0)
    CALLS.clear()
    for _ in range(2):
        found = fetch(tmp_path, x)
    assert CALLS == [3]
    (kept,) = tmp_path.rglob("output.pkl")
    damage(kept, place)
    with pytest.warns(UserWarning, match=r"holds a damaged result of 'double'.*anew"):
        again = fetch(tmp_path, x)
    np.testing.assert_array_equal(again["rows"], found["rows"])
    assert CALLS == [3, 3]
    np.testing.assert_array_equal(fetch(tmp_path, x)["rows"], 2 * x)
    assert CALLS == [3, 3]


def test_a_result_that_was_read_can_be_written_to(tmp_path):
    for _ in range(2):
        found = fetch(tmp_path, np.zeros(3))
    found["rows"] += 1


@pytest.mark.filterwarnings("ignore:Unable to cache to disk")
def test_a_result_that_cannot_be_kept_is_returned(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    fetch(tmp_path, np.zeros(2))
    monkeypatch.setattr("joblib._store_backends.concurrency_safe_rename", fail)
    store = "joblib._store_backends.FileSystemStoreBackend._move_item"
    monkeypatch.setattr(store, staticmethod(fail))
    np.testing.assert_array_equal(fetch(tmp_path, np.ones(2))["rows"], [2, 2])
    assert not list(tmp_path.rglob("*.pkl.*")), "what was written of it is deleted"


@POSIX
def test_what_joblib_left_in_a_dead_process_is_swept(tmp_path):
    fetch(tmp_path, np.zeros(2))
    (kept,) = tmp_path.rglob("output.pkl")
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    for process in (child.pid, os.getpid()):
        kept.with_name(f"output.pkl.{'0' * 32}-{process}-1").write_text("")
    StageCache.open(tmp_path).sweep()
    (left,) = kept.parent.glob("*.pkl.*")
    assert f"-{os.getpid()}-" in left.name, "another thread of ours is writing"


def test_the_pattern_is_that_of_joblib(tmp_path):
    from joblib._store_backends import concurrency_safe_write

    written = concurrency_safe_write("", str(tmp_path / "output.pkl"), _touch)
    found = _cache._UNFINISHED_FILE.search(written)
    assert _cache._is_abandoned(*map(int, found.groups())), "of this thread"
    assert not _cache._is_abandoned(os.getppid(), 1)


def _touch(content, path):
    Path(path).write_text(content)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"Cannot write .*file.*folder of memory="):
        StageCache.open(tmp_path / "file" / "cache")


def test_damaged_features_are_computed_anew(tmp_path):
    store = RowStore(tmp_path, "it")
    store.keep([b"a", b"b"], np.eye(2))
    store.table._run(
        "write",
        lambda data: data.execute(
            "UPDATE checked_features SET row = x'00000000' WHERE digest = ?", (b"a",)
        ),
    )
    with pytest.warns(UserWarning, match="holds 1 damaged rows of features"):
        found = store.fetch([b"a", b"b"])
    assert found.keys() == {b"b"}
    np.testing.assert_array_equal(found[b"b"], [0, 1])


# --- checkpoints -------------------------------------------------------------------


@pytest.fixture
def begun(images, tmp_path):
    """Return a folder with a pretext that was interrupted after two of its epochs."""
    clusterer = make(tmp_path).set_callbacks(StopAfter(2))
    with pytest.raises(Stop):
        clusterer.fit(images)
    return tmp_path


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)


@pytest.fixture(scope="module")
def whole(images):
    """Return a fit that nothing disturbed."""
    return make(None).fit(images)


class Stop(Exception):
    """Ends a fit as a fault would."""


class StopAfter:
    def __init__(self, n_epochs):
        self.n_left = n_epochs

    def setup(self, estimator, context):
        pass

    on_fit_task_begin = teardown = setup

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "epoch":
            self.n_left -= 1
            if self.n_left == 0:
                raise Stop


def make(checkpoint, **params):
    return SCANClustering(
        2,
        K=3,
        n_heads=2,
        pretext=SimCLR(epochs=4),
        head_search=TrainingConfig(epochs=1),
        clustering=None,
        self_labeling=None,
        checkpoint=checkpoint,
        random_state=0,
        **params,
    )


def fit_counted(checkpoint, images, **params):
    """Fit; return the clusterer, and how many epochs were trained."""
    trained, end_epoch = [], StageNet.on_epoch_end

    def count(*args, **kwargs):
        trained.append(1)
        end_epoch(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StageNet, "on_epoch_end", count)
        clusterer = make(checkpoint, **params).fit(images)
    return clusterer, len(trained)


@pytest.mark.parametrize(
    ("damaged", "n_trained"),
    [((), 3), (("last",), 4), (("last", "before"), 5)],
    ids=["none", "last", "both"],
)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    begun, images, whole, damaged, n_trained
):
    before, last = sorted(
        begun.glob("*.pt"), key=lambda path: "before" not in path.name
    )
    assert before.name == f"{last.stem}.before.pt"
    for name in damaged:
        damage(last if name == "last" else before)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        resumed, n_epochs = fit_counted(begun, images)
    said = [str(each.message) for each in caught if "checkpoint" in str(each.message)]
    assert len(said) == len(damaged)
    for message, path in zip(said, (last, before), strict=False):
        assert repr(str(path)) in message and "is damaged" in message
    assert n_epochs == n_trained
    assert resumed.confidence_.tobytes() == whole.confidence_.tobytes()
    assert not list(begun.glob("*before*")), "deleted when the stage ends"


def test_a_full_disk_leaves_the_last_checkpoint(begun, images, whole, full):
    with pytest.raises(OSError) as caught:
        make(begun).fit(images)
    full.undo()
    (last,) = begun.glob("*[0-9a-f].before.pt")
    path = last.with_name(last.name.replace(".before", ""))
    assert str(caught.value).startswith(
        f"Cannot write {str(path)!r}: No space left on device. Make room on that disk"
    )
    assert "goes on from there" in str(caught.value)
    assert names(begun) == [last.name]
    resumed, n_epochs = fit_counted(begun, images)
    assert n_epochs == 3
    assert resumed.confidence_.tobytes() == whole.confidence_.tobytes()


def test_a_folder_that_cannot_be_written_is_seen_before_training(images, tmp_path):
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "checkpoints"
    trained = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StageNet, "train_step", lambda *args, **kwargs: trained.append(1))
        with pytest.raises(OSError, match=r"Cannot write .*It is the folder of check"):
            make(folder).fit(images)
    assert not trained


FITS = """
import sys
import numpy as np
sys.path.insert(0, {tests!r})
from test_writing import fit_counted
X = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
clusterer, n_epochs = fit_counted(sys.argv[1], X)
print(n_epochs, clusterer.confidence_.tobytes().hex())
"""


def test_two_processes_with_one_checkpoint_train_once(tmp_path, whole):
    script = FITS.format(tests=str(Path(__file__).parent))
    command = [sys.executable, "-c", script, str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in "ab"]
    found = [process.communicate()[0].split() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum(int(n_epochs) for n_epochs, _ in found) == 5
    assert {text for _, text in found} == {whole.confidence_.tobytes().hex()}
    assert all(path.suffix == ".pt" for path in tmp_path.iterdir())
