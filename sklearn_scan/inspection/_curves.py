# SPDX-License-Identifier: BSD-3-Clause
"""How the stages of a fit went."""

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklearn_scan._params import STAGES
from sklearn_scan.inspection._plotting import (
    BLUE,
    ORANGE,
    QUIET,
    VERMILION,
    hide_spines,
    import_pyplot,
    write_legend,
)
from sklearn_scan.inspection._readable import keep_readable

_TITLES = {
    "pretext": "pretext",
    "head_search": "head search",
    "clustering": "clustering",
    "self_labeling": "self-labelling",
}

# What records have that is, or can be told as, a share: what it is called, and how it
# follows from the values and the number of clusters.
_SHARES: dict[str, Any] = {
    "found": ("partners found", None),
    "accuracy": ("accuracy of the pretext", None),
    "nmi": ("NMI of partitions", None),
    "reassigned": ("reassigned samples", None),
    "consistency": ("neighbours agree", lambda values, n: np.exp(-values)),
    "entropy": ("clusters in use", lambda values, n: np.exp(values) / n),
    "confident": ("confident samples", None),
}
_COLORS = {
    "neighbours agree": "#009e73",
    "clusters in use": ORANGE,
    "confident samples": VERMILION,
    "NMI of partitions": "#cc79a7",
    "reassigned samples": QUIET,
}
# Of what else there is: the loss, and its parts.
_OTHER_COLORS = (BLUE, QUIET, "0.6", "0.75")

_INCHES_PER_STAGE, _INCHES = 3.0, 4.8


