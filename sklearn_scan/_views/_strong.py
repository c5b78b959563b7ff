# SPDX-License-Identifier: BSD-3-Clause
"""The strong augmentation of the paper: four of 14 operations per image, and cutout.

Van Gansbeke et al. (ECCV 2020), section 3.1 and supplement, take the operations and
magnitudes of RandAugment (Cubuk et al., 2020). Operations are drawn with replacement,
and the magnitude is uniform. As in the paper's experiments, colour, contrast,
brightness and sharpness are only ever weakened.
"""

from functools import wraps

import numpy as np
import torch
import torch.nn.functional as F

from sklearn_scan._views._base import View, per_image, uniform
from sklearn_scan._views._color import luma
from sklearn_scan._views._geometry import identity_maps, resample


class RandomOperations(View):
    """Apply `n_operations` operations to each image, drawn with replacement.

    Which operation an image gets is drawn on the host, which sorts images by operation:
    each operation then has a slice, whose length needs not be asked of the device.
    Operations that resample come last, and share one resampling.

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
        if not self.n_operations:
            return images.clamp(0, 1)
        sorted_operations = sorted(self.operations, key=_is_resampling)
        places = np.array([sorted_operations.index(f) for f in self.operations])
        groups, levels = [], []
        for _ in range(self.n_operations):
            groups.append(draw_groups(places, len(images)))
            levels.append(uniform(images, 0, 1))
        orders, sizes = zip(*groups, strict=True)
        (*moves, back), orders = _send_orders(np.stack(orders), images.device)
        levels = torch.stack(levels).gather(1, orders)
        for move, level, size in zip(moves, levels, sizes, strict=True):
            images = _change_groups(sorted_operations, images[move], level, size)
        return images[back].clamp(0, 1)


def draw_groups(places, n_images):
    """Draw an operation for each image, and sort the images by it, on the host.

    Parameters
    ----------
    places : ndarray of shape (n_operations,)
        Where in the order each operation comes.
    n_images : int
        How many there are.

    Returns
    -------
    order : ndarray of shape (n_images,)
        Of the images.
    sizes : list of int
        How many images the operation at each place gets.
    """
    choice = torch.randint(len(places), (n_images,), device="cpu").numpy()
    drawn = places[choice]
    sizes = np.bincount(drawn, minlength=len(places))
    return np.argsort(drawn, kind="stable"), sizes.tolist()


def _change_groups(operations, images, level, sizes):
    """Apply the operations to consecutive groups of images, of these sizes.

    Operations that resample come last, and share one resampling.
    """
    maps, swing, aspect = identity_maps(images), _swing(level), _aspect(images)
    changed, begin, n_changed = [], 0, 0
    for operation, size in zip(operations, sizes, strict=True):
        group, begin = slice(begin, begin + size), begin + size
        if size and _is_resampling(operation):
            operation.set_maps(maps[group], swing[group], aspect)
        elif size:
            changed.append(operation(images[group], level[group]))
            n_changed = begin
    if n_changed < len(images):
        changed.append(resample(images[n_changed:], maps[n_changed:]))
    return torch.cat(changed)


def _send_orders(orders, device):
    """Send the orders (n, b) of n rounds to the device, all at once.

    Returns
    -------
    moves : Tensor of shape (n + 1, b)
        From the order of one round to that of the next, beginning and ending with the
        order in which the images are.
    orders : Tensor of shape (n, b)
    """
    back = np.argsort(orders, axis=1)
    between = np.take_along_axis(back[:-1], orders[1:], axis=1)
    sent = np.concatenate([orders[:1], between, back[-1:], orders])
    sent = torch.from_numpy(sent).to(device, non_blocking=True)
    return sent.split((len(orders) + 1, len(orders)))


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


def resampling(set_maps):
    """Make an operation of a function that says where pixels are read.

    The function is given identity maps (b, 3, 3), in which it sets what is different,
    levels (b,) stretched to [-1, 1], and the aspect ratio. It stays at hand as
    `set_maps`, so that maps of several operations can be applied together.
    """

    @wraps(set_maps)
    def operation(images, level):
        maps = identity_maps(images)
        set_maps(maps, _swing(level), _aspect(images))
        return resample(images, maps)

    operation.set_maps = set_maps
    return operation


def _is_resampling(operation):
    return hasattr(operation, "set_maps")


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
    # In integers: of floats, a cumulative sum is not deterministic on CUDA.
    histogram = values.new_zeros(*values.shape[:2], 256)
    histogram.scatter_add_(2, values, torch.ones_like(values))
    darker = histogram.cumsum(dim=2) - histogram
    share = darker.gather(2, values).to(images.dtype)
    most = share.amax(dim=2, keepdim=True)
    equalized = torch.where(most > 0, share / most.clamp_min(1), images.flatten(2))
    return equalized.view_as(images)


@resampling
def rotate(maps, swing, aspect):
    """Rotate by -30 to 30 degrees."""
    angle = (swing * 30).deg2rad()
    sin = angle.sin()
    maps[:, 0, 0] = maps[:, 1, 1] = angle.cos()
    maps[:, 0, 1] = -sin / aspect
    maps[:, 1, 0] = sin * aspect


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
    kernel = images.new_full((images.shape[1], 1, 3, 3), 1 / 13)
    kernel[:, :, 1, 1] = 5 / 13
    smooth = images.clone()
    smooth[..., 1:-1, 1:-1] = F.conv2d(images, kernel, groups=images.shape[1])
    return _blend(smooth, images, level)


@resampling
def shear_x(maps, swing, aspect):
    """Shear along the rows by -0.1 to 0.1 pixels per pixel."""
    maps[:, 0, 1] = swing * (0.1 / aspect)


@resampling
def shear_y(maps, swing, aspect):
    """Shear along the columns by -0.1 to 0.1 pixels per pixel."""
    maps[:, 1, 0] = swing * (0.1 * aspect)


@resampling
def translate_x(maps, swing, aspect):
    """Shift by -10 to 10 percent of the width."""
    maps[:, 0, 2] = swing * 0.2


@resampling
def translate_y(maps, swing, aspect):
    """Shift by -10 to 10 percent of the height."""
    maps[:, 1, 2] = swing * 0.2


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


def _swing(level):
    """Stretch levels in [0, 1] to [-1, 1]."""
    return 2 * level - 1


def _aspect(images):
    return images.shape[-1] / images.shape[-2]
