# SPDX-License-Identifier: BSD-3-Clause
"""Encoders: from a batch of samples to a batch of feature vectors.

Where torchvision has the network, it is torchvision's; it is imported only when asked
for, because that import costs more than a second.
"""

import copy
import math
from contextlib import nullcontext
from functools import partial

import torch
from torch import nn

from sklearn_scan._nets._convolutions import fast_convolutions
from sklearn_scan._world import encode_together

# Up to this side, "auto" takes the small convolutional network.
_SMALL_SIDE = 64


class Encoder(nn.Module):
    """A network behind the standardisation of its input.

    Images are standardised channel by channel. Rows are centred, and scaled as a whole:
    the features keep the scales that their user has given them, which say what matters,
    as in k-means; components of a PCA, say, are not whitened.

    Parameters
    ----------
    network : nn.Module
        From standardised samples to features (b, n_features).
    format : ImageFormat or RowFormat
        Holds the means and standard deviations.
    n_features : int
        Length of a feature vector.
    """

    #: Each of several processes looks at a part of a batch: see `encode_together`.
    is_split = True

    def __init__(self, network, format, n_features):
        super().__init__()
        self.network = network
        self.n_features = n_features
        self.sample_shape = tuple(format.tensor_shape)
        shape = (-1, 1, 1) if len(format.tensor_shape) == 3 else (-1,)
        std = torch.tensor(format.std).view(shape)
        self.register_buffer("mean", torch.tensor(format.mean).view(shape))
        # A channel or feature that never varies (but for rounding) stays at zero.
        varies = (std > 0) & (std > 1e-6 * std.max())
        if len(format.tensor_shape) == 1:
            std = std.square().mean().sqrt().expand_as(std)
        self.register_buffer("scale", torch.where(varies, 1 / std, 0.0))

    def forward(self, batch):
        """Return the features (b, n_features) of a batch of samples."""
        # In place, as a batch of large images is most of what a step takes.
        batch = (batch - self.mean).mul_(self.scale)
        if batch.ndim == 4:
            batch = batch.contiguous(memory_format=torch.channels_last)
        with fast_convolutions(batch) if self.training else nullcontext():
            return encode_together(self.network, batch)


class ConvNet(nn.Sequential):
    """A small convolutional network for small images.

    Pairs of 3 x 3 convolutions with batch normalisation; the resolution is halved after
    the first of a pair until a side is shorter than four pixels, and the width doubles
    on the way, up to 256. Features are pooled before they are normalised, which is
    cheaper than afterwards, and finds purer neighbours among photographs. On images
    wider than 24 pixels the first convolution has stride two, which makes the network
    four times cheaper.

    Of these, images of one channel have a network that takes less time yet: the second
    of a pair doubles the width, at the lower resolution, and not the first, and one
    more convolution follows at the end. Characters lose little by that, and photographs
    more.

    Parameters
    ----------
    n_channels : int
        Channels of the input.
    side : int
        The shorter side of the input, in pixels.
    width : int, default=32
        Channels after the first convolution.
    """

    def __init__(self, n_channels, side, width=32):
        is_large = side > 24
        is_lean = is_large and n_channels == 1
        layers = [conv_block(n_channels, width, stride=2 if is_large else 1)]
        side = -(-side // 2) if is_large else side
        while side >= 4:
            wider = min(2 * width, 256)
            first = width if is_lean else wider
            layers += [conv_block(width, first, pool=True), conv_block(first, wider)]
            width, side = wider, side // 2
        if is_lean:
            layers += [conv_block(width, width)]
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        super().__init__(*layers)


def conv_block(n_in, n_out, *, stride=1, pool=False):
    """Convolve, halve the resolution by max-pooling if `pool`, normalise, rectify."""
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1, bias=False),
        *([nn.MaxPool2d(2)] if pool else []),
        nn.BatchNorm2d(n_out),
        nn.ReLU(inplace=True),
    )


def mlp(shape, *, hidden=256):
    """Make a perceptron of two hidden layers on flattened samples."""
    n_in = math.prod(shape)
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(n_in, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
    )


def convnet(shape):
    """Make a `ConvNet` for images of `shape` (c, h, w)."""
    n_channels, height, width = shape
    return ConvNet(n_channels, min(height, width))