class TrainingCurvesDisplay:
    """The curves of all stages of a fit: a column per stage.

    The upper panels have the loss. The lower ones have what can be told as a share, so
    that higher is better and 1 is the best: in the pretext, how often views find their
    partner; in the clustering, how far neighbours agree (``exp(-consistency)``) and how
    evenly clusters are used (``exp(entropy) / n_clusters``); in self-labelling, the
    confident samples, on the views of the training. A diamond is the share of training
    samples that were confident after the stage, whose number the legend has.

    Make one with `from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    losses, shares : dict of dict of ndarray of shape (n_epochs,)
        For each stage, its curves by their names.
    confident : dict of float
        For each stage after which it was measured, the share of training samples above
        `threshold`.
    kept : dict of bool
        For each stage about which it was decided, whether its result was kept.
    n_samples : int or None, default=None
        The number of training samples.

    Attributes
    ----------
    axes_ : ndarray of matplotlib.axes.Axes of shape (2, n_stages)
        Where the curves were plotted last.
    figure_ : matplotlib.figure.Figure
        Its figure.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn_scan import SCANClustering
    >>> from sklearn_scan.inspection import TrainingCurvesDisplay
    >>> X, _ = make_blobs(150, centers=3, cluster_std=0.5, random_state=0)
    >>> clusterer = SCANClustering(n_clusters=3, random_state=0).fit(X)
    >>> display = TrainingCurvesDisplay.from_estimator(clusterer)
    >>> list(display.losses), list(display.shares["head_search"])
    (['head_search'], ['neighbours agree', 'clusters in use'])
    >>> display.axes_.shape
    (2, 1)
    >>> matplotlib.pyplot.close(display.figure_)
    """

    axes_: Any
    figure_: Any

    def __init__(
        self,
        losses: Any,
        shares: Any,
        *,
        confident: Any,
        kept: Any,
        n_samples: int | None = None,
    ):
        self.losses = losses
        self.shares = shares
        self.confident = confident
        self.kept = kept
        self.n_samples = n_samples

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, ax: Any = None
    ) -> "TrainingCurvesDisplay":
        """Plot the `history_` of a fitted estimator.

        Parameters
        ----------
        estimator : SCANClustering or pretext
            Fitted.
        ax : matplotlib.axes.Axes, array of them or None, default=None
            See `plot`.

        Returns
        -------
        display : TrainingCurvesDisplay
            With `axes_` and `figure_`.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If no stage was trained, as by a pretrained encoder alone.
        """
        check_is_fitted(estimator, "history_")
        history = estimator.history_
        if not isinstance(history, dict):
            history = {"pretext": history}
        curves = {
            stage: _split(history[stage], getattr(estimator, "n_clusters_", 1))
            for stage in ("pretext", *STAGES)
            # Of an encoder that is not trained, no record has a loss.
            if stage in history and "loss" in history[stage][0]
        }
        if not curves:
            raise ValueError(
                f"{type(estimator).__name__} trained no stage, so that there is no "
                "curve to plot."
            )
        selection = history.get("selection", ())
        confident = {record["stage"]: record["confident"] for record in selection}
        n_samples = None
        if hasattr(estimator, "confidence_"):
            n_samples = len(keep_readable(estimator).confidence_)
            share = history["calibration"][0]["confident"]
            confident = confident or {list(curves)[-1]: share}
        return cls(
            {stage: losses for stage, (losses, _) in curves.items()},
            {stage: shares for stage, (_, shares) in curves.items()},
            confident=confident,
            kept={record["stage"]: record["kept"] for record in selection},
            n_samples=n_samples,
        ).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> "TrainingCurvesDisplay":
        """Plot the curves.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, array of them or None, default=None
            Where to plot: a subplot of at least three inches per stage, in whose place
            a column per stage is drawn; or axes of shape (2, n_stages). None makes a
            figure.

        Returns
        -------
        self : TrainingCurvesDisplay
            With `axes_` and `figure_`.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If `ax` has another number of axes.
        """
        self.axes_ = self._make_axes(ax)
        self.figure_ = self.axes_[0, 0].figure
        for stage, (upper, lower) in zip(self.losses, self.axes_.T, strict=True):
            is_lost = not self.kept.get(stage, True)
            title = _TITLES.get(stage, stage) + (" (not kept)" if is_lost else "")
            upper.set_title(title, fontsize="medium")
            _draw_curves(upper, self.losses[stage])
            _draw_curves(lower, self.shares[stage])
            self._mark_confident(stage, lower)
            lower.set(ylim=(-0.02, 1.04), xlabel="epoch")
            if len(self.losses[stage]) > 1:
                inside = {"loc": "best", "bbox_to_anchor": None}
                write_legend(upper, upper.get_lines(), ncols=1, **inside)
            if lower.get_lines():
                below = {"loc": "upper left", "bbox_to_anchor": (-0.05, -0.24)}
                write_legend(lower, lower.get_lines(), ncols=1, **below)
        self.axes_[0, 0].set_ylabel("loss")
        self.axes_[1, 0].set_ylabel("share")
        return self

    def _make_axes(self, ax):
        shape = (2, len(self.losses))
        if isinstance(ax, list | tuple | np.ndarray):
            axes = np.asarray(ax)
            if axes.size != shape[0] * shape[1]:
                raise ValueError(
                    f"ax has {axes.size} axes, and {shape[0] * shape[1]} are needed, "
                    f"of shape {shape}."
                )
            return axes.reshape(shape)
        plt = import_pyplot(type(self).__name__)
        if ax is None:
            size = (_INCHES_PER_STAGE * max(1.4, shape[1]), _INCHES)
            figure = plt.figure(figsize=size, layout="constrained")
            return figure.subplots(*shape, sharex="col", squeeze=False)
        ax.set_axis_off()
        return ax.get_subplotspec().subgridspec(*shape).subplots(squeeze=False)

    def _mark_confident(self, stage, ax):
        if stage not in self.confident:
            return
        share = self.confident[stage]
        label = f"confident after the stage: {share:.0%}"
        if self.n_samples is not None:
            label += f",\n{round(share * self.n_samples):,} of {self.n_samples:,}"
        last = len(self.losses[stage]["loss"])
        style = {"color": VERMILION, "markersize": 7, "clip_on": False}
        ax.plot([last], [share], "D", label=label, **style)


def _split(records, n_clusters):
    """Return the curves of a stage by their names: losses, and shares."""
    losses, shares = {}, {}
    for key in records[-1]:
        values = np.array([record.get(key, np.nan) for record in records])
        if key in _SHARES:
            name, convert = _SHARES[key]
            shares[name] = values if convert is None else convert(values, n_clusters)
        elif key not in ("epoch", "seconds"):
            losses[key] = values
    return losses, shares


def _draw_curves(ax, curves):
    others = iter(_OTHER_COLORS)
    for name, values in curves.items():
        color = _COLORS.get(name) or next(others, QUIET)
        # Of one epoch there is no line.
        style = {"marker": "o", "markersize": 3} if len(values) < 3 else {}
        ax.plot(np.arange(1, len(values) + 1), values, color=color, label=name, **style)
    hide_spines(ax)
