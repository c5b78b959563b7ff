# SPDX-License-Identifier: BSD-3-Clause
"""What follows from the measurements: what is wrong, and which parameter to change.

Every rule is a function of the record alone. `benchmarks/diagnosing.py` says on which
data their thresholds were chosen, and how they do on others.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

#: From the worst.
SEVERITIES = ("problem", "warning", "note")

# Share of all samples that are nearer than a given neighbour: 0.5 for any samples.
_FAR, _FAIRLY_FAR = 0.35, 0.2
# A change is foreign that takes images this much farther from the rest, as in "auto".
_HARMLESS = 1.1
# What images are called after each change that is measured.
_CHANGED = {"mirror": "Mirrored", "gray": "Gray", "negative": "Inverted"}
# What views may cost of the samples that stay in their cluster, beside those of "auto",
# and beside the neighbours.
_MOST_LOST = 0.05
_MUCH_LOST = 0.15
# Two clusters may be one if the border between them is cut like the lower quartile of
# the borders between the halves of clusters; no two are if it is cut less than a floor.
_LIKE_HALVES, _RATHER_LIKE_HALVES = 0.8, 0.6
_APART = 0.05
# Halves may be two clusters if they are better separated than clusters are; and in any
# case below this cut, as clusters that share no neighbours set no standard.
_SEPARATE = 0.005
# A half that could be a cluster of its own, as a share of the median cluster.
_LEAST_HALF = 0.5
# Agreement of neighbours, corrected for chance: 0 at chance, 1 where all agree.
_NO_STRUCTURE, _LITTLE_STRUCTURE = 0.3, 0.6
_LOW_COVERAGE = 0.5
_MANY_DISAGREE = 0.02
# Hennig (2007), see `cluster_stability`.
_UNSTABLE = 0.6
_FEW_FOUND = 0.1
# Clusters that are named in a sentence.
_MOST_NAMED = 6


@dataclass(frozen=True)
class Finding:
    """Something that stands out in a clustering.

    Attributes
    ----------
    code : str
        What it is: "neighbors", "views", "empty", "split", "merge", "tiny",
        "structure", "disagreeing", "coverage", "stability", "pretext", "loss" or
        "discarded". See `diagnose`.
    severity : {"problem", "warning", "note"}
        A problem makes labels wrong; a warning deserves a look; a note explains.
    measured : str
        What was measured, with the figure.
    meaning : str
        What that means.
    advice : str
        What to do, with the parameter to change.
    parameter : str or None
        This parameter.
    value : object
        What to try for it, where that follows from the measurement; otherwise None.
    clusters : tuple of tuple of int
        The clusters that are concerned, in groups: those that may be one, for "merge".
    """

    code: str
    severity: str
    measured: str
    meaning: str
    advice: str
    parameter: str | None = None
    value: Any = None
    clusters: tuple[tuple[int, ...], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the same as a dict of which JSON can be made."""
        found = asdict(self)
        return found | {"clusters": [list(group) for group in self.clusters]}

    def __str__(self):
        return f"{self.measured} {self.meaning} {self.advice}"


def find_all(record: dict[str, Any]) -> list[Finding]:
    """Apply all rules; the worst findings come first, and causes before effects.

    Neighbours that are no neighbours explain everything else, and nothing that is
    measured on them is worth saying.
    """
    neighbors = list(find_far_neighbors(record))
    if any(each.severity == "problem" for each in neighbors):
        return neighbors
    rules = (find_views, find_empty, find_number, find_structure, find_tiny)
    rules += (find_disagreeing, find_coverage, find_unstable, find_pretext)
    rules += (find_losses, find_discarded)
    found = [*neighbors, *(each for rule in rules for each in rule(record))]
    return sorted(found, key=lambda each: SEVERITIES.index(each.severity))


# What the clustering was given.


def find_far_neighbors(record) -> Iterator[Finding]:
    """Find neighbours that are not near."""
    found = record["neighbors"]
    nearer = found["nearer"]
    if nearer is None or nearer < _FAIRLY_FAR:
        return
    is_wrong = nearer >= _FAR
    common = found["transitive"] or 0
    meaning = "They are neighbours of another kind than those of the embedding."
    if is_wrong:
        meaning = (
            "Neighbours are hardly better than chance, and so is what was learned from "
            "them."
        )
    yield Finding(
        "neighbors",
        "problem" if is_wrong else "warning",
        f"{nearer:.0%} of all samples are nearer to a sample than its neighbours are "
        f"(50% by chance), and {common:.0%} of the neighbours of neighbours are "
        f"neighbours ({found['by_chance'] or 0:.0%} by chance).",
        meaning,
        "fit(neighbors=): check that row i holds the row numbers of the neighbours of "
        "sample i in the same order of X, or leave them out to have them mined.",
        "neighbors",
    )


