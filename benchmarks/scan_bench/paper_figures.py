# SPDX-License-Identifier: BSD-3-Clause
"""The figures of the paper, as tables from which `paper_plots` draws them."""

import numpy as np
from sklearn.base import BaseEstimator, ClusterMixin, MetaEstimatorMixin, clone
from sklearn.callback import FitCallback

from scan_bench.paper_setting import fit_step_one
from scan_bench.paper_tables import PERCENT, SCORES, SECONDS, PaperTable
from sklearn_scan import TrainingConfig
from sklearn_scan.metrics import hungarian_accuracy_score, neighbor_purity_score


class Neighbors(PaperTable):
    """Figure 7."""

    title = "Figure 7: the number of neighbours"
    columns = {"K": ".0f", "purity": PERCENT} | SCORES | SECONDS
    notes = (
        "purity: neighbours of the class of their sample. K: what was mined, which is "
        "less than asked for where half of the average cluster is.",
    )
    numbers = (0, 1, 2, 5, 10, 20, 30, 50)

    def rows(self, setting, seed):
        return {f"K={K}": setting.clusterer(seed, K=K) for K in self.numbers}

    def measure(self, estimator, setting):
        neighbors = estimator.neighbors_
        found = {"K": neighbors.shape[1]}
        if found["K"]:
            found["purity"] = neighbor_purity_score(neighbors, setting.y)
        return super().measure(estimator, setting) | found


class Oracle(PaperTable):
    """Figure 8."""

    title = "Figure 8: what false neighbours cost"
    columns = {"K": ".0f", "neighbours": ".2f"} | SCORES | SECONDS
    notes = (
        "This table uses labels on purpose: neighbours of another class than their "
        "sample were removed by them. It bounds what better mining could gain, and is "
        "no clustering without labels.",
        "neighbours: how many a sample has on average.",
    )
    numbers = (5, 10, 20, 50)

    def rows(self, setting, seed):
        rows = {}
        for K in self.numbers:
            clusterer = setting.clusterer(seed, K=K)
            rows[f"K={K}, as mined"] = clusterer
            rows[f"K={K}, true ones alone"] = TrueNeighbors(clusterer)
        return rows

    def fit(self, estimator, setting):
        estimator.fit(setting.X, setting.y)

    def measure(self, estimator, setting):
        neighbors = estimator.neighbors_
        return super().measure(estimator, setting) | {
            "K": neighbors.shape[1],
            "neighbours": float((neighbors >= 0).sum(axis=1).mean()),
        }


class TrueNeighbors(MetaEstimatorMixin, ClusterMixin, BaseEstimator):
    """A SCAN clusterer from whose neighbours the classes `y` remove the false ones.

    No method, but a bound: what SCAN would do if mining made no mistakes.

    Parameters
    ----------
    clusterer : SCANClustering
        Mines, and clusters with what is left.
    """

    def __init__(self, clusterer):
        self.clusterer = clusterer

    def fit(self, X, y):
        """Cluster `X` with the neighbours that are of one class by `y`."""
        mined = fit_step_one(self.clusterer, X).neighbors_
        self.neighbors_ = np.where(y[mined] == y[:, None], mined, -1)
        self.clusterer_ = clone(self.clusterer).fit(X, neighbors=self.neighbors_)
        self.labels_ = self.clusterer_.labels_
        return self


class SelfLabeling(PaperTable):
    """Figure 6."""

    title = "Figure 6: self-labelling, epoch by epoch"
    columns = dict.fromkeys(("ACC", "confident", "their ACC"), PERCENT) | {
        "samples": ".0f"
    }
    notes = (
        "confident: the share of samples above the threshold; their ACC: of these "
        "alone; samples: how many they are. Epoch 0 is the end of step 2.",
        "Strong views, and the constant learning rate of the paper; the last epoch "
        "counts.",
    )

    def rows(self, setting, seed):
        strong = setting.views["strong"]
        constant = TrainingConfig(
            epochs=25, optimizer="adam", lr=1e-4, lr_schedule="constant", views=strong
        )
        clusterer = setting.clusterer(
            seed,
            keep="last",
            clustering=TrainingConfig(views=strong),
            self_labeling=constant,
        )
        return {"self-labelling": clusterer}

    def run(self, estimator, setting, seed):
        scores = EpochScores(setting.X, setting.y)
        found = super().run(estimator.set_callbacks(scores), setting, seed)
        return found | {"epochs": scores.records}

    def lines(self, fit):
        return [
            record | {"row": f"epoch {record['epoch']}"}
            for record in fit.get("epochs", [])
        ]


class EpochScores(FitCallback):
    """A callback of scikit-learn: scores the clusterer after every epoch of step 3.

    Attributes
    ----------
    records : list of dict
        One per epoch; the first is of the end of step 2.
    """

    def __init__(self, X, y):
        self.X = X
        self.y = y
        self.records = []

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        """Score the estimator as it would be if `fit` ended here."""
        is_epoch = (
            context.task_name == "epoch" and context.parent.task_name == "self_labeling"
        )
        if is_epoch or context.task_name == "clustering":
            self.records.append(self._score(fitted_estimator))

    def _score(self, clusterer):
        probabilities = clusterer.predict_proba(self.X)
        labels = probabilities.argmax(axis=1)
        sure = probabilities.max(axis=1) > clusterer.threshold
        record = {
            "epoch": len(self.records),
            "ACC": hungarian_accuracy_score(self.y, labels),
            "confident": float(sure.mean()),
            "samples": int(sure.sum()),
        }
        if sure.any():
            record["their ACC"] = hungarian_accuracy_score(self.y[sure], labels[sure])
        return record
