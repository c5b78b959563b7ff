# SPDX-License-Identifier: BSD-3-Clause
"""Views of rows: what can be changed in a vector without changing what it is."""

import torch

from sklearn_scan._views._base import View


class FeatureNoise(View):
    """Add Gaussian noise, in units of each feature's spread over the batch.

    Parameters
    ----------
    scale : float, default=0.1
        Standard deviation of the noise, relative to that of the feature.
    """

    def __init__(self, scale=0.1):
        super().__init__()
        self.scale = scale

    def forward(self, rows):
        """Return noisy rows (b, d)."""
        spread = rows.std(dim=0, correction=0)
        return rows + self.scale * spread * torch.randn_like(rows)


class FeatureDropout(View):
    """Replace some features of a row by those of another row of the batch.

    A feature taken from another sample has a value that occurs, as the corruption of
    SCARF (Bahri et al., ICLR 2022) does; zero may be a value that never occurs.

    Parameters
    ----------
    p : float, default=0.2
        Probability that a feature is replaced.
    """

    def __init__(self, p=0.2):
        super().__init__()
        self.p = p

    def forward(self, rows):
        """Return the corrupted rows (b, d)."""
        others = rows[torch.randint(len(rows), (len(rows),), device=rows.device)]
        return torch.where(torch.rand_like(rows) < self.p, others, rows)