def find_views(record) -> Iterator[Finding]:
    """Find views that change what images show: the first reason for each parameter."""
    for found in record["views"]:
        reasons = [*_find_foreign_views(found), *_find_costly_views(found, record)]
        yield from reasons[:1]


def _find_foreign_views(found):
    """Find views that look like no other image."""
    name, views = found["parameter"], found["views"]
    for change, word in _CHANGED.items():
        ratio = found[change]
        if found["chosen"] and ratio is not None and ratio > _HARMLESS:
            yield Finding(
                "views",
                "problem",
                f"{word} images are {ratio:.2f} times as far from all other images "
                f"as the images themselves, and {name}={views} draws them.",
                "The change makes something that does not occur, so that images of "
                "different kinds are learned to be the same.",
                f'{name}: try "auto", which leaves such changes out, and look at '
                "inspection.plot_views.",
                name,
                "auto",
            )


def _find_costly_views(found, record):
    """Find views by which images leave their cluster."""
    name, views = found["parameter"], found["views"]
    if found["chosen"] and found["automatic"] - found["invariance"] > _MOST_LOST:
        yield Finding(
            "views",
            "problem",
            f"With {name}={views}, {found['invariance']:.0%} of images are in the "
            f"cluster of a view of them; with views that the images ask for, "
            f"{found['automatic']:.0%}.",
            "The views destroy what tells the images apart.",
            f'{name}: try "auto", and look at inspection.plot_views.',
            name,
            "auto",
        )
    elif name == "views" and _lose_to_neighbors(found, record):
        yield Finding(
            "views",
            "warning",
            f"{found['invariance']:.0%} of images are in the cluster of a view of "
            f"them, and {record['agreement']:.0%} of neighbours agree.",
            "Views change what images show more than neighbours differ.",
            "views: look at inspection.plot_views, and choose milder ones.",
            name,
        )


def _lose_to_neighbors(found, record):
    agreement = record["agreement"]
    return agreement is not None and agreement - found["invariance"] > _MUCH_LOST


# The number of clusters.


def find_empty(record) -> Iterator[Finding]:
    """Find clusters without members."""
    if empty := record["empty"]:
        n_left = record["n_clusters"] - len(empty)
        yield Finding(
            "empty",
            "problem",
            f"{_count(len(empty), 'cluster')} of {record['n_clusters']} "
            f"{'has' if len(empty) == 1 else 'have'} no member.",
            "The data does not fill as many clusters, or training has lost some.",
            f"n_clusters: try {n_left}; or another random_state.",
            "n_clusters",
            n_left,
            tuple((each,) for each in empty),
        )


def find_number(record) -> Iterator[Finding]:
    """Find clusters that may be one, and clusters that may be two.

    Where there are more of the one kind, it comes first.
    """
    merges, others = _find_merges(record, _LIKE_HALVES)
    splits = _find_splits(record, others)
    n_filled = record["n_clusters"] - len(record["empty"])
    n_better = n_filled - sum(len(group) - 1 for group in merges) + len(splits)
    found = []
    if merges:
        found.append((len(merges), _describe_merges(record, merges, n_better)))
    if splits:
        # Where more clusters are merged, the sum says nothing of the splits.
        n_more = None if len(merges) >= len(splits) else n_better
        found.append((len(splits), _describe_splits(splits, others, n_more)))
    yield from (each for _, each in sorted(found, key=lambda pair: -pair[0]))
    if not merges:
        doubtful, _ = _find_merges(record, _RATHER_LIKE_HALVES)
        if doubtful:
            n_left = n_filled - sum(len(group) - 1 for group in doubtful)
            yield _describe_merges(record, doubtful, n_left, severity="warning")


def _find_merges(record, like_halves):
    """Return groups of clusters that may be one, and the largest cut of other pairs."""
    large = _list_large(record)
    cuts = [each["halves"]["cut"] for each in record["clusters"]]
    cuts = [cuts[k] for k in large if cuts[k] is not None]
    bound = max(_APART, like_halves * np.quantile(cuts, 0.25)) if cuts else np.inf
    pairs = [p for p in record["pairs"] if large.issuperset(p["clusters"])]
    alike = [p["clusters"] for p in pairs if p["cut"] >= bound]
    others = max((p["cut"] for p in pairs if p["cut"] < bound), default=0)
    return _group(alike, record["n_clusters"]), others