def resnet(name, shape, *, stem="imagenet"):
    """Make torchvision's ResNet `name` without its classifier.

    With the stem "cifar", the first convolution is 3 x 3 with stride one and there is
    no max-pooling, as SimCLR (Chen et al., 2020, B.9) and SCAN do for 32 x 32 images.
    With "stl", SCAN's for 96 x 96 images, pooling over 2 x 2 follows.
    """
    import torchvision

    network = getattr(torchvision.models, name)(weights=None)
    if stem != "imagenet":
        network.conv1 = nn.Conv2d(shape[0], 64, 3, stride=1, padding=1, bias=False)
    elif shape[0] != network.conv1.in_channels:
        network.conv1 = nn.Conv2d(shape[0], 64, 7, stride=2, padding=3, bias=False)
    if stem == "cifar":
        network.maxpool = nn.Identity()
    elif stem == "stl":
        network.maxpool = nn.MaxPool2d(2, padding=1)
    network.fc = nn.Identity()
    return network


# Every encoder with a name. A factory is given the shape of a decoded sample.
ENCODERS = {"convnet": convnet, "mlp": mlp}
for _name in ("resnet18", "resnet34", "resnet50"):
    ENCODERS[_name] = partial(resnet, _name)
    for _stem in ("cifar", "stl"):
        ENCODERS[f"{_name}_{_stem}"] = partial(resnet, _name, stem=_stem)


def build_encoder(encoder, format):
    """Make the encoder that a parameter asks for.

    Parameters
    ----------
    encoder : str, class or callable
        "auto", a name in `ENCODERS`, or a factory ``f(sample_shape) -> nn.Module``,
        given (c, h, w) for images and (d,) for rows, whose module returns features of
        shape (b, n_features) or (b, n_features, 1, 1).
    format : ImageFormat or RowFormat
        What the encoder reads.

    Returns
    -------
    encoder : Encoder
        With the length of its feature vectors in `n_features`.
    """
    return wrap_network(build_network(encoder, format), format)


def build_network(encoder, format):
    """Make the network of an encoder, without what standardises its input."""
    shape = format.tensor_shape
    if encoder == "auto":
        encoder = _choose_encoder(shape)
    if isinstance(encoder, str):
        if len(shape) == 1 and encoder != "mlp":
            raise ValueError(
                f'encoder="{encoder}" reads images, but X holds rows of {shape[0]} '
                "features. Pass image_shape=(h, w) or (h, w, c) to read the rows as "
                'images, or use encoder="mlp".'
            )
        encoder = ENCODERS[encoder]
    if isinstance(encoder, nn.Module):
        raise TypeError(
            f"encoder is the module {type(encoder).__name__}; pass a class or a "
            "function that returns one, so that every fit starts anew."
        )
    # A copy, should the factory give the same module every time.
    network = copy.deepcopy(encoder(shape))
    if not isinstance(network, nn.Module):
        raise TypeError(
            f"The encoder factory returned {type(network).__name__}, not a "
            "torch.nn.Module."
        )
    return network


def wrap_network(network, format, n_features=None):
    """Return a network as an `Encoder` of samples of a format.

    Without the number of features, the network is tried.
    """
    if n_features is None:
        network, n_features = _measure(network, format.tensor_shape)
    return Encoder(network, format, n_features)


def _choose_encoder(shape):
    if len(shape) == 1:
        return "mlp"
    return "convnet" if min(shape[1:]) <= _SMALL_SIDE else "resnet18"


def _measure(network, shape):
    """Find the number of features by a dry run, flattening (b, n, 1, 1)."""
    network.eval()
    with torch.no_grad():
        features = network(torch.zeros(2, *shape))
    network.train()
    if features.ndim == 4 and features.shape[2:] == (1, 1):
        network, features = nn.Sequential(network, nn.Flatten()), features.flatten(1)
    if features.ndim != 2 or len(features) != 2:
        raise ValueError(
            f"The encoder returned features of shape {tuple(features.shape)} for a "
            "batch of 2 samples; expected (2, n_features)."
        )
    return network, int(features.shape[1])
