# SPDX-License-Identifier: BSD-3-Clause
"""Colour jitter as one affine map of the channels per image, gray and negatives."""

import math

import torch

from sklearn_scan._views._base import (
    View,
    chance,
    per_image,
    stack_matrices,
    uniform,
)

# ITU-R BT.601, the weights that Pillow uses for "L".
_LUMA = (0.299, 0.587, 0.114)


class ColorJitter(View):
    """Change brightness, contrast, saturation and hue of each image.

    Saturation and hue need three channels; images of other channel counts keep them.
    The four changes are composed into one affine map of the channels in a fixed order
    (torchvision shuffles the order; the difference lies in the clipping alone). Hue is
    rotated in the plane of equal luma, which is linear, instead of through HSV.

    Parameters
    ----------
    brightness, contrast, saturation : float, default=0.4
        Largest relative change.
    hue : float, default=0.1
        Largest rotation of the hue, in turns.
    p : float, default=0.8
        Probability that an image is changed at all.
    """

    def __init__(self, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, p=0.8):
        super().__init__()
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.hue = hue
        self.p = p
        to_yiq = torch.tensor(
            [_LUMA, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312)],
            dtype=torch.float32,
            device="cpu",
        )
        # Buffers, which move to the device once: a copy from the host is a wait.
        self.register_buffer("to_yiq", to_yiq, persistent=False)
        self.register_buffer("to_rgb", torch.linalg.inv(to_yiq), persistent=False)

    def forward(self, images):
        """Return the jittered images, clipped to [0, 1]."""
        active = chance(images, self.p).to(images.dtype)

        def factor(reach):
            return per_image(1 + uniform(images, -reach, reach) * active)

        if images.shape[1] == 3:
            images = self._rotate_color(images, active)
        images = images * factor(self.brightness)
        mean = luma(images).mean(dim=(1, 2, 3), keepdim=True)
        return (mean + (images - mean) * factor(self.contrast)).clamp(0, 1)

    def _rotate_color(self, images, active):
        """Rotate and scale the chroma of each image, leaving its luma."""
        angle = uniform(images, -self.hue, self.hue) * 2 * math.pi * active
        gain = 1 + uniform(images, -self.saturation, self.saturation) * active
        cos, sin = gain * angle.cos(), gain * angle.sin()
        turn = stack_matrices(images, [(1, 0, 0), (0, cos, -sin), (0, sin, cos)])
        to_yiq, to_rgb = self.to_yiq.to(images.device), self.to_rgb.to(images.device)
        matrix = to_rgb @ turn @ to_yiq  # (b, 3, 3)
        return torch.einsum("bij,bjhw->bihw", matrix, images)


class Grayscale(View):
    """Replace the channels of an image by its luma with probability `p`."""

    def __init__(self, p=0.2):
        super().__init__()
        self.p = p

    def forward(self, images):
        """Return the images, some of them gray."""
        if images.shape[1] != 3:
            return images
        gray = per_image(chance(images, self.p))
        return torch.where(gray, remove_color(images), images)


class Invert(View):
    """Replace an image by its negative with probability `p`."""

    def __init__(self, p=0.5):
        super().__init__()
        self.p = p

    def forward(self, images):
        """Return the images, some of them dark where they were light."""
        inverted = per_image(chance(images, self.p))
        return torch.where(inverted, negative(images), images)


def negative(images):
    """Return images that are light where the given ones are dark.

    Each image keeps its range. Where channels are no colours, each keeps its own: one
    that is constant, such as that of opacity, stays as it is.
    """
    dims = (1, 2, 3) if images.shape[1] == 3 else (2, 3)
    low, high = images.amin(dims, keepdim=True), images.amax(dims, keepdim=True)
    return low + high - images


def remove_color(images):
    """Return images (b, 3, h, w) whose channels are all the luma of the given ones."""
    return luma(images).expand_as(images)


def luma(images):
    """Return the brightness (b, 1, h, w) that a person sees."""
    if images.shape[1] != 3:
        return images.mean(dim=1, keepdim=True)
    # By numbers: a tensor of weights would be a copy from the host.
    red, green, blue = images.split(1, dim=1)
    brightness = _LUMA[0] * red
    brightness += _LUMA[1] * green
    brightness += _LUMA[2] * blue
    return brightness
