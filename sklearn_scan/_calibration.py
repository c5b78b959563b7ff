# SPDX-License-Identifier: BSD-3-Clause
"""What a probability means: a temperature that is found without labels.

Networks are trained to be sure, and say 0.99 where they are right in eight of ten
cases. With labels one would divide the logits by a temperature at which the mean
confidence is the accuracy (Guo et al., "On calibration of modern neural networks", ICML
2017). Here the accuracy is estimated: by how often samples are in the cluster of those
around them, as many as a tenth of the cluster. `benchmarks/calibration.py` compares it
with other estimates.
"""

import numpy as np
from scipy.optimize import brentq

from sklearn_scan._stages import unit_rows
from sklearn_scan.neighbors import draw_some

# The share of its cluster that a sample is compared with: the nearest. The 20 mined
# neighbours are a tenth where there are 2,000 samples in ten clusters.
_SHARE = 0.1
# Samples that are compared, and samples that they are compared with.
_MOST_ANCHORS = 2000
_MOST_ROWS = 5000
# Never surer than the network: there are errors that neighbours do not see. Beyond the
# highest all clusters would be equally likely.
_RANGE = (1.0, 32.0)


def soften(probabilities, temperature):
    """Return probabilities as if their logits were divided by a temperature.

    Parameters
    ----------
    probabilities : ndarray of shape (n_samples, n_clusters)
    temperature : float
        Above 1 for less sure answers. The order of clusters stays as it is.

    Returns
    -------
    softened : ndarray of shape (n_samples, n_clusters)
        Rows sum to one; of the same type.
    """
    if temperature == 1:
        return probabilities
    powers = probabilities ** probabilities.dtype.type(1 / temperature)
    return powers / powers.sum(axis=1, keepdims=True)


def find_temperature(probabilities, rows, metric):
    """Find the temperature at which confidence is what neighbours bear out.

    Parameters
    ----------
    probabilities : ndarray of shape (n_samples, n_clusters)
        Of the training samples, as the network gives them.
    rows : ndarray of shape (n_samples, n_features)
        Their embedding.
    metric : {"cosine", "euclidean"}
        In which rows are compared.

    Returns
    -------
    temperature : float
        1 where there is nothing to compare: one sample, one cluster, or probabilities
        that are not finite.
    """
    if min(probabilities.shape) < 2 or not np.isfinite(probabilities).all():
        return 1.0
    labels = probabilities.argmax(axis=1)
    return match_confidence(probabilities, measure_agreement(labels, rows, metric))


def measure_agreement(labels, rows, metric, share=_SHARE):
    """Return the share of near samples that are in the cluster of a sample.

    Near are as many as make a share of its cluster, so that the answer does not depend
    on the number of samples; nor do large clusters hide what happens to small ones.

    Parameters
    ----------
    labels : ndarray of shape (n_samples,), dtype int
        Clusters, from 0.
    rows : ndarray of shape (n_samples, n_features)
        The embedding.
    metric : {"cosine", "euclidean"}
        In which rows are compared.
    share : float, default=0.1
        Of the size of a cluster.

    Returns
    -------
    agreement : float
        The mean over at most 2,000 samples, among at most 5,000.
    """
    searched = draw_some(len(rows), _MOST_ROWS)
    rows, labels = rows[searched].astype(np.float32), labels[searched]
    if metric == "cosine":
        rows = unit_rows(rows)
    squares = (rows**2).sum(axis=1)
    anchors = draw_some(len(rows), _MOST_ANCHORS)
    sizes, agreement = np.bincount(labels), 0.0
    for cluster in np.unique(labels[anchors]):
        members = anchors[labels[anchors] == cluster]
        distances = squares - 2 * rows[members] @ rows.T
        distances[np.arange(len(members)), members] = np.inf
        n_near = max(1, round(share * (sizes[cluster] - 1)))
        near = np.argpartition(distances, n_near - 1, axis=1)[:, :n_near]
        agreement += (labels[near] == cluster).mean(axis=1).sum()
    return float(agreement / len(anchors))


def match_confidence(probabilities, confidence):
    """Return the temperature at which probabilities have this mean confidence.

    Parameters
    ----------
    probabilities : ndarray of shape (n_samples, n_clusters)
    confidence : float
        The mean of the largest probabilities that is wanted.

    Returns
    -------
    temperature : float
        Between 1 and 32.
    """
    # Differences of logits, exact where the largest probability is 1 in float32.
    logits = np.log(probabilities.astype(np.float64).clip(1e-45))
    logits -= logits.max(axis=1, keepdims=True)

    def excess(temperature):
        return (1 / np.exp(logits / temperature).sum(axis=1)).mean() - confidence

    lowest, highest = _RANGE
    if excess(lowest) <= 0:
        return lowest
    if excess(highest) >= 0:
        return highest
    return float(brentq(excess, lowest, highest, rtol=1e-6))
