# SPDX-License-Identifier: BSD-3-Clause
"""VICReg: the loss against its formula, and what it learns."""

import numpy as np
import pytest
import torch

from sklearn_scan.metrics import neighbor_purity_score
from sklearn_scan.neighbors import mine_neighbors
from sklearn_scan.pretext import VICReg
from sklearn_scan.pretext._vicreg import VICRegLoss


def numpy_vicreg(first, second, invariance, variance, covariance):
    def spread(z):
        std = np.sqrt(z.var(axis=0, ddof=1) + 1e-4)
        return np.maximum(0, 1 - std).mean()

    def overlap(z):
        c = np.cov(z.T)
        return (c**2).sum() / len(c) - (np.diag(c) ** 2).sum() / len(c)

    return (
        invariance * ((first - second) ** 2).sum(axis=1).mean() / first.shape[1]
        + variance * (spread(first) + spread(second))
        + covariance * (overlap(first) + overlap(second))
    )


@pytest.mark.parametrize("weights", [(25, 25, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_the_loss_is_its_formula(weights):
    random = np.random.default_rng(0)
    first, second = random.normal(scale=0.8, size=(2, 7, 4))
    pair = [torch.tensor(z, requires_grad=True) for z in (first, second)]
    loss, record = VICRegLoss(*weights)(*pair)
    assert loss.item() == pytest.approx(numpy_vicreg(first, second, *weights))
    assert set(record) == {"loss", "invariance", "variance", "covariance"}
    assert torch.autograd.gradcheck(lambda a, b: VICRegLoss(*weights)(a, b)[0], pair)


def test_collapse_is_what_it_punishes():
    same = torch.ones(8, 4)
    assert float(VICRegLoss()(same, same)[0]) == pytest.approx(2 * 25 * 0.99)


def test_neighbours_are_purer_than_those_of_pixels(digits, device):
    images, y = digits
    pretext = VICReg(epochs=30, random_state=0, device=device)
    embedding = pretext.fit_transform(images)
    pixels = mine_neighbors(images.reshape(len(images), -1), 20)
    purity = neighbor_purity_score(mine_neighbors(embedding, 20), y)
    assert purity > neighbor_purity_score(pixels, y) + 0.01
    assert pretext.history_[-1]["loss"] < pretext.history_[0]["loss"]
