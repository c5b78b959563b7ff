# SPDX-License-Identifier: BSD-3-Clause
"""The tables of the paper: what each compares, and what it measures.

A table is a class with `rows`, which returns the estimators by name, and `measure`,
which says what is read off a fitted one. Rows are ordinary estimators: what a table
compares are their parameters.
"""

import time

import numpy as np
from sklearn.cluster import AgglomerativeClustering, SpectralClustering
from sklearn.decomposition import PCA
from sklearn.metrics import make_scorer
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import StratifiedShuffleSplit, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from scan_bench.baselines import AutoEncoder, InductiveClusterer, as_rows
from scan_bench.paper_setting import SCORERS, score_clusters, train_pretexts
from sklearn_scan import TrainingConfig, pretext
from sklearn_scan.metrics import (
    hungarian_accuracy_score,
    majority_accuracy_score,
    neighbor_purity_score,
)

PERCENT = ".1%"
SCORES = dict.fromkeys(SCORERS, PERCENT)
SECONDS = {"s": ".1f"}


class PaperTable:
    """What is compared, and what is measured.

    Attributes
    ----------
    title : str
        The question.
    columns : dict of str to str
        What `run` returns, with the format of each.
    notes : tuple of str
        What a reader must know to judge the numbers.
    """

    title = ""
    columns = SCORES | SECONDS
    notes = ()

    def rows(self, setting, seed):
        """Return the unfitted estimators by name."""
        raise NotImplementedError

    def run(self, estimator, setting, seed):
        """Fit a row, and return what is measured; seconds include its pretext."""
        seconds = train_pretexts(estimator, setting.X)
        started = time.perf_counter()
        self.fit(estimator, setting)
        seconds += time.perf_counter() - started
        return self.measure(estimator, setting) | {"s": seconds}

    def fit(self, estimator, setting):
        estimator.fit(setting.X)

    def measure(self, estimator, setting):
        """Return what is read off a fitted row."""
        return score_clusters(setting.y, labels_of(estimator))

    def lines(self, fit):
        """Return the lines of the table that a fit adds to."""
        return [fit]


def labels_of(estimator):
    last = estimator[-1] if isinstance(estimator, Pipeline) else estimator
    return last.labels_


class Ablation(PaperTable):
    """Table 1."""

    title = "Table 1: what each step adds"
    notes = (
        'All rows but the last have keep="last", so that no guard hides what a step '
        "does.",
        "Standard and strong are the views of steps 2 and 3.",
        "One random head: as in the paper, there is no search of heads on the frozen "
        "embedding; all weights learn from the start, for 25 epochs.",
    )

    def rows(self, setting, seed):
        def scan(**parameters):
            return setting.clusterer(seed, keep="last", **parameters)

        def one_head(**parameters):
            return scan(
                n_heads=1,
                head_search=None,
                clustering=TrainingConfig(
                    epochs=25, batch_size=128, views=setting.views["standard"]
                ),
                self_labeling=None,
                **parameters,
            )

        standard = TrainingConfig(views=setting.views["standard"])
        strong = TrainingConfig(views=setting.views["strong"])
        return {
            "pretext + KMeans": make_pipeline(
                setting.embedder(seed), setting.kmeans(seed)
            ),
            "one random head, K=0": one_head(K=0),
            "one random head, SCAN": one_head(),
            "sample + batch entropy (K=0)": scan(
                K=0, clustering=standard, self_labeling=None
            ),
            "SCAN (standard)": scan(clustering=standard, self_labeling=None),
            "SCAN (strong)": scan(clustering=strong, self_labeling=None),
            "SCAN (standard) + self-labels (standard)": scan(
                clustering=standard, self_labeling=standard
            ),
            "SCAN (standard) + self-labels (strong)": scan(
                clustering=standard, self_labeling=strong
            ),
            "SCAN (strong) + self-labels (strong)": scan(
                clustering=strong, self_labeling=strong
            ),
            'the defaults (keep="best")': setting.clusterer(seed),
        }