def _find_splits(record, others):
    """Return the clusters whose halves are better separated than other clusters are."""
    large = _list_large(record)
    if not large:
        return []
    median = np.median([record["clusters"][k]["size"] for k in large])
    return [
        each
        for each in (record["clusters"][k] for k in sorted(large))
        if each["halves"]["cut"] is not None
        and each["halves"]["cut"] < max(others, _SEPARATE)
        and each["halves"]["sizes"][0] >= _LEAST_HALF * median
    ]


def _list_large(record):
    """Return the clusters that have more members than samples have neighbours.

    Members of smaller ones have neighbours elsewhere in any case.
    """
    least = max(1, record["n_neighbors"])
    return {each["cluster"] for each in record["clusters"] if each["size"] > least}


def _group(pairs, n_clusters):
    """Return groups of clusters that are joined by pairs, the largest first."""
    if not pairs:
        return []
    graph = csr_array((np.ones(len(pairs)), np.transpose(pairs)), (n_clusters,) * 2)
    _, group = connected_components(graph, directed=False)
    members = [np.flatnonzero(group == k).tolist() for k in np.unique(group)]
    return [tuple(each) for each in members if len(each) > 1]


def _describe_merges(record, groups, n_left, severity="problem"):
    cuts = {tuple(p["clusters"]): p["cut"] for p in record["pairs"]}
    inside = [
        cut
        for pair, cut in cuts.items()
        if any({*pair} <= {*group} for group in groups)
    ]
    names = _name_groups(groups, " and ")
    n_clusters = record["n_clusters"]
    return Finding(
        "merge",
        severity,
        f"{_count(n_clusters, 'cluster')}, of which {names} share up to "
        f"{max(inside):.0%} of their neighbours.",
        "They are hardly better separated than the halves of a cluster.",
        f"n_clusters: try {n_left}, or merge them on the page of write_gallery.",
        "n_clusters",
        n_left,
        tuple(groups),
    )


def _describe_splits(splits, others, n_better):
    names = _name_groups([(each["cluster"],) for each in splits], "")
    first = min(splits, key=lambda each: each["halves"]["cut"])
    small, large = first["halves"]["sizes"]
    halves = (
        f"of {small:,} and {large:,} members, which share "
        f"{first['halves']['cut']:.1%} of their neighbours; other clusters share up to "
        f"{others:.1%}."
    )
    measured = f"Cluster {names} falls into halves {halves}"
    if len(splits) > 1:
        measured = (
            f"Clusters {names} fall into halves: those of cluster {first['cluster']}, "
            f"{halves}"
        )
    advice = f"n_clusters: try {n_better} or more."
    if n_better is None:
        advice = "n_clusters: look at the halves with report.plot() before you merge."
    return Finding(
        "split",
        "problem",
        measured,
        "Their halves are better separated than clusters are, and may be two kinds.",
        advice,
        "n_clusters",
        n_better,
        tuple((each["cluster"],) for each in splits),
    )


def find_tiny(record) -> Iterator[Finding]:
    """Find clusters that have fewer members than samples have neighbours."""
    large = _list_large(record)
    tiny = [
        each["cluster"]
        for each in record["clusters"]
        if each["size"] and each["cluster"] not in large
    ]
    if tiny and record["n_neighbors"]:
        n_left = len(large)
        yield Finding(
            "tiny",
            "warning",
            f"{_count(len(tiny), 'cluster')} ({_list_numbers(tiny)}) "
            f"{'has' if len(tiny) == 1 else 'have'} at most as many members as a "
            f"sample has neighbours, {record['n_neighbors']}.",
            "Their members must have neighbours in other clusters, by which they are "
            "pulled away.",
            f"K: try a smaller one; or n_clusters={max(1, n_left)}.",
            "K",
            None,
            tuple((each,) for each in tiny),
        )


# The embedding.


def find_structure(record) -> Iterator[Finding]:
    """Find clusterings whose neighbours seldom agree."""
    agreement, chance = record["agreement"], record["agreement_by_chance"]
    if agreement is None or chance >= 1:
        return
    corrected = (agreement - chance) / (1 - chance)
    if corrected < _LITTLE_STRUCTURE:
        yield Finding(
            "structure",
            "problem" if corrected < _NO_STRUCTURE else "warning",
            f"{agreement:.0%} of neighbours are in the cluster of their sample "
            f"({chance:.0%} by chance).",
            "The embedding does not fall into so many groups.",
            "pretext: try a pretrained encoder, or more epochs; or a smaller "
            "n_clusters.",
            "pretext",
        )


