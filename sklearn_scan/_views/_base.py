# SPDX-License-Identifier: BSD-3-Clause
"""What every view has in common.

torchvision's transforms draw one set of parameters for a whole batch, which makes 256
images share one crop; these draw one per sample, and take a batch at a time all the
same, so that no Python loop runs over images.
"""

import torch
from torch import nn


class View(nn.Module):
    """A random change of each sample of a batch.

    Images are float32 (b, c, h, w) with black at 0 and white at 1; rows are float32
    (b, d). Subclasses draw their parameters with `uniform` and the like from torch's
    global generator, which the estimators seed and put back.
    """


class Views(nn.Sequential):
    """Views one after the other: without gradients, and in float32 at any precision."""

    def forward(self, batch):
        """Return a view of each sample of `batch`, of the same shape."""
        with torch.no_grad(), torch.autocast(batch.device.type, enabled=False):
            return super().forward(batch)


def uniform(batch, low, high):
    """Draw one number per sample, of shape (b,), uniform in [low, high)."""
    drawn = torch.rand(len(batch), device=batch.device, dtype=batch.dtype)
    return low + (high - low) * drawn


def chance(batch, probability):
    """Draw one boolean per sample, of shape (b,)."""
    return torch.rand(len(batch), device=batch.device) < probability


def per_image(values):
    """Reshape (b,) so that it broadcasts over images (b, c, h, w)."""
    return values.view(-1, 1, 1, 1)
