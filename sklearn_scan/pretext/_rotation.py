# SPDX-License-Identifier: BSD-3-Clause
"""Every sample of a batch in four rotations: what the rotation tasks share."""

import torch
import torch.nn.functional as F
from torch import nn

N_ROTATIONS = 4


def make_rotations(encoder):
    """Return the module that rotates what `encoder` reads.

    Parameters
    ----------
    encoder : Encoder
        Knows whether samples are images or rows, and the scale of the features of rows.

    Returns
    -------
    rotations : QuarterTurns or OrthogonalMaps
        From samples (b, ...) to samples (4b, ...): first all as they are, then all in
        the first rotation, and so on.
    """
    if encoder.mean.ndim == 1:
        return OrthogonalMaps(encoder.mean, encoder.scale)
    return QuarterTurns()


def rotation_labels(rotated):
    """Return the rotation of every sample of `rotated`, of shape (4b,)."""
    numbers = torch.arange(N_ROTATIONS, device=rotated.device)
    return numbers.repeat_interleave(len(rotated) // N_ROTATIONS)


class QuarterTurns(nn.Module):
    """Turn images by 0, 90, 180 and 270 degrees, counterclockwise.

    Of images that are not square the central square is turned and then resized to the
    shape of the image. So is the unrotated square: the direction in which an image was
    stretched would give the answer away.
    """

    @torch.no_grad()
    def forward(self, images):
        """Return images (4b, c, h, w) for images (b, c, h, w)."""
        square = central_square(images)
        turned = [torch.rot90(square, k, dims=(-2, -1)) for k in range(N_ROTATIONS)]
        return resize(torch.cat(turned), images.shape[-2:])


def central_square(images):
    """Crop the central square of images (b, c, h, w)."""
    height, width = images.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images[..., top : top + side, left : left + side]


def resize(images, shape):
    """Resize images to `shape` (h, w), bilinearly."""
    if images.shape[-2:] == shape:
        return images
    with torch.autocast(images.device.type, enabled=False):
        return F.interpolate(images, tuple(shape), mode="bilinear")


class OrthogonalMaps(nn.Module):
    """Apply the identity and three random orthogonal maps to standardised rows.

    The maps mix the features that vary; a feature that never does stays as it is.

    Parameters
    ----------
    mean, scale : Tensor of shape (d,)
        Of the features: ``(rows - mean) * scale`` is standardised, and `scale` is zero
        for a feature that never varies.
    """

    def __init__(self, mean, scale):
        super().__init__()
        varies = scale > 0
        self.register_buffer("mean", mean.clone())
        self.register_buffer("scale", scale.clone())
        self.register_buffer("spread", torch.where(varies, 1 / scale, 0.0))
        maps = [draw_orthogonal(varies) for _ in range(N_ROTATIONS - 1)]
        self.register_buffer("maps", torch.stack(maps))

    @torch.no_grad()
    def forward(self, rows):
        """Return rows (4b, d) for rows (b, d)."""
        with torch.autocast(rows.device.type, enabled=False):
            standardised = (rows - self.mean) * self.scale
            mapped = standardised @ self.maps.mT  # (3, b, d)
            return torch.cat([rows, *(self.mean + mapped * self.spread)])


def draw_orthogonal(varies):
    """Draw an orthogonal matrix (d, d), uniformly, that mixes what `varies` (d,)."""
    n_varying = int(varies.sum())
    q, r = torch.linalg.qr(torch.randn(n_varying, n_varying))
    matrix = torch.eye(len(varies))
    # The signs of the diagonal make the draw uniform (Mezzadri, 2007, section 5).
    matrix[varies.nonzero(), varies.nonzero().T] = q * r.diagonal().sign()
    return matrix
