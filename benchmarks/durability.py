# SPDX-License-Identifier: BSD-3-Clause
"""Kill fits at random moments, resume them, and compare with one that was let be.

    python benchmarks/durability.py --kills 50 --json out.json

A small folder of pictures is clustered with `memory=` and `checkpoint=`, in a process
of its own, which is killed (SIGKILL, as by `kill -9`) and started again, until it ends;
then the next fit begins in new folders. The kills come at random moments of all phases:
the decoding, each stage, and the writing of checkpoints, of the cache and of results.
Printed is where they hit, and whether labels and probabilities are those of the fit
that was let be, to the bit, with no file left over.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image
from scan_bench.report import describe_run, print_header, print_table, write_json

from sklearn_scan import SCANClustering, TrainingConfig, config_context
from sklearn_scan._disk import _writing
from sklearn_scan._engine import Trainer, _cache
from sklearn_scan._inputs import _holding
from sklearn_scan.pretext import SimCLR

# In the order in which a fit comes to them: the phase, how often it may be entered
# before the kill, and within how many seconds the kill follows.
# One fit is killed at the first five, the next at the others.
_MOMENTS = (
    ("decoding", 5, 0.02),
    ("pretext", 0, 0.5),
    ("checkpoint", 5, 0.01),
    ("cache", 0, 0.02),
    ("head_search", 0, 0.3),
    ("clustering", 0, 0.5),
    ("checkpoint", 5, 0.01),
    ("self_labeling", 0, 0.5),
    ("cache", 0, 0.02),
    ("results", 0, 0.01),
)
_SIDE = 12
_N_PICTURES = 240
#: Files that a fit may leave behind.
_KEPT = ("*.pt", "*.sqlite", "*.pixels", "*.pkl", "*.json", "*.py", ".gitignore")


def draw_pictures(folder, seed=0):
    """Draw discs and bars of random colours as PNG files."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    down, across = np.mgrid[:_SIDE, :_SIDE] - _SIDE / 2 + 0.5
    for i in range(_N_PICTURES):
        kind = (down**2 + across**2 < 16, abs(down) < 2, abs(across) < 2)[i % 3]
        pixels = random.integers(0, 80, (_SIDE, _SIDE, 3))
        pixels[kind] += random.integers(100, 170, 3)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i:03d}.png")
        os.utime(folder / f"{i:03d}.png", (1e9, 1e9))


def make_clusterer(folder):
    few = TrainingConfig(epochs=4)
    return SCANClustering(
        3,
        K=5,
        n_heads=3,
        pretext=SimCLR(epochs=4, batch_size=64),
        head_search=few,
        clustering=few,
        self_labeling=few,
        threshold=0.5,
        keep="last",
        image_shape=(_SIDE, _SIDE, 3),
        memory=str(folder / "cache"),
        checkpoint=str(folder / "checkpoints"),
        random_state=0,
        verbose=0,
    )


def announce(phase):
    """Tell the process that kills where this one is."""
    os.write(1, f"{phase}\n".encode())


def announce_calls():
    """Let the library say which phase it enters."""
    _holding._CHUNK = 40
    tell(_holding.PixelStore, "_add", lambda *_: "decoding")
    tell(Trainer, "train", lambda trainer, stage, identity: stage.name)
    tell(_writing, "_claimed_part", lambda *_: "checkpoint")
    tell(_writing, "sync", lambda *_: "checkpoint")
    tell(_cache, "seal", lambda *_: "cache")


def tell(owner, name, find_phase):
    """Announce a phase whenever a function of a module or class is called."""
    function = getattr(owner, name)

    def told(*args):
        announce(find_phase(*args))
        return function(*args)

    setattr(owner, name, told)


def fit(pictures, folder):
    """Fit, and write what came of it; `run` does this in a new process."""
    announce_calls()
    with config_context(in_memory_bytes=0):
        clusterer = make_clusterer(folder).fit(pictures)
        probabilities = clusterer.predict_proba(pictures)
    announce("results")
    with _writing.whole_file(folder / "found.npz") as part:
        with open(part, "wb") as file:
            np.savez(file, labels=clusterer.labels_, probabilities=probabilities)
    announce("end")


