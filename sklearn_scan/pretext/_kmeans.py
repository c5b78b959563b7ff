# SPDX-License-Identifier: BSD-3-Clause
"""k-means as DeepCluster runs it: on rows in blocks, without empty clusters."""

import sys
import warnings
from functools import partial

import torch
import torch.nn.functional as F
from sklearn.exceptions import ConvergenceWarning

_N_ITERATIONS = 20
# Variance below which there is but rounding, relative to the square of the features.
_ROUNDING = 1e-10
# How far the halves of a split cluster are moved, relative to its spread.
_PERTURBATION = 1e-3
# Rows that are held at a time in double precision, or with their distances to all
# centroids.
BLOCK = 8192


def principal_axes(features, n_components, *, whiten=True):
    """Find the map to principal components.

    Parameters
    ----------
    features : Tensor of shape (n, d)
        More or fewer rows than columns.
    n_components : int
        At most d.
    whiten : bool, default=True
        Whether all components get the same variance.

    Returns
    -------
    mean : Tensor of shape (d,)
        Of the features.
    axes : Tensor of shape (d, n_components)
        ``(features - mean) @ axes`` has uncorrelated columns, whitened of variance one;
        a column in which features do not vary is zero.
    """
    n_samples = len(features)
    mean = sum(part.sum(dim=0) for part in in_double(features)) / n_samples
    square = sum(part.square().sum() for part in in_double(features)) / n_samples
    products = (centred.T @ centred for centred in in_double(features, mean))
    variances, axes = torch.linalg.eigh(sum(products) / n_samples)
    variances, axes = variances.flip(0)[:n_components], axes.flip(1)[:, :n_components]
    varies = variances > _ROUNDING * square
    if whiten:
        axes = axes / variances.abs().sqrt()
    return mean, torch.where(varies, axes, 0.0)


def in_double(rows, offset=0):
    """Go through rows (n, d) less an offset, block by block, in double precision.

    A double of them all would be twice as large as what it is made of.
    """
    for part in rows.split(BLOCK):
        yield part.double() - offset


def find_centroids(rows, n_clusters, n_runs):
    """Return the centroids (n_clusters, d) of the best of some runs of k-means.

    Each is the nearest to some row, unless there are fewer different rows.
    """
    seeds = torch.randint(2**31 - 1, (n_runs,)).tolist()
    singles = rows.float().numpy()
    runs = [torch.from_numpy(k_means(singles, n_clusters, seed)) for seed in seeds]
    centroids = min((run.double() for run in runs), key=partial(inertia, rows))
    return refill_empty_clusters(rows, centroids, nearest(rows, centroids))[0]


def inertia(rows, centroids):
    """Return the sum of the squared distances of rows to their nearest centroids."""
    return sum(
        (part - centroids[nearest(part, centroids)]).square().sum()
        for part in in_double(rows)
    )


def k_means(rows, n_clusters, seed):
    """Return the centroids that one run of k-means finds.

    Parameters
    ----------
    rows : ndarray of shape (n, d), dtype float32
        At least `n_clusters`.
    n_clusters, seed : int
        How many, and which of the random starts.
    """
    # Here, because this import takes a quarter of a second.
    from sklearn.cluster import KMeans, kmeans_plusplus

    # On macOS torch and faiss bring an OpenMP runtime each; see `neighbors`.
    if sys.platform == "darwin":
        model = KMeans(n_clusters, n_init=1, max_iter=_N_ITERATIONS, random_state=seed)
        with warnings.catch_warnings():
            # Duplicates leave clusters empty, which is seen to elsewhere.
            warnings.simplefilter("ignore", ConvergenceWarning)
            return model.fit(rows).cluster_centers_
    import faiss

    model = faiss.Kmeans(
        rows.shape[1],
        n_clusters,
        niter=_N_ITERATIONS,
        seed=seed,
        # Few rows are no reason to complain, nor are many to leave some out.
        min_points_per_centroid=1,
        max_points_per_centroid=len(rows),
    )
    start, _ = kmeans_plusplus(rows, n_clusters, random_state=seed)
    model.train(rows, init_centroids=start)
    return model.centroids


def nearest(rows, centroids):
    """Return the number (n,) of the nearest of `centroids` (k, d) to `rows` (n, d)."""
    # ||x - c||² / 2 without ||x||² / 2, which is the same for a whole row.
    offset = centroids.square().sum(dim=1) / 2
    parts = in_double(rows)
    return torch.cat([(offset - part @ centroids.T).argmin(dim=1) for part in parts])


def refill_empty_clusters(rows, centroids, labels):
    """Give every empty cluster half of one that is not.

    The donor is drawn with probability proportional to its size. Its centroid moves a
    little in a random direction, that of the empty cluster is put as far in the
    opposite one, and the samples of the donor go to the nearer of the two.

    Parameters
    ----------
    rows : Tensor of shape (n, d)
        What is clustered.
    centroids : Tensor of shape (k, d), dtype float64
        Changed in a copy.
    labels : Tensor of shape (n,)
        Cluster of each row; changed in a copy.

    Returns
    -------
    centroids, labels : Tensor
        No cluster is empty, unless there are fewer different rows than clusters.
    """
    centroids, labels = centroids.clone(), labels.clone()
    sizes = torch.bincount(labels, minlength=len(centroids))
    for empty in (sizes == 0).nonzero().ravel():
        donor = draw_donor(rows, labels, len(centroids))
        if donor is None:
            break
        members = (labels == donor).nonzero().ravel()
        pair, is_second = split(rows[members])
        centroids[donor], centroids[empty] = pair
        labels[members[is_second]] = empty
    return centroids, labels


def draw_donor(rows, labels, n_clusters):
    """Draw a cluster of at least two different rows; None where there is none."""
    shape = n_clusters, rows.shape[1]
    largest = rows.new_full(shape, -torch.inf)
    smallest = rows.new_full(shape, torch.inf)
    for part, owners in zip(rows.split(BLOCK), labels.split(BLOCK), strict=True):
        index = owners[:, None].expand_as(part)
        largest.scatter_reduce_(0, index, part, "amax")
        smallest.scatter_reduce_(0, index, part, "amin")
    sizes = torch.bincount(labels, minlength=n_clusters).double()
    sizes[(largest == smallest).all(dim=1)] = 0
    return torch.multinomial(sizes, 1).squeeze() if sizes.any() else None


def split(rows):
    """Cut rows in two by a random plane through their mean.

    Parameters
    ----------
    rows : Tensor of shape (m, d)
        Not all the same.

    Returns
    -------
    centroids : Tensor of shape (2, d)
        The mean, moved a little to either side.
    is_second : Tensor of shape (m,)
        Which rows are nearer to the second.
    """
    mean = sum(part.sum(dim=0) for part in in_double(rows)) / len(rows)
    direction = F.normalize(torch.randn_like(mean), dim=0)
    squares = sum(offsets.square().sum() for offsets in in_double(rows, mean))
    step = _PERTURBATION * (squares / len(rows)).sqrt() * direction
    sides = [offsets @ direction > 0 for offsets in in_double(rows, mean)]
    return torch.stack([mean - step, mean + step]), torch.cat(sides)
