# SPDX-License-Identifier: BSD-3-Clause
"""Clusters of unequal sizes, and more of them than a batch can hold."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import make_blobs

from sklearn_scan import SCANClustering
from sklearn_scan._losses import (
    RunningMarginal,
    SCANLoss,
    marginal_entropy,
    scan_loss,
)
from sklearn_scan.metrics import hungarian_accuracy_score


def draw_marginals(n, *shape):
    logits = torch.randn(n, *shape, generator=torch.Generator().manual_seed(0))
    return logits.softmax(dim=-1)


def test_the_running_marginal_is_the_corrected_average_of_all_batches():
    # 100 clusters want 1,000 samples: eight batches of 125.
    running, batches = RunningMarginal(), draw_marginals(5, 2, 100)
    for marginal in batches:
        found = running(marginal, n_samples=125)
    momentum = (8 - 1) / (8 + 1)
    weights = momentum ** np.arange(4, -1, -1)
    expected = np.average(batches.numpy(), axis=0, weights=weights)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


def test_the_gradient_of_the_running_marginal_is_that_of_the_present_batch():
    running, (first, second) = RunningMarginal(), draw_marginals(2, 100)
    first.requires_grad_()
    second.requires_grad_()
    running(first, n_samples=125)
    average = running(second, n_samples=125)
    marginal_entropy(average).backward()
    assert first.grad is None
    # The derivative of the entropy at the average, as a whole.
    expected = -(average.detach().log() + 1)
    torch.testing.assert_close(second.grad, expected)


@pytest.mark.parametrize(("n_samples", "is_enough"), [(1000, True), (999, False)])
def test_a_batch_with_ten_samples_per_cluster_is_taken_as_it_is(n_samples, is_enough):
    running, (first, second) = RunningMarginal(), draw_marginals(2, 100)
    running(first, n_samples)
    assert torch.equal(running(second, n_samples), second) == is_enough


def test_the_loss_of_small_batches_remembers_those_before_in_training_alone():
    loss = SCANLoss(2.0)
    batches = torch.randn(3, 2, 16, 50, generator=torch.Generator().manual_seed(0))
    plain = [scan_loss(a, a, 2.0)[0].sum() for a in batches]
    assert torch.allclose(loss(batches[0], batches[0])[0], plain[0])
    assert loss(batches[1], batches[1])[0] < plain[1] - 0.05
    loss.eval()
    assert torch.equal(loss(batches[2], batches[2])[0], plain[2])


def test_a_loss_that_is_taken_up_again_has_its_average():
    first, second, third = torch.randn(3, 2, 16, 50)
    whole, resumed = SCANLoss(2.0), SCANLoss(2.0)
    for batch in (first, second):
        whole(batch, batch)
    resumed.load_state_dict(whole.state_dict())
    assert torch.equal(resumed(third, third)[0], whole(third, third)[0])


def test_the_entropy_of_small_batches_is_no_longer_too_low():
    """100 clusters of equal size, in batches of 50 of sure samples."""
    running, random = RunningMarginal(), torch.Generator().manual_seed(0)
    alone, remembered = [], []
    for _ in range(200):
        labels = torch.randint(100, (50,), generator=random)
        marginal = torch.bincount(labels, minlength=100) / 50
        alone.append(marginal_entropy(marginal))
        remembered.append(marginal_entropy(running(marginal, n_samples=50)))
    truth = np.log(100)
    assert np.mean(alone) < truth - 0.7
    # But for the first ones, of which nothing is known yet.
    assert abs(np.mean(remembered[20:]) - truth) < 0.1


def test_equal_sizes_are_the_entropy():
    marginals, equal = draw_marginals(7, 10), torch.full((10,), 0.1)
    torch.testing.assert_close(
        marginal_entropy(marginals, equal), marginal_entropy(marginals)
    )


def test_the_entropy_is_largest_at_the_sizes_in_any_order():
    sizes = torch.tensor([0.05, 0.15, 0.8])
    marginal = sizes[[2, 0, 1]].requires_grad_()
    entropy = marginal_entropy(marginal, sizes)
    entropy.backward()
    torch.testing.assert_close(entropy.detach(), torch.tensor(3.0).log())
    # Equal in all directions: none that keeps the sum leads further up.
    torch.testing.assert_close(marginal.grad, torch.full((3,), -1.0))
    assert marginal_entropy(torch.tensor([0.3, 0.3, 0.4]), sizes) < entropy


def uneven_rows():
    """Three groups that touch, of 300, 30 and 30 samples."""
    sizes, centers = [300, 30, 30], [[0, 0], [4, 0], [0, 4]]
    X, y = make_blobs(sizes, centers=centers, cluster_std=1.0, random_state=0)
    return X.astype(np.float32), y


def test_sizes_that_are_given_are_found():
    X, y = uneven_rows()
    clusterer = SCANClustering(3, n_heads=2, random_state=0)
    blind = clone(clusterer).set_params(cluster_sizes="equal").fit_predict(X)
    assert hungarian_accuracy_score(y, blind) < 0.8
    told = clone(clusterer).set_params(cluster_sizes=[1, 10, 1]).fit_predict(X)
    assert hungarian_accuracy_score(y, told) > 0.95
    again = clone(clusterer).set_params(cluster_sizes=np.array([30, 30, 300]))
    np.testing.assert_array_equal(again.fit_predict(X), told)


def test_the_cache_tells_sizes_apart(tmp_path):
    X, _ = uneven_rows()
    clusterer = SCANClustering(3, n_heads=2, random_state=0, memory=str(tmp_path))
    clusterer.set_params(cluster_sizes="equal").fit(X)
    cached = clusterer.set_params(cluster_sizes=[1, 10, 1]).fit_predict(X)
    fresh = clusterer.set_params(memory=None).fit_predict(X)
    np.testing.assert_array_equal(cached, fresh)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([1, 2], "has shape.*Give one number per cluster"),
        ([1, 2, 0], "must be positive.*Got 0"),
        ([1, 2, np.nan], "cluster_sizes contains NaN"),
        ("uneven", "'cluster_sizes' parameter"),
    ],
)
def test_sizes_that_cannot_be(sizes, message):
    with pytest.raises(ValueError, match=message):
        SCANClustering(3, cluster_sizes=sizes).fit(uneven_rows()[0])
