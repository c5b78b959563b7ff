# SPDX-License-Identifier: BSD-3-Clause
"""Figures 6 to 8 of the paper, drawn from the report of a run."""

import numpy as np

BLUE, ORANGE, GRAY = "#1f5fa8", "#d9731a", "#555555"


def draw(report, path):
    """Draw the figure of a report to a file; nothing where no fit was done."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    if not report["summary"]:
        return
    figure = FIGURES[report["table"]](plt, report)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_neighbors(plt, report):
    rows = report["summary"]
    labels = [row.removeprefix("K=") for row in rows]
    figure, (top, bottom) = begin(plt, report, 2)
    draw_line(top, labels, list(rows.values()), "ACC", BLUE)
    draw_line(bottom, labels, list(rows.values()), "purity", ORANGE)
    top.set_ylabel("clustering ACC (%)")
    bottom.set_ylabel("neighbours of the\nsame class (%)")
    bottom.set_xlabel("neighbours per sample, K")
    return figure


def draw_oracle(plt, report):
    figure, (axes,) = begin(plt, report, 1)
    series = {"as mined": (BLUE, "o"), "true ones alone": (ORANGE, "s")}
    for kind, (color, marker) in series.items():
        rows = {
            row.partition(", ")[0].removeprefix("K="): statistics
            for row, statistics in report["summary"].items()
            if row.endswith(kind)
        }
        draw_line(axes, list(rows), list(rows.values()), "ACC", color, marker, kind)
    axes.set_ylabel("clustering ACC (%)")
    axes.set_xlabel("neighbours mined per sample, K")
    axes.legend(title="neighbours", frameon=False)
    return figure


def draw_self_labeling(plt, report):
    rows = report["summary"]
    epochs = [int(row.removeprefix("epoch ")) for row in rows]
    figure, (top, bottom) = begin(plt, report, 2)
    draw_line(top, epochs, list(rows.values()), "ACC", BLUE, label="all samples")
    draw_line(
        top, epochs, list(rows.values()), "their ACC", GRAY, "s", "confident samples"
    )
    draw_line(bottom, epochs, list(rows.values()), "confident", ORANGE)
    top.set_ylabel("clustering ACC (%)")
    top.legend(frameon=False)
    bottom.set_ylabel("confident\nsamples (%)")
    bottom.set_xlabel("epochs of self-labelling")
    return figure


FIGURES = {
    "neighbors": draw_neighbors,
    "oracle": draw_oracle,
    "selflabel": draw_self_labeling,
}


def begin(plt, report, n_panels):
    """Return a figure with its title, and panels that share the horizontal axis."""
    figure, panels = plt.subplots(
        n_panels,
        sharex=True,
        squeeze=False,
        figsize=(6, 2.2 + 1.5 * n_panels),
        layout="constrained",
    )
    panels = panels.ravel()
    panels[0].set_title(
        f"{report['run']['data']}; mean and std of {count_seeds(report)}",
        fontsize="small",
        loc="left",
    )
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="0.9")
    return figure, panels


def count_seeds(report):
    """Return how many seeds a point stands for; a run may have ended early."""
    counts = {row["ACC"]["n"] for row in report["summary"].values()}
    fewest, most = min(counts), max(counts)
    number = f"{fewest} to {most}" if fewest < most else f"{most}"
    return f"{number} seed{'s' if most > 1 else ''}"


def draw_line(axes, x, rows, key, color, marker="o", label=None):
    """Draw the mean of a column in percent, with a band of one standard deviation."""
    found = [row.get(key, {"mean": np.nan, "std": np.nan}) for row in rows]
    mean = 100 * np.array([value["mean"] for value in found])
    std = 100 * np.array([value["std"] for value in found])
    axes.plot(x, mean, color=color, marker=marker, markersize=4, label=label)
    axes.fill_between(x, mean - std, mean + std, color=color, alpha=0.2, linewidth=0)
