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


def stack_matrices(images, rows):
    """Return a 3 x 3 matrix per image, of shape (b, 3, 3), given its entries.

    In one piece: writing them one by one into a matrix would be a kernel each.

    Parameters
    ----------
    images : Tensor of shape (b, c, h, w)
        Say how many matrices there are, and where.
    rows : sequence of three sequences of three
        Tensors of shape (b,), or the numbers 0 and 1.
    """
    n_images = len(images)
    numbers = {0: images.new_zeros(n_images), 1: images.new_ones(n_images)}
    entries = [
        entry if isinstance(entry, torch.Tensor) else numbers[entry]
        for row in rows
        for entry in row
    ]
    return torch.stack(entries, dim=1).view(-1, 3, 3)


def per_image(values):
    """Reshape (b,) so that it broadcasts over images (b, c, h, w)."""
    return values.view(-1, 1, 1, 1)
