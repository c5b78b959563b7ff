# SPDX-License-Identifier: BSD-3-Clause
"""The benchmarks run from end to end; their figures are not tested here."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.cluster import AgglomerativeClustering
from sklearn.utils.estimator_checks import check_estimator

from sklearn_scan import SCANClustering, TrainingConfig
from sklearn_scan.pretext import SimCLR

pytest.importorskip("tabulate")
pytest.importorskip("matplotlib")

# The benchmarks are scripts, which find each other in their folder.
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import gallery
import operations
import panel
import paper
import rare
import scaling
import selection
import speed
import torch
from scan_bench import paper_figures, selection_candidates, speed_plain
from scan_bench.baselines import AutoEncoder, InductiveClusterer
from scan_bench.paper_setting import Setting, load
from scan_bench.published import CIFAR10, find_published
from scan_bench.speed_ceilings import count_flops
from scan_bench.speed_plain import PLAIN_STAGES
from scan_bench.speed_shares import PARTS

STEPS = ("head_search", "clustering", "self_labeling")
ROWS = {
    "ablation": 10,
    "comparison": 8,
    "neighbors": 2,
    "oracle": 2,
    "overcluster": 4,
    "selflabel": 1,
}


def shorten(estimator):
    """Cut the training of all that is in an estimator to one epoch a step."""
    for part in [estimator, *estimator.get_params().values()]:
        if isinstance(part, SCANClustering):
            given = part.get_params(deep=False)
            steps = {step: TrainingConfig() for step in STEPS if given[step] == "auto"}
            if given["pretext"] == "auto":
                steps["pretext"] = SimCLR()
            part.set_params(n_heads=2, **steps)
    names = [n for n in estimator.get_params() if n.rpartition("__")[2] == "epochs"]
    return estimator.set_params(**dict.fromkeys(names, 1))


@pytest.fixture
def few_numbers(monkeypatch):
    monkeypatch.setattr(paper_figures.Neighbors, "numbers", (0, 2))
    monkeypatch.setattr(paper_figures.Oracle, "numbers", (2,))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


def run(table, cache, *arguments):
    """Run a table on 60 digits; return the exit status and the report."""
    file = Path(cache) / f"{table}.json"
    usual = f"--table {table} --n 60 --seeds 1 --cache {cache} --json {file}"
    status = paper.main([*usual.split(), *arguments], prepare=shorten)
    return status, json.loads(file.read_text())


@pytest.mark.parametrize("table", sorted(paper.TABLES))
def test_a_table_runs_from_end_to_end(table, cache, few_numbers, capsys):
    status, report = run(table, cache)
    assert status == 0
    assert report["missing"] == []
    assert not any("error" in fit for fit in report["fits"])
    assert len(report["fits"]) == ROWS.get(table, len(report["fits"])) > 0
    for fit in report["fits"]:
        assert {"row", "seed", "ACC", "NMI", "ARI", "s", "warnings"} <= set(fit)
    for statistics in report["summary"].values():
        assert set(statistics["ACC"]) == {"mean", "std", "min", "n"}
    assert report["run"]["command"].endswith(
        f"--table {table} --data digits --n 60 --seeds 1"
    )
    plot = Path(cache) / f"{table}.png"
    assert plot.exists() == (table in ("neighbors", "oracle", "selflabel"))

    printed = capsys.readouterr().out
    assert printed.startswith("# ")
    for row in report["summary"]:
        assert f"\n| {row} " in printed
    assert cache not in printed


def test_no_fit_is_begun_when_the_budget_is_spent(cache, capsys):
    status, report = run("overcluster", cache, "--budget", "0", "--seeds", "2")
    assert status == 0
    assert report["fits"] == []
    assert len(report["missing"]) == 2 * 4
    printed = capsys.readouterr().out
    assert "not run with seed 1, because the budget was spent: 1 x; 1.5 x;" in printed


def test_a_row_that_fails_leaves_the_others_alone(cache, capsys):
    def break_one(estimator):
        if estimator.n_clusters == 15:
            estimator.set_params(threshold=2)
        return shorten(estimator)

    name, X, y = load("digits", 60)
    setting = Setting(name, X, y, cache, n_seeds=1)
    report = paper.run_table("overcluster", setting, prepare=break_one)
    assert [fit["row"] for fit in report["fits"] if "error" in fit] == ["1.5 x"]
    paper.print_report(report, is_cifar10=False)
    assert "- 1.5 x, seed 0: failed with InvalidParameterError" in (
        capsys.readouterr().out
    )


def test_a_report_is_written_after_every_fit(cache):
    name, X, y = load("digits", 60)
    setting = Setting(name, X, y, cache, n_seeds=1)
    counts = []
    paper.run_table(
        "overcluster",
        setting,
        prepare=shorten,
        save=lambda report: counts.append(len(report["fits"])),
    )
    assert counts == [1, 2, 3, 4, 4]


def test_deviation_is_over_seeds():
    fits = [{"row": "a", "ACC": accuracy, "s": 1.0} for accuracy in (0.5, 0.7)]
    found = paper.summarize(paper.TABLES["ablation"], fits)["a"]["ACC"]
    assert found == pytest.approx({"mean": 0.6, "std": 0.1, "min": 0.5, "n": 2})
    assert paper.format_mean(found, ".1%") == "60.0 ± 10.0"


# Data, and what is published on them.


def test_photographs_are_read_and_cifar10_is_known_by_its_name(tmp_path):
    X = np.zeros((30, 32, 32, 3), dtype=np.uint8)
    y = np.arange(30) % 10
    for name in ("cifar10.npz", "street_numbers.npz"):
        np.savez(tmp_path / name, X_train=X, y_train=y)
        setting = Setting(*load(tmp_path / name, 20), cache=None, n_seeds=1)
        assert setting.X.shape == (20, 32, 32, 3)
        assert setting.views["strong"] == "strong"
        assert setting.is_cifar10 == (name == "cifar10.npz")


def test_published_figures_stand_beside_rows_that_there_are():
    name, X, y = load("digits", 60)
    setting = Setting(name, X, y, cache=None, n_seeds=1)
    for table, figures in CIFAR10.items():
        assert set(figures) <= set(paper.TABLES[table].rows(setting, 0))
    text = find_published("ablation", "SCAN (standard)", is_cifar10=True)
    assert text == "78.7 ± 1.7 (split, mean of 10, by loss, R)"
    assert find_published("ablation", "SCAN (standard)", is_cifar10=False) is None


# Baselines.


def test_the_inductive_clusterer_predicts_its_own_labels(blobs):
    X, _ = blobs
    clusterer = InductiveClusterer(AgglomerativeClustering(3)).fit(X)
    np.testing.assert_array_equal(clusterer.predict(X), clusterer.labels_)
    np.testing.assert_array_equal(clusterer.predict(X + 1e-6), clusterer.labels_)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_the_inductive_clusterer_is_an_estimator():
    check_estimator(InductiveClusterer(AgglomerativeClustering(2)))


def test_the_autoencoder_learns_to_draw(digits):
    autoencoder = AutoEncoder(epochs=20, random_state=0)
    embedding = autoencoder.fit_transform(digits[0])
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, rtol=1e-5)
    losses = [record["loss"] for record in autoencoder.history_]
    # Drawing the mean of all samples has loss one.
    assert losses[-1] < 0.5 < losses[0]


def test_the_autoencoder_takes_rows(blobs):
    assert AutoEncoder(epochs=1).fit_transform(blobs[0]).shape[0] == len(blobs[0])


@pytest.mark.filterwarnings("ignore:Self-labelling (was left out|left a cluster)")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_speed_is_measured_part_by_part(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        speed,
        "SCANClustering",
        lambda *args, **given: shorten(SCANClustering(*args, **given)),
    )
    path = tmp_path / "speed.json"
    argv = ["speed.py", "--parts", "digits", "mining", "--sizes", "300x8"]
    monkeypatch.setattr(sys, "argv", [*argv, "--json", str(path)])
    speed.main()
    report = json.loads(path.read_text())
    *stages, everything = report["digits"]["digits"]
    assert [row["stage"] for row in stages][:3] == ["pretext", *STEPS[:2]]
    shares = [float(everything[part].rstrip(" %")) for part in PARTS]
    assert sum(shares) == pytest.approx(100, abs=0.5)
    assert report["mining"]["mining"][0]["recall@20"] == "1.0000"


def test_floors_count_what_a_network_does():
    layer = torch.nn.Conv2d(2, 3, 3, padding=1, bias=False)
    forward, training = count_flops(layer, (2, 5, 7))
    assert forward == 2 * 5 * 7 * 2 * 3 * 9
    assert training == 2 * forward, "images have no gradient"


def test_the_plain_baseline_takes_steps(monkeypatch):
    monkeypatch.setattr(speed_plain, "_N_WORKERS", 1)
    images = speed.make_images(8, side=8)
    for stage, make in PLAIN_STAGES.items():
        trained = make(images, speed.random_neighbors(8), "cpu")
        assert trained.train(n_steps=1, batch_size=4) > 0, stage


def test_growth_is_a_slope():
    rows = [{"n": n, "fit s": 0.1 * n**1.5, "peak GiB": 0.5} for n in (10, 100, 1000)]
    assert scaling.fit_exponents(rows)["fit s"] == pytest.approx(1.5)
    assert scaling.fit_exponents(rows)["peak GiB"] == pytest.approx(0)


def test_growth_is_measured():
    pytest.importorskip("resource")
    row = scaling.measure("rows", 500)
    assert row["n"] == 500
    stages = ("mining s", "head_search s", "rest s")
    assert sum(row[name] for name in stages) == pytest.approx(row["fit s"])
    assert row["peak GiB"] >= row["data GiB"] > 0


def test_the_panel_measures_beside_baselines(tmp_path, capsys, restore_threads):
    file = tmp_path / "panel.json"
    panel.main(["--data", "wine, scaled", "--seeds", "1", "--json", str(file)])
    (row,) = json.loads(file.read_text())["results"]["wine, scaled"]
    assert {"ACC", "NMI", "ARI", "KMeans", "spectral", "seconds"} <= set(row)
    assert row["ACC"] > 0.9
    assert "| wine, scaled |" in capsys.readouterr().out


def test_the_panel_goes_on_where_a_file_ends(tmp_path, monkeypatch, capsys):
    name = "digit rows"
    file, other = tmp_path / "panel.json", tmp_path / "peers.json"
    rows = [{"seed": 1, "ACC": 0.5, "KMeans": 0.4, "spectral": 0.4, "seconds": 1.0}]
    file.write_text(json.dumps({"results": {name: rows}}))
    other.write_text(json.dumps({"results": {name: [{"seed": 0, "DEC": 0.25}]}}))
    monkeypatch.setattr(
        panel, "measure", lambda case, seed, cache: rows[0] | {"seed": seed}
    )
    arguments = ["--data", name, "--seeds", "3", "--json", str(file)]
    panel.main([*arguments, "--beside", str(other)])
    found = json.loads(file.read_text())["results"][name]
    assert [row["seed"] for row in found] == [1, 0, 2]
    printed = capsys.readouterr().out
    assert "peers: DEC" in printed
    assert "peers: ACC" not in printed, "there is none"
    assert "met     digit rows: 0.5000 >= KMeans 0.4000 - 0.005" in printed


@pytest.fixture
def restore_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_scorers_are_compared_with_the_accuracy(
    tmp_path, monkeypatch, capsys, restore_threads
):
    few = selection_candidates.SETTINGS[:2]
    monkeypatch.setattr(selection_candidates, "SETTINGS", few)
    file, name = tmp_path / "selection.json", "wine, scaled"
    folder = str(tmp_path / "embeddings")
    selection.main(["--embed", folder, "--data", name])
    paths = ["--embeddings", folder, "--cache", str(tmp_path), "--json", str(file)]
    selection.main([*paths, "--data", name])
    found = json.loads(file.read_text())
    row = found["results"][name]
    assert len(row["ACC"]) == 8, "two settings in each of four embeddings"
    objective = row["scorers"]["modularity, pooled"]
    assert -1 <= objective["spearman"] <= 1
    assert 0 <= objective["regret"] <= max(row["ACC"]) - min(row["ACC"])
    assert (
        found["summary"]["modularity, pooled"]["choose"]["least"]
        == (objective["spearman"])
    )
    assert "| wine, scaled | choose |" in capsys.readouterr().out


def test_a_scorer_is_judged_by_order_and_by_its_choice():
    accuracies = np.array([0.5, 0.9, 0.7])
    found = selection.judge(np.array([3.0, 2.0, 1.0]), accuracies)
    assert found["spearman"] == pytest.approx(-0.5)
    assert found["regret"] == pytest.approx(0.4)
    assert selection.judge(np.ones(3), accuracies)["spearman"] == 0


def test_imbalance_falls_geometrically_to_a_tenth():
    y = np.repeat([0, 1, 2], 100)
    X, found = panel.imbalance(np.arange(300), y)
    assert np.bincount(found).tolist() == [100, 31, 10]
    assert np.array_equal(y[X], found)


def test_any_class_can_be_the_rarest():
    _, found = panel.imbalance(np.arange(300), np.arange(300) % 3, shift=1)
    assert np.bincount(found).tolist() == [10, 100, 31]


def test_pieces_are_merged_by_their_links():
    # Two chains of four, and a link between them.
    neighbors = np.array([[1], [0], [1], [2], [5], [4], [5], [6]])
    others = [-1, 2, 3, -1, -1, 6, 7, 3]
    graph = rare.make_graph(np.column_stack([neighbors, others]))
    pieces = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    for linkage in ("average", "smaller", "root"):
        merged = rare.merge_pieces(pieces, graph, 2, linkage)
        assert merged.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_thresholds_are_of_each_cluster():
    probabilities = torch.tensor([[0.8, 0.2], [0.9, 0.1], [0.4, 0.6]])
    found = rare.find_thresholds(probabilities, 0.5, "largest")
    assert found.tolist() == pytest.approx([0.45, 0.3])
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    loss = rare.ThresholdPerCluster(torch.tensor([0.8, 0.7]), balanced=False)
    # Both have the confidence 0.73.
    assert loss(logits, logits)[1]["confident"] == 0.5


def test_operations_of_steps_and_views_are_counted(monkeypatch, capsys):
    """Some of them: tests of the engine count those of all."""
    monkeypatch.setattr(operations, "TASKS", ("SimCLR",))
    monkeypatch.setattr(operations, "STAGES", ("self-labelling",))
    monkeypatch.setattr(operations, "VIEWS", ("strong", ("flip", "cutout")))
    operations.main(["--encoder", "convnet"])
    steps, views = capsys.readouterr().out.split("\n\n")
    assert "| SimCLR |" in steps
    assert "| self-labelling |" in steps
    assert "| strong |" in views
    assert "| flip, cutout |" in views
    for row in [*steps.splitlines()[2:], *views.splitlines()[2:]]:
        waits, _, unsure = row.strip("| ").split(" | ")[-3:]
        assert (waits, unsure) == ("0", "0")


def test_the_page_of_a_large_clustering_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "measure_ready", lambda path: None)
    page, found = tmp_path / "clusters.html", tmp_path / "out.json"
    gallery.main(
        ["--n", "300", "--n-clusters", "3", "--out", str(page), "--json", str(found)]
    )
    (row,) = json.loads(found.read_text())["rows"]
    assert row["megabytes"] == page.stat().st_size / 1e6
    assert 0 < row["of them drawing"] < row["seconds"]