def find_disagreeing(record) -> Iterator[Finding]:
    """Find many samples that are sure, and whose neighbours are elsewhere."""
    share = record["disagreeing"]["share"] or 0
    if share > _MANY_DISAGREE:
        some = _list_numbers(record["disagreeing"]["samples"][:_MOST_NAMED])
        yield Finding(
            "disagreeing",
            "warning",
            f"{share:.1%} of samples are confident of a cluster in which most of their "
            f"neighbours are not, such as {some}.",
            "Either these neighbours are of other kinds, or the answers are wrong.",
            "K: look at them with NeighborsDisplay (indices=), and try a smaller K, or "
            "another pretext, if the neighbours are wrong.",
            "K",
        )


def find_coverage(record) -> Iterator[Finding]:
    """Find clusterings that are seldom sure."""
    coverage = record["coverage"]
    if coverage is not None and coverage < _LOW_COVERAGE:
        yield Finding(
            "coverage",
            "warning",
            f"{coverage:.0%} of samples are above threshold={record['threshold']:g}; "
            f"the mean confidence is {record['confidence']:.2f}.",
            "The others lie between clusters, and self-labelling learns nothing from "
            "them.",
            "n_clusters: try fewer; look at the borderline members on the page of "
            "write_gallery before you rely on their labels.",
            "n_clusters",
        )


def find_unstable(record) -> Iterator[Finding]:
    """Find clusters that are not found again in parts of the samples."""
    unstable = [
        each["cluster"]
        for each in record["clusters"]
        if each["stability"] is not None and each["stability"] < _UNSTABLE
    ]
    if unstable:
        lowest = min(record["clusters"][k]["stability"] for k in unstable)
        yield Finding(
            "stability",
            "warning",
            f"{_count(len(unstable), 'cluster')} ({_list_numbers(unstable)}) "
            f"{'is' if len(unstable) == 1 else 'are'} not found again in parts of the "
            f"samples: the lowest similarity is {lowest:.2f}, and should be above "
            f"{_UNSTABLE}.",
            "Where they begin and end depends on chance.",
            "n_clusters: try others, and keep the clusters that stay.",
            "n_clusters",
            None,
            tuple((each,) for each in unstable),
        )


# How the stages went.


def find_pretext(record) -> Iterator[Finding]:
    """Find a pretext that recognises few images."""
    for stage in record["training"]:
        found = stage.get("found")
        if stage["stage"] == "pretext" and found is not None and found < _FEW_FOUND:
            yield Finding(
                "pretext",
                "warning",
                f"The pretext recognised {found:.0%} of images by another view of "
                "them, at the end.",
                "It has hardly learned what stays the same in a view.",
                "pretext: more epochs, such as SimCLR(epochs=200), or milder views.",
                "pretext",
            )


def find_losses(record) -> Iterator[Finding]:
    """Find stages whose loss did not fall."""
    for stage in record["training"]:
        # The weight of the entropy changes while heads on rows are trained, and of
        # self-labelling the samples do.
        if stage["stage"] not in ("pretext", "clustering") or stage["epochs"] < 2:
            continue
        first, last = stage["first"], stage["last"]
        if not last < first:
            yield Finding(
                "loss",
                "warning",
                f"The loss of the stage {stage['stage']} went from {first:.3f} to "
                f"{last:.3f} in {stage['epochs']} epochs.",
                "The stage has learned nothing that could be told from the loss.",
                f"{stage['stage']}: a lower learning rate, or milder views; see "
                "TrainingCurvesDisplay.",
                stage["stage"],
            )


def find_discarded(record) -> Iterator[Finding]:
    """Find stages whose results were not kept."""
    for stage in record["selection"]:
        if not stage["kept"]:
            yield Finding(
                "discarded",
                "note",
                f"The result of {stage['stage']} was discarded: "
                f"{stage['confident']:.0%} confident, {stage['agreement']:.0%} agree "
                "with the stage before, "
                f"{stage['invariance']:.0%} the same under views.",
                "The labels are those of the stage before.",
                f"{stage['stage']}: None leaves it out, and saves the time.",
                stage["stage"],
            )


# Words.


def _count(number, noun):
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _list_numbers(numbers):
    shown = [str(each) for each in numbers[:_MOST_NAMED]]
    left = len(numbers) - len(shown)
    return ", ".join(shown) + (f" and {left:,} more" if left > 0 else "")


def _name_groups(groups, joint):
    """Write groups of clusters: "3 and 5", or "1, 3 and 5"."""
    shown = [
        ", ".join(map(str, group[:-1])) + joint + str(group[-1])
        if len(group) > 1
        else str(group[0])
        for group in groups[:_MOST_NAMED]
    ]
    left = len(groups) - len(shown)
    if left:
        shown.append(f"{left:,} more")
    separator = "; " if any(len(group) > 1 for group in groups) else ", "
    return separator.join(shown)