class PretextTasks(PaperTable):
    """Table 2."""

    title = "Table 2: SCAN after each pretext task"
    columns = {"purity": PERCENT, "KMeans": PERCENT} | SCORES | SECONDS
    notes = (
        "purity: neighbours of the class of their sample; KMeans: ACC of KMeans "
        "(n_init=10) on the embedding; ACC, NMI and ARI: of SCANClustering with its "
        "defaults after the pretext.",
        "On raw pixels there is no encoder to train, so heads are all that is learned.",
    )

    def rows(self, setting, seed):
        tasks = {
            name: getattr(pretext, name)()
            for name in pretext.__all__
            if name != "Pretrained"
        }
        starts = {
            "raw pixels": FunctionTransformer(),
            "untrained network": pretext.Pretrained(),
        }
        plain = pretext.InstanceDiscrimination(invariance_weight=0)
        rows = starts | tasks | {"InstanceDiscrimination, plain": plain}
        return {
            name: setting.clusterer(seed, pretext=start) for name, start in rows.items()
        }

    def measure(self, estimator, setting):
        kmeans = setting.kmeans(estimator.random_state)
        named = kmeans.fit_predict(estimator.embedding_)
        return super().measure(estimator, setting) | {
            "purity": neighbor_purity_score(estimator.neighbors_, setting.y),
            "KMeans": hungarian_accuracy_score(setting.y, named),
        }


class Comparison(PaperTable):
    """Table 3."""

    title = "Table 3: SCAN and other clusterings, on images that were not seen"
    columns = SCORES | {f"train {name}": PERCENT for name in SCORES} | SECONDS
    notes = (
        "cross_validate with a stratified 70 % to fit and 30 % to predict; each part "
        "is scored with its own matching. No row looks at the classes.",
        "Spectral and agglomerative clustering have no predict: the cluster of the "
        "nearest training sample stands for it.",
    )

    def rows(self, setting, seed):
        n_clusters = setting.n_classes
        spectral = SpectralClustering(
            n_clusters, affinity="nearest_neighbors", random_state=seed
        )
        mixture = GaussianMixture(n_clusters, random_state=seed)
        autoencoder = setting.embedder(seed, pretext=AutoEncoder())
        ward = AgglomerativeClustering(n_clusters)
        deep_cluster = pretext.DeepCluster(
            n_clusters, device=setting.device, random_state=seed
        )
        return {
            "KMeans": make_pipeline(as_rows(), setting.kmeans(seed)),
            "SpectralClustering": make_pipeline(
                as_rows(), InductiveClusterer(spectral)
            ),
            "AgglomerativeClustering": make_pipeline(
                as_rows(), InductiveClusterer(ward)
            ),
            "PCA + GaussianMixture": make_pipeline(as_rows(), PCA(0.9), mixture),
            "autoencoder + KMeans": make_pipeline(autoencoder, setting.kmeans(seed)),
            "SimCLR + KMeans": make_pipeline(
                setting.embedder(seed), setting.kmeans(seed)
            ),
            "DeepCluster": deep_cluster,
            "SCAN": setting.clusterer(seed),
        }

    def run(self, estimator, setting, seed):
        X, y = setting.X, setting.y
        splits = StratifiedShuffleSplit(setting.n_seeds, test_size=0.3, random_state=0)
        # A split at a time, so that every fit is written down when it is done.
        split = list(splits.split(X, y))[seed]
        seconds = train_pretexts(estimator, X[split[0]])
        results = cross_validate(
            estimator,
            X,
            y,
            cv=[split],
            scoring={name: make_scorer(score) for name, score in SCORERS.items()},
            return_train_score=True,
            error_score="raise",
        )
        scores = {name: float(results[f"test_{name}"][0]) for name in SCORERS}
        for name in SCORERS:
            scores[f"train {name}"] = float(results[f"train_{name}"][0])
        return scores | {"s": seconds + float(results["fit_time"][0])}


class Overclustering(PaperTable):
    """The over-clustering of Tables 3 and 4."""

    title = "Over-clustering: more clusters than classes"
    columns = {
        "clusters": ".1f",
        "ACC": PERCENT,
        "majority": PERCENT,
        "NMI": PERCENT,
        "ARI": PERCENT,
    } | SECONDS
    notes = (
        "ACC: one cluster per class, members of surplus clusters are errors. majority: "
        "every cluster takes the name of its most frequent class, so it grows with "
        "their number. The two are never to be compared with each other, nor majority "
        "between rows of different numbers of clusters.",
        "clusters: how many have members.",
    )
    factors = (1, 1.5, 2, 3)

    def rows(self, setting, seed):
        return {
            f"{factor} x": setting.clusterer(
                seed, n_clusters=round(factor * setting.n_classes)
            )
            for factor in self.factors
        }

    def measure(self, estimator, setting):
        labels = labels_of(estimator)
        return super().measure(estimator, setting) | {
            "majority": majority_accuracy_score(setting.y, labels),
            "clusters": len(np.unique(labels)),
        }
