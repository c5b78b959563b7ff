# SPDX-License-Identifier: BSD-3-Clause
"""Crops, flips and affine maps, composed first and resampled once.

Each map is a 3 x 3 matrix per image in the coordinates of `affine_grid`: the image
spans [-1, 1] in both axes, and the matrix says where in the input a pixel of the output
is read. Composing matrices instead of images costs one interpolation, and on images of
8 x 8 pixels every interpolation is seen.
"""

import math
from functools import reduce

import torch
import torch.nn.functional as F

from sklearn_scan._views._base import View, chance, stack_matrices, uniform


class Geometry(View):
    """Apply random geometric maps with a single resampling.

    What lies outside an image is filled with the median of its own border, so that a
    digit on white and a digit on black both stay what they are.

    Parameters
    ----------
    *maps : ResizedCrop, Affine or Flip
        Applied in this order.
    """

    def __init__(self, *maps):
        super().__init__()
        self.maps = maps

    def forward(self, images):
        """Return the mapped images."""
        maps = [draw(images) for draw in self.maps] or [identity_maps(images)]
        return resample(images, reduce(torch.matmul, maps))


class ResizedCrop:
    """Crop an area of random size and aspect ratio, and resize it to the whole.

    Parameters
    ----------
    scale : tuple of float, default=(0.2, 1.0)
        Range of the share of the area.
    ratio : float, default=4/3
        Largest aspect ratio; the smallest is its inverse.
    """

    def __init__(self, scale=(0.2, 1.0), ratio=4 / 3):
        self.scale = scale
        self.ratio = ratio

    def __call__(self, images):
        """Draw matrices (b, 3, 3)."""
        area = uniform(images, *self.scale)
        log_ratio = math.log(self.ratio)
        stretch = uniform(images, -log_ratio, log_ratio).exp().sqrt()
        side = area.sqrt()
        width, height = (side * stretch).clamp(max=1), (side / stretch).clamp(max=1)
        x = uniform(images, -1, 1) * (1 - width)
        y = uniform(images, -1, 1) * (1 - height)
        return stack_matrices(images, [(width, 0, x), (0, height, y), (0, 0, 1)])


class Flip:
    """Mirror left and right with probability `p`."""

    def __init__(self, p=0.5):
        self.p = p

    def __call__(self, images):
        """Draw matrices (b, 3, 3)."""
        sign = 1 - 2.0 * chance(images, self.p)
        return stack_matrices(images, [(sign, 0, 0), (0, 1, 0), (0, 0, 1)])


class Affine:
    """Rotate, shear, scale, stretch and translate around the centre.

    Parameters
    ----------
    degrees : float, default=15
        Largest rotation, in both directions.
    shear : float, default=15
        Largest shear, in degrees.
    scale : float, default=1.25
        Largest zoom; the smallest is its inverse.
    stretch : float, default=1.15
        Largest factor by which width grows while height shrinks by as much.
    translate : float, default=0.1
        Largest shift, as a share of the side.
    """

    def __init__(self, degrees=15, shear=15, scale=1.25, stretch=1.15, translate=0.1):
        self.degrees = degrees
        self.shear = shear
        self.scale = scale
        self.stretch = stretch
        self.translate = translate

    def __call__(self, images):
        """Draw matrices (b, 3, 3)."""
        angle = uniform(images, -self.degrees, self.degrees).deg2rad()
        shear = uniform(images, -self.shear, self.shear).deg2rad().tan()
        zoom = uniform(images, -math.log(self.scale), math.log(self.scale)).exp()
        log_stretch = math.log(self.stretch)
        stretch = uniform(images, -log_stretch, log_stretch).exp()
        # Coordinates are relative to the sides, so an angle on a page that is not
        # square needs the aspect ratio on both sides of the rotation.
        aspect = images.shape[-1] / images.shape[-2]
        cos, sin = angle.cos(), zoom * angle.sin()
        # The coordinates span two units per side.
        reach = 2 * self.translate
        x, y = uniform(images, -reach, reach), uniform(images, -reach, reach)
        first = (zoom * stretch * cos, (shear - sin) / aspect, x)
        second = (sin * aspect, zoom / stretch * cos, y)
        return stack_matrices(images, [first, second, (0, 0, 1)])


def resample(images, matrix):
    """Read `images` (b, c, h, w) through the maps `matrix` (b, 3, 3), bilinearly."""
    fill = border_median(images)
    grid = make_grid(matrix, *images.shape[-2:])
    # grid_sample pads with zeros; shifted by the fill, zero is the fill.
    return F.grid_sample(images - fill, grid, align_corners=False) + fill


def make_grid(matrix, height, width):
    """Return where images are read through maps (b, 3, 3), of shape (b, h, w, 2).

    As `affine_grid` does, in a third of the time: by one product for all images, and
    not by one for each.
    """
    x, y = (
        (2 * torch.arange(n, device=matrix.device) + 1) / n - 1 for n in (width, height)
    )
    ones = torch.ones(height * width, device=matrix.device)
    pixels = torch.stack([x.repeat(height), y.repeat_interleave(width), ones])
    places = matrix[:, :2].reshape(-1, 3) @ pixels
    return places.view(-1, 2, height, width).movedim(1, -1)


def border_median(images):
    """Return the median over the border pixels, per image and channel (b, c, 1, 1)."""
    border = torch.cat(
        [
            images[:, :, 0],
            images[:, :, -1],
            images[:, :, :, 0],
            images[:, :, :, -1],
        ],
        dim=2,
    )
    # The least of the greater half; `median` is not deterministic on CUDA.
    greater = border.topk(border.shape[2] // 2 + 1, dim=2, sorted=False).values
    return greater.amin(dim=2)[:, :, None, None]


def identity_maps(images):
    """Return one 3 x 3 identity per image."""
    return torch.eye(3, device=images.device).repeat(len(images), 1, 1)
