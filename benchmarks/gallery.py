# SPDX-License-Identifier: BSD-3-Clause
"""How long the page of a large clustering takes, and how large it is.

    python benchmarks/gallery.py --n 60000 --n-clusters 100 --json out.json

Cuts photographs into pictures and clusters rows that go with them. Printed are
seconds, with those in which thumbnails are drawn on their own, and the megabytes of the
file; and, where there are selenium and Chromium, after how many seconds the page is
ready. With `--stability`, also the seconds of one core in which stability is measured,
which depend on how far clusters lie apart: `--noise 2` lets them touch.
"""

import argparse
import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from scan_bench.report import describe_run, print_header, print_table, write_json
from sklearn.datasets import load_sample_images

from sklearn_scan import SCANClustering, TrainingConfig
from sklearn_scan.inspection import cluster_stability, write_gallery
from sklearn_scan.inspection._pictures import Pictures

_N_FEATURES = 64


def make_data(n, n_clusters, side, scale=0.5):
    """Return rows around centres, and for each a part of a photograph."""
    random = np.random.default_rng(0)
    kinds = random.integers(0, n_clusters, n)
    centers = random.normal(size=(n_clusters, _N_FEATURES)).astype(np.float32)
    noise = random.normal(scale=scale, size=(n, _N_FEATURES)).astype(np.float32)
    photographs = load_sample_images().images
    images = np.empty((n, side, side, 3), dtype=np.uint8)
    for i, kind in enumerate(kinds):
        photograph = photographs[kind % len(photographs)]
        top, left = random.integers(0, np.array(photograph.shape[:2]) - 2 * side)
        part = photograph[top : top + 2 * side, left : left + 2 * side]
        images[i] = np.roll(part[::2, ::2], kind, axis=2)
    return centers[kinds] + noise, images


@contextmanager
def timed_drawing():
    """Count the seconds in which pictures are decoded and scaled."""
    spent, read = [0.0], Pictures.read

    def timed(*arguments):
        begin = time.perf_counter()
        found = read(*arguments)
        spent[0] += time.perf_counter() - begin
        return found

    Pictures.read = timed
    try:
        yield spent
    finally:
        Pictures.read = read


def measure_ready(path, n_times=3):
    """Return after how many seconds a browser shows the page; None without one."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    try:
        from selenium import webdriver
    except ImportError:
        return None
    if not (binary and driver):
        return None
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for option in ("--headless=new", "--no-sandbox", "--disable-gpu"):
        options.add_argument(option)
    service = webdriver.ChromeService(executable_path=driver)
    browser = webdriver.Chrome(options=options, service=service)
    try:
        found = []
        for _ in range(n_times):
            browser.get(path.as_uri())
            script = "return document.documentElement.dataset.ready"
            found.append(int(browser.execute_script(script)) / 1000)
        return sorted(found)[n_times // 2]
    finally:
        browser.quit()


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=60_000)
    parser.add_argument("--n-clusters", type=int, default=100)
    parser.add_argument("--side", type=int, default=64, help="pixels of a picture")
    parser.add_argument("--out", type=Path, help="where to write the page; temporary")
    parser.add_argument("--noise", type=float, default=0.5, help="around centres")
    parser.add_argument("--stability", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    facts = describe_run("cpu")
    print_header("The page of a large clustering", facts)
    X, images = make_data(options.n, options.n_clusters, options.side, options.noise)
    # How good the clusters are does not matter here.
    clusterer = SCANClustering(
        options.n_clusters, n_heads=1, head_search=TrainingConfig(epochs=2)
    )
    clusterer.set_params(random_state=0).fit(X)
    with tempfile.TemporaryDirectory() as folder, timed_drawing() as drawing:
        path = options.out or Path(folder) / "clusters.html"
        begin = time.perf_counter()
        write_gallery(clusterer, X, path, images=images)
        seconds = time.perf_counter() - begin
        row = {
            "samples": options.n,
            "clusters": options.n_clusters,
            "seconds": seconds,
            "of them drawing": drawing[0],
            "megabytes": path.stat().st_size / 1e6,
            "ready after": measure_ready(path),
        }
    if options.stability:
        begin = time.process_time()
        cluster_stability(clusterer, random_state=0)
        row["stability"] = time.process_time() - begin
    print_table(
        [{k: f"{v:.2f}" if isinstance(v, float) else v for k, v in row.items()}]
    )
    if options.json:
        write_json(options.json, {"run": facts, "rows": [row]})


if __name__ == "__main__":
    main()