def run(options, folder, kill=None):
    """Run `fit` in a process; kill it where and when `kill` says.

    Parameters
    ----------
    kill : tuple of str, int, float or None
        The phase, how often it is to be entered before, and how many seconds later.

    Returns
    -------
    phase : str or None
        Where it was killed; None where it came to its end.
    """
    told, tell = os.pipe()
    # Forked, before anything is computed: it need not import the libraries again.
    process = os.fork()
    if process == 0:
        os.close(told)
        os.dup2(tell, 1)
        run_child(options, folder)
    os.close(tell)
    here, n_left = None, None if kill is None else kill[1]
    with open(told) as lines:
        for line in lines:
            here = line.strip()
            if kill is not None and here == kill[0]:
                n_left -= 1
                if n_left < 0:
                    time.sleep(kill[2])
                    os.kill(process, signal.SIGKILL)
                    break
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"The fit in {folder} failed after {here!r}.")
    return None if code == 0 else here


def run_child(options, folder):
    """Fit, and end the process."""
    code = 1
    try:
        fit(options.pictures, folder)
        code = 0
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(code)


def find_stray(folder):
    """Return what a fit has left behind beside what it is to keep."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [
        str(path.relative_to(folder))
        for path in files
        if path.name != "found.npz" and not any(path.match(each) for each in _KEPT)
    ]


def read(folder):
    with np.load(folder / "found.npz") as found:
        return found["labels"], found["probabilities"]


def is_equal(found, expected):
    """Compare to the bit: also the sign of zeros, and NaN with NaN."""
    return all(a.tobytes() == b.tobytes() for a, b in zip(found, expected, strict=True))


def play(options, report):
    """Kill and resume one fit until it ends; add what was seen to the report."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, hits = Path(temporary), []
        random = np.random.default_rng([options.seed, len(report["fits"])])
        half = len(_MOMENTS) // 2
        is_odd = len(report["fits"]) % 2
        for phase, most, seconds in _MOMENTS[half:] if is_odd else _MOMENTS[:half]:
            moment = (
                int(random.integers(0, most + 1)),
                float(random.uniform(0, seconds)),
            )
            hit = run(options, folder, (phase, *moment))
            print(f"killed in {phase}" if hit else f"ended before {phase}", flush=True)
            if hit is not None:
                hits.append(hit)
        run(options, folder)
        report["fits"].append(
            {
                "hits": hits,
                "equal": is_equal(read(folder), report["expected"]),
                "stray": find_stray(folder),
            }
        )


def count_kills(report):
    return sum(len(fit["hits"]) for fit in report["fits"])


def summarise(report):
    fits = report["fits"]
    return {
        "kills": count_kills(report),
        "fits": len(fits),
        "equal to the bit": sum(fit["equal"] for fit in fits),
        "stray files": sum(len(fit["stray"]) for fit in fits),
        "by phase": dict(Counter(hit for fit in fits for hit in fit["hits"])),
    }


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, help="end early; --json goes on")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    begin, report = time.perf_counter(), {"fits": []}
    if options.json and options.json.exists():
        written = json.loads(options.json.read_text())
        report["fits"] = written["fits"]
    facts = describe_run("cpu")
    print_header("Durability", facts)
    with tempfile.TemporaryDirectory() as temporary:
        options.pictures = Path(temporary) / "pictures"
        draw_pictures(options.pictures)
        whole = Path(temporary) / "whole"
        run(options, whole)
        report["expected"] = read(whole)
        while count_kills(report) < options.kills:
            play(options, report)
            print(json.dumps(report["fits"][-1]), flush=True)
            if options.json:
                found = {"found": summarise(report), "fits": report["fits"]}
                write_json(options.json, {"run": facts} | found)
            minutes = (time.perf_counter() - begin) / 60
            if options.minutes is not None and minutes > options.minutes:
                break
    found = summarise(report)
    by_phase = found.pop("by phase")
    print()
    if by_phase:
        print_table(
            [{"kills in": name, "times": str(n)} for name, n in by_phase.items()]
        )
    print()
    print_table([{"found": name, "number": str(n)} for name, n in found.items()])
    return int(found["equal to the bit"] < found["fits"] or found["stray files"] > 0)


if __name__ == "__main__":
    sys.exit(main())
