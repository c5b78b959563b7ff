# SPDX-License-Identifier: BSD-3-Clause
"""The strong augmentation of the paper: four of 14 operations per image, and cutout.

Van Gansbeke et al. (ECCV 2020), section 3.1 and supplement, take the operations and
magnitudes of RandAugment (Cubuk et al., 2020). Operations are drawn with replacement,
and the magnitude is uniform. As in the paper's experiments, colour, contrast,
brightness and sharpness are only ever weakened.
"""

import torch
import torch.nn.functional as F

from sklearn_scan._views._base import View, per_image, uniform
from sklearn_scan._views._color import luma
from sklearn_scan._views._geometry import identity_maps, resample


class RandomOperations(View):
    """Apply `n_operations` operations to each image, drawn with replacement.

    Parameters
    ----------
    n_operations : int, default=4
        How many are applied to each image.
    operations : tuple of callable or None, default=None
        Functions ``f(images, level)`` with the level (b,) uniform in [0, 1]; None
        stands for the 14 of the paper, `STRONG_OPERATIONS`.
    """

    def __init__(self, n_operations=4, operations=None):
        super().__init__()
        self.n_operations = n_operations
        self.operations = STRONG_OPERATIONS if operations is None else operations

    def forward(self, images):
        """Return the images after their operations, clipped to [0, 1]."""
        images = images.clone()
        for _ in range(self.n_operations):
            choice = torch.randint(len(self.operations), (len(images),))
            level = uniform(images, 0, 1)
            for k, operation in enumerate(self.operations):
                chosen = (choice == k).nonzero().squeeze(1).to(images.device)
                if len(chosen):
                    images[chosen] = operation(images[chosen], level[chosen])
        return images.clamp(0, 1)


class Cutout(View):
    """Erase one square of each image: its pixels take the mean of the image.

    Parameters
    ----------
    size : float, default=0.5
        Longest side of the square, as a share of the shorter side of the image; the
        side is uniform between one pixel and that. The centre is uniform over the
        image, so that a square may hang over the edge.
    """

    def __init__(self, size=0.5):
        super().__init__()
        self.size = size

    def forward(self, images):
        """Return the images, each with a hole."""
        height, width = images.shape[-2:]
        longest = max(1, int(self.size * min(height, width)))
        side = uniform(images, 1, longest + 1).floor()
        rows = _span(images, height, side)[:, None, :, None]  # (b, 1, h, 1)
        columns = _span(images, width, side)[:, None, None, :]  # (b, 1, 1, w)
        mean = images.mean(dim=(2, 3), keepdim=True)
        return torch.where(rows & columns, mean, images)


def _span(images, length, side):
    """Mark the `side` positions around a random centre, of shape (b, length)."""
    start = (uniform(images, 0, length).floor() - side.div(2).floor())[:, None]
    position = torch.arange(length, device=images.device)[None]
    return (position >= start) & (position < start + side[:, None])


def identity(images, level):
    """Leave the images alone."""
    return images


def autocontrast(images, level):
    """Stretch each channel so that its darkest pixel is 0 and its brightest is 1."""
    low = images.amin(dim=(2, 3), keepdim=True)
    high = images.amax(dim=(2, 3), keepdim=True)
    span = high - low
    return torch.where(span > 0, (images - low) / span.clamp_min(1e-6), images)


def equalize(images, level):
    """Give each channel a flat histogram: a pixel becomes the share of darker ones.

    As in Pillow, the darkest value becomes 0 and the brightest 1.
    """
    values = (images.clamp(0, 1) * 255).round().long().flatten(2)  # (b, c, h * w)
    histogram = images.new_zeros(*values.shape[:2], 256)
    histogram.scatter_add_(2, values, torch.ones_like(values, dtype=images.dtype))
    darker = histogram.cumsum(dim=2) - histogram
    share = darker.gather(2, values)
    most = share.amax(dim=2, keepdim=True)
    equalized = torch.where(most > 0, share / most.clamp_min(1), images.flatten(2))
    return equalized.view_as(images)


def rotate(images, level):
    """Rotate by -30 to 30 degrees."""
    angle = ((2 * level - 1) * 30).deg2rad()
    aspect = _aspect(images)
    matrix = identity_maps(images)
    matrix[:, 0, 0] = matrix[:, 1, 1] = angle.cos()
    matrix[:, 0, 1] = -angle.sin() / aspect
    matrix[:, 1, 0] = angle.sin() * aspect
    return resample(images, matrix)


def solarize(images, level):
    """Invert what is brighter than a threshold between 0 and 1."""
    return torch.where(images >= per_image(level), 1 - images, images)


def color(images, level):
    """Fade towards gray: 0.05 to 0.95 of the colour is left."""
    return _blend(luma(images), images, level)


def contrast(images, level):
    """Fade towards the mean brightness."""
    return _blend(luma(images).mean(dim=(1, 2, 3), keepdim=True), images, level)


def brightness(images, level):
    """Fade towards black."""
    return _blend(torch.zeros_like(images), images, level)


def sharpness(images, level):
    """Fade towards a smoothed copy (Pillow's 3 x 3 kernel; the border stays)."""
    if min(images.shape[-2:]) < 3:
        return images
    kernel = torch.ones(3, 3, device=images.device)
    kernel[1, 1] = 5
    kernel = (kernel / kernel.sum()).expand(images.shape[1], 1, 3, 3)
    smooth = images.clone()
    smooth[..., 1:-1, 1:-1] = F.conv2d(images, kernel, groups=images.shape[1])
    return _blend(smooth, images, level)


def shear_x(images, level):
    """Shear along the rows by -0.1 to 0.1 pixels per pixel."""
    return _off_diagonal(images, level, 0, 1, reach=0.1 / _aspect(images))


def shear_y(images, level):
    """Shear along the columns by -0.1 to 0.1 pixels per pixel."""
    return _off_diagonal(images, level, 1, 0, reach=0.1 * _aspect(images))


def translate_x(images, level):
    """Shift by -10 to 10 percent of the width."""
    return _off_diagonal(images, level, 0, 2, reach=0.2)


def translate_y(images, level):
    """Shift by -10 to 10 percent of the height."""
    return _off_diagonal(images, level, 1, 2, reach=0.2)


def posterize(images, level):
    """Keep the 4 to 8 highest of 8 bits."""
    step = 2 ** (4 - per_image((4 * level).round()))  # 16, 8, 4, 2, 1
    return (images * 255 / step).floor() * step / 255


STRONG_OPERATIONS = (
    identity,
    autocontrast,
    equalize,
    rotate,
    solarize,
    color,
    contrast,
    brightness,
    sharpness,
    shear_x,
    shear_y,
    translate_x,
    translate_y,
    posterize,
)

# What is left when neither the brightness scale nor the colours may be redrawn.
GEOMETRIC_OPERATIONS = (
    identity,
    rotate,
    sharpness,
    shear_x,
    shear_y,
    translate_x,
    translate_y,
)


def _blend(other, images, level):
    return torch.lerp(other, images, per_image(0.05 + 0.9 * level))


def _aspect(images):
    return images.shape[-1] / images.shape[-2]


def _off_diagonal(images, level, row, column, *, reach):
    matrix = identity_maps(images)
    matrix[:, row, column] = (2 * level - 1) * reach
    return resample(images, matrix)
