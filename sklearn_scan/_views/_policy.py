# SPDX-License-Identifier: BSD-3-Clause
"""Which views fit what ``X`` is: measured on ``X``, without labels.

A view must change how an image looks and not what it shows. Whether a mirror does one
or the other depends on the images: a mirrored ship is a ship, a mirrored 2 is nothing.
So the question is put to the images. If a changed image is as near to some *other*
image as an unchanged one is, the set does not tell the two apart, and the change is
harmless; if it is farther from all of them, the change made something that does not
occur. ``benchmarks/views.py`` prints the measurements on several sets.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from sklearn_scan._views._base import Views
from sklearn_scan._views._color import (
    ColorJitter,
    Grayscale,
    Invert,
    negative,
    remove_color,
)
from sklearn_scan._views._geometry import (
    Affine,
    Flip,
    Geometry,
    ResizedCrop,
    border_median,
)
from sklearn_scan._views._strong import (
    GEOMETRIC_OPERATIONS,
    STRONG_OPERATIONS,
    Cutout,
    RandomOperations,
)
from sklearn_scan._views._vector import FeatureDropout, FeatureNoise

# What a policy is made of: maps, which are composed into one, and changes of pixels.
_MAPS = {"affine": Affine, "crop": ResizedCrop, "flip": Flip}
_CHANGES = {
    "color": lambda: [ColorJitter(), Grayscale()],
    "gray": lambda: [ColorJitter(), Grayscale(p=0.5)],
    "light": lambda: [ColorJitter(saturation=0, hue=0)],
    "invert": lambda: [Invert()],
    "operations": lambda: [RandomOperations(operations=STRONG_OPERATIONS)],
    "shapes": lambda: [RandomOperations(operations=GEOMETRIC_OPERATIONS)],
    "cutout": lambda: [Cutout()],
}
SINGLE_VIEWS = {*_MAPS, *_CHANGES}
POLICIES = ("auto", "strong", "affine", "photo", "vector", "none")

# A change that takes images this much farther from the rest is not harmless.
_HARMLESS = 1.1
# One that takes them this much nearer removes what hides the rest.
_HELPFUL = 0.9
# Mean deviation of the border, relative to that of the whole image, up to which an
# image counts as an object on a background.
_FLAT_BORDER = 0.6
_N_PROBES = 1000
_N_COMPARED = 3000
_PROBE_SIDE = 16
# Values of images that are looked at together.
_MOST_VALUES = 2**23


def build_views(views, source, *, strong=False):
    """Make the views that a parameter asks for.

    Parameters
    ----------
    views : str, tuple of str or callable
        The name of a policy, the names of single views, or a factory
        ``f(sample_shape) -> nn.Module`` that is given (c, h, w) for images and (d,) for
        rows.
    source : ArraySource
        The data, which "auto" looks at.
    strong : bool, default=False
        Whether "auto" means the strong operations of the paper where they fit.

    Returns
    -------
    views : nn.Module
        From a batch to a batch of the same shape.
    """
    shape = source.format.tensor_shape
    if isinstance(views, nn.Module):
        raise TypeError(
            f"views is the module {type(views).__name__}; pass a class or a "
            "function that makes one, given the shape of a sample."
        )
    if callable(views):
        made = views(shape)
        if not isinstance(made, nn.Module):
            raise TypeError(
                f"The views factory returned {type(made).__name__}, not a "
                "torch.nn.Module."
            )
        return Views(made).to(source.device)
    is_image = len(shape) == 3
    if views == "auto":
        views = choose_policy(source, strong=strong) if is_image else "vector"
    if views == "none":
        return Views(nn.Identity())
    check_views(views)
    if is_image == (views == "vector"):
        raise ValueError(
            f"views={views!r} does not go with samples of shape {shape}: "
            'rows need "vector", images any other.'
        )
    return Views(*_make_policy(views)).to(source.device)


def check_views(views):
    """Raise where a tuple names unknown views."""
    if not isinstance(views, tuple):
        return
    known = sorted(SINGLE_VIEWS)
    unknown = [view for view in views if view not in known]
    if unknown:
        raise ValueError(
            f"Unknown views in views={views!r}: {', '.join(map(repr, unknown))}. "
            f"Choose from {', '.join(map(repr, known))}."
        )


def make_strong_views(sample_shape, cutout=0.5):
    """Make the strong views of the paper, with the longest side of the hole.

    `cutout` is a share of the side of the image: 16 of 32 pixels for CIFAR, and a third
    for larger images.
    """
    *others, _ = _make_policy("strong")
    return nn.Sequential(*others, Cutout(cutout))


def choose_policy(source, *, strong=False):
    """Choose views for images by looking at them.

    Parameters
    ----------
    source : ArraySource
        The images.
    strong : bool, default=False
        Whether to choose the strong operations of the paper for pictures that fill
        their frame. On objects on a background, where few pixels say everything, they
        destroy more than they vary, and are not chosen. They spare colour where it
        tells images apart.

    Returns
    -------
    policy : tuple of str
        Names of single views, in the order in which they are applied.
    """
    images, unrest = summarize(source)
    flip = ["flip"] if is_harmless(images, lambda x: x.flip(-1)) else []
    color = choose_color(images)
    if unrest.median() <= _FLAT_BORDER:
        # A negative has the opposite colour, and that of a picture is no picture.
        color_tells = images.shape[1] == 3 and color == "light"
        may_invert = not color_tells and is_harmless(images, negative)
        invert = ["invert"] if may_invert else []
        return ("affine", *flip, color, *invert)
    if strong:
        return (*flip, "shapes" if color == "light" else "operations", "cutout")
    return ("crop", *flip, color)


def choose_color(images):
    """Choose how much of their colour images may lose.

    Parameters
    ----------
    images : Tensor of shape (n, c, h, w)
        As in `is_harmless`.

    Returns
    -------
    view : {"light", "color", "gray"}
        "light" where colour tells images apart, or there is none; "gray" where it hides
        what tells them apart, so that they are nearer to each other without it.
    """
    ratio = relative_distance(images, remove_color) if images.shape[1] == 3 else None
    if ratio is None or ratio > _HARMLESS:
        return "light"
    return "gray" if ratio <= _HELPFUL else "color"


def is_harmless(images, change):
    """Say whether changed images are as near to other images as unchanged ones are.

    Parameters
    ----------
    images : Tensor of shape (n, c, h, w)
        At least two small images, of which about 1,000 are probed against all.
    change : callable
        From images to images of the same shape.

    Returns
    -------
    harmless : bool
        False where the median ratio of the two distances exceeds 1.1, and where all
        images have exact duplicates, which say nothing.
    """
    ratio = relative_distance(images, change)
    return ratio is not None and ratio <= _HARMLESS


def relative_distance(images, change):
    """Return how much farther from other images a change takes a typical image.

    The median over images of the ratio of the two distances; None where all images have
    an exact duplicate, whose distance of zero says nothing.
    """
    # From everywhere, as images may be in the order of their kinds.
    step = max(1, len(images) // _N_PROBES)
    indices = torch.arange(0, len(images), step, device=images.device)
    probes = images[indices]
    changed = _distance_to_others(change(probes), images, indices)
    unchanged = _distance_to_others(probes, images, indices)
    told = unchanged > 0
    if not told.any():
        return None
    return float((changed[told] / unchanged[told]).median())


def border_unrest(images):
    """Compute how much each border varies, relative to its image, of shape (n,)."""
    border = torch.cat(
        [images[:, :, (0, -1)].flatten(2), images[..., (0, -1)].flatten(2)], dim=2
    )
    unrest = (border - border_median(images).squeeze(3)).abs().mean(dim=(1, 2))
    contrast = images - images.mean(dim=(2, 3), keepdim=True)
    return unrest / contrast.abs().mean(dim=(1, 2, 3)).clamp_min(1e-6)


def summarize(source):
    """Return what the choice needs: small copies of images, and their border unrest.

    Batch by batch: thousands of large images need not fit into memory as floats.
    """
    step = max(1, len(source) // _N_COMPARED)
    indices = torch.arange(0, len(source), step)[:_N_COMPARED]
    small, unrest = [], []
    n_values = math.prod(source.format.tensor_shape)
    for part in indices.split(max(1, min(64, _MOST_VALUES // n_values))):
        images = source.read(part)
        sides = [min(_PROBE_SIDE, side) for side in images.shape[-2:]]
        small.append(F.adaptive_avg_pool2d(images, sides))
        unrest.append(border_unrest(images))
    return torch.cat(small), torch.cat(unrest)


def _distance_to_others(queries, images, own):
    """Return the distance of each query to the nearest image but its own."""
    distance = torch.cdist(queries.flatten(1), images.flatten(1))
    distance.scatter_(1, own[:, None], np.inf)
    return distance.min(dim=1).values


def _make_policy(policy):
    """Return the list of views for a named policy or a tuple of single views."""
    if policy == "vector":
        return [FeatureNoise(), FeatureDropout()]
    if policy == "affine":
        policy = ("affine", "light")
    elif policy == "photo":
        policy = ("crop", "flip", "color")
    elif policy == "strong":
        policy = ("flip", "operations", "cutout")
    geometry = [_MAPS[name]() for name in policy if name in _MAPS]
    made = [Geometry(*geometry)] if geometry else []
    for name in policy:
        if name in _CHANGES:
            made += _CHANGES[name]()
    return made
