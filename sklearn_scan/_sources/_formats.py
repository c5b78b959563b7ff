# SPDX-License-Identifier: BSD-3-Clause
"""What ``fit`` learns about samples: how they lie in memory and what range they have.

A format is learned once and applied to every batch afterwards, in ``fit`` and in
``predict``. It holds primitives only, so that it can be hashed, cached and written as
JSON.
"""

from dataclasses import dataclass

import numpy as np

# Whoever stores pixels picks one of these as "white". The smallest that holds the data
# is taken; beyond the last, the data's own maximum.
_NOMINAL_WHITE = (1.0, 16.0, 255.0, 4095.0, 65535.0)

# The statistics of a channel are known well enough from this many images.
_N_SAMPLES_FOR_STATISTICS = 2000


@dataclass(frozen=True)
class ImageFormat:
    """Layout and range of an image array.

    Attributes
    ----------
    sample_shape : tuple of int
        Shape of one image as it lies in memory: (h, w), (h, w, c) or (c, h, w).
    channel_axis : {None, 0, 2}
        Which axis of `sample_shape` counts channels; None for (h, w).
    low, high : float
        The values that are read as 0 and as 1.
    mean, std : tuple of float
        Per channel, of the training images after scaling by `low` and `high`.
    """

    sample_shape: tuple
    channel_axis: int | None
    low: float
    high: float
    mean: tuple
    std: tuple

    @classmethod
    def learn(cls, X):
        """Learn the format of the images `X`, an array of 3 or 4 dimensions."""
        sample_shape = tuple(int(side) for side in X.shape[1:])
        channel_axis = find_channel_axis(sample_shape)
        low, high = _find_range(X)
        mean, std = _channel_statistics(X, channel_axis)
        return cls(
            sample_shape=sample_shape,
            channel_axis=channel_axis,
            low=low,
            high=high,
            mean=tuple(((mean - low) / (high - low)).tolist()),
            std=tuple((std / (high - low)).tolist()),
        )

    @property
    def tensor_shape(self):
        """Shape (c, h, w) of one decoded image."""
        if self.channel_axis is None:
            return (1, *self.sample_shape)
        if self.channel_axis == 0:
            return self.sample_shape
        height, width, n_channels = self.sample_shape
        return (n_channels, height, width)

    def decode(self, raw):
        """Read a raw batch as float32 images (b, c, h, w), training range = [0, 1]."""
        if self.channel_axis is None:
            raw = raw.unsqueeze(1)
        elif self.channel_axis == 2:
            raw = raw.permute(0, 3, 1, 2)
        return (raw.float() - self.low) / (self.high - self.low)

    def check(self, X):
        """Raise where images `X` cannot have the range that `fit` saw.

        A batch of one image may be darker than all that was seen, so only what is
        beyond doubt is refused: values outside the range by more than its width, and
        fractions in [0, 1] where the range was [0, 255].
        """
        low, high = float(X.min()), float(X.max())
        width = self.high - self.low
        too_wide = low < self.low - width or high > self.high + width
        is_fraction = self.low <= 0 <= low and 0 < high <= 1 < 16 <= self.high
        if is_fraction:
            is_fraction = bool((np.asarray(X) % 1 != 0).any())
        if too_wide or is_fraction:
            raise ValueError(
                f"The images have values from {low:g} to {high:g}, but the estimator "
                f"was fitted on images in the range {self.low:g} to {self.high:g}. "
                "Scale them as the training images were scaled."
            )


@dataclass(frozen=True)
class RowFormat:
    """Rows of features: their number, means and standard deviations.

    Attributes
    ----------
    n_features : int
        Length of a row.
    mean, std : tuple of float
        Per feature, of the training rows.
    """

    n_features: int
    mean: tuple
    std: tuple

    @classmethod
    def learn(cls, X):
        """Learn the format of the rows `X` of shape (n_samples, n_features)."""
        step = max(1, len(X) // (10 * _N_SAMPLES_FOR_STATISTICS))
        some = np.asarray(X[::step], dtype=np.float64)
        return cls(
            n_features=int(X.shape[1]),
            mean=tuple(some.mean(axis=0).tolist()),
            std=tuple(some.std(axis=0).tolist()),
        )

    @property
    def tensor_shape(self):
        """Shape (n_features,) of one decoded row."""
        return (self.n_features,)

    @property
    def sample_shape(self):
        """Shape (n_features,) of one row in memory."""
        return (self.n_features,)

    def decode(self, raw):
        """Read a raw batch as float32 rows."""
        return raw.float()

    def check(self, X):
        """Accept any rows: a feature has no natural range."""


def learn_format(X):
    """Learn the format of validated samples: of rows, or of images."""
    return (RowFormat if X.ndim == 2 else ImageFormat).learn(X)


def find_channel_axis(sample_shape):
    """Say which axis of an image's shape counts channels.

    Parameters
    ----------
    sample_shape : tuple of int
        (h, w), (h, w, c) or (c, h, w).

    Returns
    -------
    axis : {None, 0, 2}
        None for (h, w). Otherwise the last axis where it has at most 4 entries, else
        the first.

    Raises
    ------
    ValueError
        Where neither end of a shape of three has at most 4 entries.
    """
    if len(sample_shape) == 2:
        return None
    if len(sample_shape) == 3 and sample_shape[2] <= 4:
        return 2
    if len(sample_shape) == 3 and sample_shape[0] <= 4:
        return 0
    raise ValueError(
        f"Cannot read samples of shape {sample_shape} as images: needed is (h, w), "
        "(h, w, c) or (c, h, w) with 1 to 4 channels."
    )


def _channel_statistics(X, channel_axis):
    """Return mean and standard deviation per channel, from some of the images.

    Image by image, so that memory is bounded by one image in double precision.
    """
    step = -(-len(X) // _N_SAMPLES_FOR_STATISTICS)
    means, squares = [], []
    for image in X[::step]:
        image = np.asarray(image, dtype=np.float64)
        image = image[..., None] if channel_axis is None else image
        image = np.moveaxis(image, 0, -1) if channel_axis == 0 else image
        means.append(image.mean(axis=(0, 1)))
        squares.append((image**2).mean(axis=(0, 1)))
    mean = np.mean(means, axis=0)
    variance = np.mean(squares, axis=0) - mean**2
    # What is left of a constant channel is rounding.
    variance[variance < 1e-12 * np.mean(squares, axis=0)] = 0
    return mean, np.sqrt(variance)


def _find_range(X):
    """Return the values to be read as black and as white."""
    if X.dtype == np.uint8:
        return 0.0, 255.0
    low, high = float(X.min()), float(X.max())
    if low >= 0:
        return 0.0, next((white for white in _NOMINAL_WHITE if high <= white), high)
    # Constant images have no range; any positive width avoids dividing by zero.
    return low, max(high, low + 1e-6 * max(1.0, abs(low)))
