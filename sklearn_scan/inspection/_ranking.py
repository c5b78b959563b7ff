# SPDX-License-Identifier: BSD-3-Clause
"""Which settings are best, and how sure that is."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklearn_scan.inspection._plotting import (
    BLUE,
    QUIET,
    Display,
    hide_spines,
    write_legend,
)
from sklearn_scan.model_selection import LabelFreeSearch, Ranking

_INCHES_PER_ROW, _LEAST_INCHES, _WIDTH = 0.24, 1.6, 6.4
# Standard errors within which a candidate is not told from the best.
_N_ERRORS = 2
_LONGEST_NAME = 60


class RankingDisplay(Display):
    """A row per candidate, the best first: its score, and the doubt about it.

    A bar is two standard errors of the difference to the best candidate. Where it
    reaches the score of the best, the samples do not tell which of both is better. The
    percentage is the share of bootstrap samples in which the candidate is the best.

    Make one with `from_estimator`, or of what
    :func:`~sklearn_scan.model_selection.select` returns, and call `plot`. All
    parameters are stored as attributes.

    Parameters
    ----------
    ranking : Ranking
        Scores and their doubt.
    names : sequence of str or None, default=None
        What each candidate is called; None for its number.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Where the rows were plotted last.
    figure_ : matplotlib.figure.Figure
        Its figure.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from sklearn.cluster import KMeans
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn_scan.inspection import RankingDisplay
    >>> from sklearn_scan.model_selection import LabelFreeSearch
    >>> X, _ = make_blobs(150, centers=3, cluster_std=0.5, random_state=0)
    >>> kmeans = KMeans(3, n_init=1, random_state=0)
    >>> search = LabelFreeSearch(kmeans, {"max_iter": [1, 10]}).fit(X)
    >>> RankingDisplay.from_estimator(search).names
    ['max_iter=1', 'max_iter=10']
    >>> matplotlib.pyplot.close("all")
    """

    def __init__(self, ranking: Ranking, *, names: Sequence[str] | None = None):
        self.ranking = ranking
        self.names = names

    @classmethod
    def from_estimator(
        cls, search: LabelFreeSearch, *, n_candidates: int = 20, ax: Any = None
    ) -> "RankingDisplay":
        """Plot the ranking of a search; candidates are called by what they differ in.

        Parameters
        ----------
        search : LabelFreeSearch
            Fitted.
        n_candidates : int, default=20
            How many are shown, from the best.
        ax : matplotlib.axes.Axes or None, default=None
            Where to plot; None makes a figure.

        Returns
        -------
        display : RankingDisplay
            With `ax_` and `figure_`.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        NotFittedError
            If the search is not fitted.
        """
        check_is_fitted(search, "ranking_")
        names = name_candidates(search.cv_results_["params"])
        return cls(search.ranking_, names=names).plot(n_candidates=n_candidates, ax=ax)

    def plot(self, *, n_candidates: int = 20, ax: Any = None) -> "RankingDisplay":
        """Plot a row per candidate; those that could not be fitted are left out.

        Parameters
        ----------
        n_candidates : int, default=20
            How many are shown, from the best.
        ax : matplotlib.axes.Axes or None, default=None
            Where to plot; None makes a figure.

        Returns
        -------
        self : RankingDisplay
            With `ax_` and `figure_`.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        ranking = self.ranking
        n_fitted = int((~np.isnan(ranking.scores)).sum())
        shown = ranking.order[: min(n_candidates, n_fitted)]
        height = max(_LEAST_INCHES, _INCHES_PER_ROW * len(shown) + 0.9)
        ax = self._take_axes(ax, (_WIDTH, height))
        scores, bars = ranking.scores[shown], _N_ERRORS * ranking.errors[shown]
        best = scores[0]
        is_open = scores + bars >= best
        places = np.arange(len(shown))
        levels = {
            "may be the best": (BLUE, is_open),
            "worse, beyond two standard errors": (QUIET, ~is_open),
        }
        style = {"fmt": "o", "markersize": 5, "elinewidth": 1.2}
        handles = [
            ax.errorbar(
                *(scores[kept], places[kept]),
                xerr=bars[kept],
                color=color,
                label=label,
                **style,
            )
            for label, (color, kept) in levels.items()
            if kept.any()
        ]
        ax.axvline(best, color=QUIET, linewidth=0.8, linestyle="--")
        names = [str(k) for k in shown]
        if self.names is not None:
            names = [self.names[k] for k in shown]
        ax.set_yticks(places, names, fontsize=8)
        ax.tick_params(axis="y", length=0)
        ax.set_ylim(len(shown) - 0.4, -0.6)
        self._write_shares(places, ranking.p_best[shown])
        hide_spines(ax)
        write_legend(ax, handles)
        ax.set_xlabel("score, in standard deviations of candidates")
        return self

    def _write_shares(self, places, shares):
        """Write how often each is the best, right of the axes."""
        transform = self.ax_.get_yaxis_transform()
        style = {"fontsize": 8, "va": "center", "ha": "left", "color": "0.3"}
        for place, share in zip(places, shares, strict=True):
            if share >= 0.005:
                self.ax_.text(1.01, place, f"{share:.0%}", transform=transform, **style)


def name_candidates(candidates: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what candidates differ in, as text.

    Parameters
    ----------
    candidates : sequence of dict
        The settings of each.

    Returns
    -------
    names : list of str
        Such as "K=5, n_heads=2". The names of nested parameters are shortened to their
        last part where that tells them apart.
    """
    keys = list(dict.fromkeys(key for params in candidates for key in params))
    told = [
        key for key in keys if len({repr(params.get(key)) for params in candidates}) > 1
    ]
    last = [key.rpartition("__")[2] for key in told]
    shown = {
        key: short if last.count(short) == 1 else key
        for key, short in zip(told, last, strict=True)
    }
    return [_name(params, shown) or "the defaults" for params in candidates]


def _name(params, shown):
    parts = [
        f"{short}={' '.join(repr(params[key]).split())}"
        for key, short in shown.items()
        if key in params
    ]
    text = ", ".join(parts)
    return text if len(text) <= _LONGEST_NAME else text[: _LONGEST_NAME - 1] + "…"
