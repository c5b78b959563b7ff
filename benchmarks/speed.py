# SPDX-License-Identifier: BSD-3-Clause
"""How fast the library is: against the limits of the machine, and against plain code.

    python benchmarks/speed.py --parts stages --json speed.json
    python benchmarks/speed.py --parts digits mining import
    python benchmarks/speed.py --parts embedding --cifar10 cifar10.npz

Parts:

* ``stages``: training steps on 32 x 32 images with a ResNet-18 (3 x 3 stem).
  *floor* is the rate at which the machine's best matrix product, in the precision of
  the library, would do the products and convolutions of a step, and nothing else; *net
  alone* is torch's forward and backward pass of that network, without the library's
  convolutions; *plain* is the published recipe in straightforward PyTorch
  (`scan_bench/speed_plain.py`). Then the share of each part of a step.
* ``answers``: `predict_proba` and `transform` of that network, images per second,
  against plain PyTorch in float32.
* ``digits``: the same shares for the default fit of the digits, stage by stage.
* ``mining``: `mine_neighbors` against faiss used directly; beyond 100,000 rows, recall
  and time against exact search, which is extrapolated from some of the queries.
* ``embedding``: a fit of rows against ``KMeans(n_init=10)``, time and accuracy.
* ``grid``: a `GridSearchCV` of 8 candidates and 2 folds, without `memory=`, with an
  empty folder (one candidate after the other, and two side by side), and a full one.
* ``import``: what importing costs beyond importing torch.
* ``rounding``: how far answers in bfloat16 agree with those in float32.
* ``convolutions``: convolutions of small images as products, and gradients of weights
  where the CPU has tiles for matrices, against torch's.

`--profile DIR` writes a trace of a few steps of each stage, and prints which kernels
the time went to. All ratios are of one run: absolute figures differ from machine to
machine, and on a busy one from minute to minute.
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from scan_bench import data_sets
from scan_bench import speed_plain as plain
from scan_bench.report import (
    describe_run,
    print_header,
    print_table,
    print_target,
    write_json,
)
from scan_bench.speed_ceilings import Ceilings, NetAlone, count_flops, synchronize
from scan_bench.speed_convolutions import measure_convolutions
from scan_bench.speed_rounding import measure_rounding
from scan_bench.speed_rows import measure_embeddings, measure_mining
from scan_bench.speed_shares import PARTS, watch
from scipy.ndimage import gaussian_filter
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from sklearn_scan import SCANClustering, TrainingConfig
from sklearn_scan._devices import has_tiles
from sklearn_scan._engine import Runtime
from sklearn_scan.metrics import hungarian_accuracy_scorer
from sklearn_scan.pretext import SimCLR

ENCODER = "resnet18_cifar"
# What a stage is given, in units of its forward pass and of its training step.
STAGES = {"simclr": (0, 2), "clustering": (0, 2), "self_labeling": (1, 1)}
TARGETS = {
    "simclr": (0.90, 3.0),
    "clustering": (0.85, 2.5),
    "self_labeling": (0.85, 2.5),
}
# Kernels of cuBLAS, CUTLASS and cuDNN, and the operators of the CPU.
_PRODUCTS = re.compile(
    r"gemm|conv|cutlass|wgrad|dgrad|fprop|::(b|add)?mm$|addbmm|baddbmm", re.IGNORECASE
)
# How often a fitted model is asked.
_N_TURNS = 3
IN_LIBRARY = {"simclr": "pretext", "clustering": "clustering"}


def make_images(n, side=32):
    """Return smooth random pictures: what is in them takes no time."""
    random = np.random.default_rng(0)
    images = np.empty((n, side, side, 3), dtype=np.uint8)
    # Part by part, so that making them takes no memory that is measured.
    for part in np.array_split(images, -(-n // 1000)):
        smooth = gaussian_filter(random.normal(size=part.shape), sigma=(0, 2, 2, 0))
        part[:] = (128 + 300 * smooth).clip(0, 255)
    return images


def random_neighbors(n, K=20):
    return np.random.default_rng(0).integers(0, n, size=(n, K))


# Training steps.


def measure_stages(options, ceilings):
    """Measure each stage of the library, of the plain baseline, and of neither."""
    images = make_images(options.batch_size * options.steps)
    forward, training = count_flops(plain.resnet18_for_small_images(), (3, 32, 32))
    print(
        f"\nThe net: {training / 1e9:.2f} GFLOP per image, {forward / 1e9:.2f} forward."
    )
    runtime = Runtime.resolve(options.device, options.precision)
    batch = (2 * options.batch_size, 3, 32, 32)
    net = NetAlone(plain.resnet18_for_small_images(), batch, runtime)
    rows, shares, results = [], [], []
    for stage, (n_forward, n_training) in STAGES.items():
        ceilings.measure()
        rate, stopwatch = run_library(stage, images, options)
        alone = net.seconds()
        baseline = plain.PLAIN_STAGES[stage](
            images, random_neighbors(len(images)), runtime.device
        ).train(2 * options.steps, options.batch_size)
        ceilings.measure()
        work = n_forward * forward + n_training * training
        floor = ceilings.flops(runtime.precision) / work
        seconds = n_forward * alone["forward"] + n_training * alone["training"]
        result = {"stage": stage, "library": rate, "plain": baseline, "floor": floor}
        result["net alone"] = 1 / seconds
        in_library = IN_LIBRARY.get(stage, stage)
        results.append(result | {"shares": stopwatch.shares(in_library)})
        rows.append(describe_rate(result))
        shares.append({"stage": stage} | format_shares(results[-1]["shares"]))
    print(
        f"\nSamples per second, batches of {options.batch_size}, {runtime.precision}\n"
    )
    print_table(rows)
    print("\nMachine, best seen: " + describe_ceilings(ceilings) + "\n")
    print_table(shares)
    print()
    return {"stages": results, "ceilings": ceilings.best} | {
        "targets": check_stages(results)
    }


def run_library(stage, images, options):
    """Return samples per second, without the first epoch, and the shares."""
    with watch(options.device) as stopwatch:
        history = fit_stage(stage, images, options).history_
    if torch.device(options.device).type == "cuda":
        # The stopwatch waits for the device, the library does not.
        history = fit_stage(stage, images, options).history_
    if stage != "simclr":
        history = history[IN_LIBRARY.get(stage, stage)]
    ends = [record["seconds"] for record in history]
    epochs = [len(images) / (b - a) for a, b in pairwise(ends)]
    return statistics.median(epochs), stopwatch


def fit_stage(stage, images, options):
    """Fit an estimator whose training is the stage."""
    shared = {"device": options.device, "precision": options.precision}
    shared |= {"batch_size": options.batch_size, "random_state": 0}
    epochs = options.epochs if stage == "simclr" else 1
    pretext = SimCLR(encoder=ENCODER, views="photo", epochs=epochs, **shared)
    if stage == "simclr":
        return pretext.fit(images)
    training = TrainingConfig(views="strong", epochs=options.epochs)
    once = TrainingConfig(views="none", epochs=1, freeze_encoder=True)
    clusterer = SCANClustering(
        pretext=FrozenEstimator(pretext.fit(images[: options.batch_size])),
        # Neither may stop the other.
        threshold=0.01,
        keep="last",
        head_search=None,
        clustering=training if stage == "clustering" else once,
        self_labeling=training if stage == "self_labeling" else None,
        **shared,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return clusterer.fit(images, neighbors=random_neighbors(len(images)))


def measure_answers(options):
    """Measure `predict_proba` and `transform` against plain code in float32."""
    images = make_images(options.batch_size * options.steps)
    device = torch.device(options.device)
    clusterer = fit_stage("clustering", images[: options.batch_size], options)
    least = 2.5 if has_tiles() else 1.0
    rows, targets, rates = [], [], {}
    for name in ("predict_proba", "transform"):
        answer = getattr(clusterer, name)
        answer(images[:64])
        rates[name] = {"library": [], "plain": []}
        # In turn, as the speed of a machine drifts.
        for _ in range(_N_TURNS):
            synchronize(options.device)
            started = time.perf_counter()
            answer(images)
            rates[name]["library"].append(len(images) / (time.perf_counter() - started))
            baseline = plain.predict(images, device, options.batch_size)
            rates[name]["plain"].append(baseline)
        ours, other = (statistics.median(r) for r in rates[name].values())
        row = {"answer": name, "plain, float32": f"{other:.1f}"}
        rows.append(row | {"library": f"{ours:.1f}", "ratio": f"{ours / other:.2f}"})
        text = f"{name}: {ours / other:.2f} x plain in float32 >= {least}"
        targets.append(print_target(text, ours >= least * other))
    print()
    print_table(rows)
    return {"answers": rates, "targets": targets}


def describe_rate(result):
    library, alone = result["library"], result.get("net alone")
    ratio = "-" if alone is None else f"{library / alone:.2f}"
    return {
        "stage": result["stage"],
        "floor": f"{result['floor']:.1f}",
        "net alone": "-" if alone is None else f"{alone:.1f}",
        "plain": f"{result['plain']:.1f}",
        "library": f"{library:.1f}",
        "library / plain": f"{library / result['plain']:.2f}",
        "library / floor": f"{library / result['floor']:.2f}",
        "library / net alone": ratio,
    }


def describe_ceilings(ceilings):
    return ", ".join(f"{name} {rate:.0f}" for name, rate in ceilings.best.items())


def format_shares(shares):
    return {part: f"{100 * shares[part]:.1f} %" for part in PARTS}


def check_stages(results):
    targets = []
    for result in results:
        if result["stage"] not in TARGETS:
            continue
        of_floor, of_plain = TARGETS[result["stage"]]
        reached = result["library"] / result["floor"]
        ratio = result["library"] / result["plain"]
        name = result["stage"]
        targets += [
            print_target(
                f"{name}: {reached:.2f} of the floor >= {of_floor}", reached >= of_floor
            ),
            print_target(
                f"{name}: {ratio:.2f} x plain >= {of_plain}", ratio >= of_plain
            ),
            print_target(
                f"{name}: views {100 * result['shares']['views']:.1f} % <= 5 %",
                result["shares"]["views"] <= 0.05,
            ),
        ]
    return targets


# The other parts.


def measure_digits(options):
    """Print the shares of every stage of the default fit of the digits."""
    X, _ = data_sets.digits()
    with watch(options.device) as stopwatch:
        started = time.perf_counter()
        clusterer = SCANClustering(device=options.device, random_state=0).fit(X)
        seconds = time.perf_counter() - started
    rows = []
    for stage in stopwatch.seconds:
        shares = stopwatch.shares(stage)
        spent = clusterer.history_[stage][-1]["seconds"]
        rows.append({"stage": stage, "seconds": f"{spent:.1f}"} | format_shares(shares))
    total = sum_parts(stopwatch)
    shares = {part: total[part] / sum(total.values()) for part in PARTS}
    rows.append(
        {"stage": "all", "seconds": f"{seconds:.1f} (fit)"} | format_shares(shares)
    )
    print_table(rows)
    print()
    text = f"digits: bookkeeping {100 * shares['bookkeeping']:.1f} % <= 10 %"
    return {
        "digits": rows,
        "targets": [print_target(text, shares["bookkeeping"] <= 0.1)],
    }


def sum_parts(stopwatch):
    return {part: sum(s[part] for s in stopwatch.seconds.values()) for part in PARTS}


def measure_grid(options):
    """Time the same grid without a cache, with empty ones, and with a full one."""
    X, y = data_sets.digits()
    times = {"without": time_grid(X, y, None, options)}
    with tempfile.TemporaryDirectory() as folder:
        times["with"] = time_grid(X, y, folder, options)
        times["again"] = time_grid(X, y, folder, options)
    with tempfile.TemporaryDirectory() as folder:
        times["side by side"] = time_grid(X, y, folder, options, n_jobs=2)
    print()
    for name, seconds in times.items():
        print(f"{name:12} {seconds:7.1f} s  {times['without'] / seconds:5.1f} x")
    print()
    ratio = times["without"] / min(times["with"], times["side by side"])
    target = print_target(f"grid: memory= is {ratio:.1f} x faster >= 3.5", ratio >= 3.5)
    return {"grid": times, "targets": [target]}


def time_grid(X, y, memory, options, n_jobs=None):
    """Return the seconds of a search over eight candidates."""
    grid = {"K": [5, 20], "threshold": [0.9, 0.99], "n_clusters": [8, 10]}
    search = GridSearchCV(
        SCANClustering(memory=memory, device=options.device, random_state=0),
        grid,
        scoring=hungarian_accuracy_scorer,
        cv=StratifiedKFold(2, shuffle=True, random_state=0),
        n_jobs=n_jobs,
    )
    started = time.perf_counter()
    search.fit(X, y)
    seconds = time.perf_counter() - started
    print(f"{seconds:7.1f} s  best {search.best_score_:.4f}", flush=True)
    return seconds


def measure_import(n_times=5):
    """Time the import in fresh interpreters."""
    statements = {
        "torch": "import torch",
        "package": "import torch, sklearn_scan",
        "estimator": "import torch; from sklearn_scan import SCANClustering",
    }
    times = {name: [] for name in statements}
    for _ in range(n_times + 1):
        for name, statement in statements.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", statement], check=True)
            times[name].append(time.perf_counter() - started)
    median = {name: statistics.median(taken[1:]) for name, taken in times.items()}
    for name, seconds in median.items():
        print(f"{statements[name]:55} {seconds:.2f} s")
    extra = median["package"] - median["torch"]
    print()
    target = print_target(f"import: {extra:.2f} s beyond torch <= 0.3", extra <= 0.3)
    return {"import": median, "targets": [target]}


def profile_stages(options):
    """Write a trace of each stage, and print where the time went."""
    images = make_images(2 * options.batch_size)
    activities = [torch.profiler.ProfilerActivity.CPU]
    is_cuda = torch.device(options.device).type == "cuda"
    if is_cuda:
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    order = "self_device_time_total" if is_cuda else "self_cpu_time_total"
    Path(options.profile).mkdir(parents=True, exist_ok=True)
    for stage in STAGES:
        with torch.profiler.profile(activities=activities) as profile:
            fit_stage(stage, images, options)
        profile.export_chrome_trace(str(Path(options.profile) / f"{stage}.json"))
        print(f"\n## {stage}\n")
        events = profile.key_averages()
        print(events.table(sort_by=order, row_limit=15))
        share = share_of_products(events, is_cuda)
        print(f"{100 * share:.1f} % of the time in products and convolutions")


def share_of_products(events, is_cuda):
    """Return the share of matrix products and convolutions in the time of kernels."""
    name = "self_device_time_total" if is_cuda else "self_cpu_time_total"
    # The runs of operators alone: on a GPU they have no time of their own.
    times = {event.key: getattr(event, name) for event in events}
    products = sum(t for key, t in times.items() if _PRODUCTS.search(key))
    return products / sum(times.values())


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = (
        "stages",
        "answers",
        "digits",
        "mining",
        "embedding",
        "grid",
        "import",
        "rounding",
        "convolutions",
    )
    parser.add_argument("--parts", nargs="*", default=parts, choices=parts)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=3, help="per epoch")
    parser.add_argument("--epochs", type=int, default=3, help="the first not counted")
    parser.add_argument(
        "--sizes",
        nargs="*",
        default=["50000x128", "1000000x128"],
        help="rows to mine, as NxD",
    )
    parser.add_argument("--cifar10", metavar="PATH", help="see scan_bench/data_sets.py")
    parser.add_argument("--n-cifar10", type=int, default=50_000)
    parser.add_argument("--pretext-epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3, help="of the embeddings")
    parser.add_argument("--profile", metavar="DIR")
    parser.add_argument("--json", metavar="FILE", help="where to write everything")
    options = parser.parse_args()

    facts = describe_run(options.device) | {"precision": options.precision}
    print_header("Speed", facts)
    report = {"run": facts}
    measures = {
        "stages": lambda: measure_stages(options, Ceilings(options.device)),
        "answers": lambda: measure_answers(options),
        "digits": lambda: measure_digits(options),
        "mining": lambda: measure_mining(
            [tuple(map(int, size.split("x"))) for size in options.sizes]
        ),
        "embedding": lambda: measure_embeddings(options),
        "grid": lambda: measure_grid(options),
        "import": measure_import,
        "rounding": lambda: measure_rounding(options),
        "convolutions": measure_convolutions,
    }
    for part in options.parts:
        print(f"\n## {part}\n", flush=True)
        report[part] = measures[part]()
        if options.json:
            write_json(options.json, report)
    if options.profile:
        profile_stages(options)


if __name__ == "__main__":
    main()
