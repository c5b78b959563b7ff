# SPDX-License-Identifier: BSD-3-Clause
"""What ``fit`` learns about samples: how they lie in memory and what range they have.

A format is learned once and applied to every batch afterwards, in ``fit`` and in
``predict``. It holds primitives only, so that it can be hashed, cached and written as
JSON.
"""

from dataclasses import dataclass

import numpy as np
import torch

from sklearn_scan._inputs._paging import release

# Whoever stores pixels picks one of these as "white". The smallest that holds the data
# is taken; beyond the last, the data's own maximum.
_NOMINAL_WHITE = (1.0, 16.0, 255.0, 4095.0, 65535.0)

# Resampling and rounding leave values beyond black and white: not far beyond, relative
# to the span of all values, and little in all, relative to the sum of all values.
# (Bicubic, Lanczos and spline kernels on masks, where they ring most, reach 0.27 and
# 0.07. The negative values of centred images sum up to as much as the positive ones.)
_MAX_OVERSHOOT = 0.3
_MAX_OVERSHOOT_IN_ALL = 0.1

# The statistics of a channel, and the range, are known well enough from this many
# images, and from this many of their values.
_N_SAMPLES_FOR_STATISTICS = 2000
_N_VALUES_FOR_RANGE = 2**22

# Images with a smaller maximum may be in [0, 1]; if they were, they would be black to
# an estimator of images up to this white.
_MAX_OF_FRACTIONS = 1 + _MAX_OVERSHOOT
_MIN_WHITE_OF_INTEGERS = 16

# Large memmaps are searched in parts of this many values.
_N_VALUES_PER_PART = 2**22


@dataclass(frozen=True)
class ImageFormat:
    """Layout and range of an image array.

    The range of uint8 is 0 to 255. That of other types is estimated from some of the
    values, so that few odd ones do not change how all are read:

    * Black is 0, and white the smallest of 1, 16, 255, 4095 and 65535 that holds the
      values, dark images included: a maximum of 0.6 is read with white at 1, one of 120
      with white at 255.
    * A level holds values that lie a little beyond it, as resampling and rounding leave
      them: by up to 30 % of their span, if what is beyond sums up to less than a tenth
      of all. So a maximum of 17 is read with white at 16, one of 262 at 255 and one of
      4100 at 4095, and -3 is black. Beyond all levels, white is the maximum.
    * Images with more, or lower, negative values (standardised, or in [-1, 1]) are read
      from their minimum to their maximum.
    * Hot and dead pixels are passed over: at each end one value in 10,000, and in small
      sets the last eight, if they are no more than one in a hundred.

    Values beyond the range are read as black or white.

    Attributes
    ----------
    sample_shape : tuple of int
        Shape of one image as it lies in memory: (h, w), (h, w, c) or (c, h, w).
    channel_axis : {None, 0, 2}
        Which axis of `sample_shape` counts channels; None for (h, w).
    low, high : float
        The values that are read as 0 and as 1.
    mean, std : tuple of float
        Per channel, of the decoded training images.
    n_outliers : int
        The largest number of values in one training image that lie outside the range by
        more than its width.
    faint : float
        The largest maximum of those training images that could be taken for images in
        [0, 1] if they were seen alone; 0 where there are none.
    """

    sample_shape: tuple
    channel_axis: int | None
    low: float
    high: float
    mean: tuple
    std: tuple
    n_outliers: int = 0
    faint: float = 0.0

    @classmethod
    def learn(cls, X):
        """Learn the format of the images `X`, an array of 3 or 4 dimensions."""
        sample_shape = tuple(int(side) for side in X.shape[1:])
        channel_axis = find_channel_axis(sample_shape)
        low, high = _find_range(X)
        mean, std = _channel_statistics(X, channel_axis, low, high)
        n_outliers, faint = _find_oddities(X, low, high)
        return cls(
            sample_shape=sample_shape,
            channel_axis=channel_axis,
            low=low,
            high=high,
            mean=tuple(((mean - low) / (high - low)).tolist()),
            std=tuple((std / (high - low)).tolist()),
            n_outliers=n_outliers,
            faint=faint,
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
        """Read a raw batch as float32 images (b, c, h, w) in [0, 1]."""
        if self.channel_axis is None:
            raw = raw.unsqueeze(1)
        elif self.channel_axis == 2:
            raw = raw.permute(0, 3, 1, 2)
        images = raw.to(torch.float32, copy=True)
        return images.sub_(self.low).div_(self.high - self.low).clamp_(0, 1)

    def check(self, X):
        """Raise where images `X` cannot have the range that `fit` saw.

        A batch of one image may be darker than all that was seen, so only what is
        beyond doubt is refused: values outside the range by more than its width, unless
        they are as few as hot pixels; and fractions in [0, 1] where the range was
        [0, 255]. Every part of the training images is accepted.
        """
        low, high = float(X.min()), float(X.max())
        if self._is_too_wide(X, low, high) or self._is_fraction(X, low, high):
            raise ValueError(
                f"The images have values from {low:g} to {high:g}, but the estimator "
                f"was fitted on images in the range {self.low:g} to {self.high:g}. "
                "Scale them as the training images were scaled."
            )

    def _is_too_wide(self, X, low, high):
        width = self.high - self.low
        if self.low - width <= low and high <= self.high + width:
            return False
        n_outliers = _count_outliers(X, self.low, self.high)
        is_few = n_outliers.sum() <= _count_ignored(X.size)
        return not is_few and n_outliers.max() > self.n_outliers

    def _is_fraction(self, X, low, high):
        if not self.low <= 0 < _MIN_WHITE_OF_INTEGERS <= self.high:
            return False
        if high <= self.faint or high > _MAX_OF_FRACTIONS or low < -_MAX_OVERSHOOT:
            return False
        return bool((np.asarray(X) % 1 != 0).any())


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
        f"Cannot read samples of shape {sample_shape} as images: the shape must be "
        "(h, w), (h, w, c) or (c, h, w) with 1 to 4 channels."
    )


def _channel_statistics(X, channel_axis, low, high):
    """Return mean and standard deviation per channel, from some of the images.

    Image by image, so that memory is bounded by one image in double precision.
    """
    step = -(-len(X) // _N_SAMPLES_FOR_STATISTICS)
    means, squares, n_read = [], [], 0
    for image in X[::step]:
        n_read = release(X, n_read + image.nbytes)
        image = np.clip(np.asarray(image, dtype=np.float64), low, high)
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
    """Estimate the values to be read as black and as white; see `ImageFormat`."""
    if X.dtype == np.uint8:
        return 0.0, 255.0
    values = _some_values(X)
    lowest, low, high, highest = _ends(values)
    values = values.clip(low, high)
    span = high - low
    highest = highest if highest <= high + span else high
    if low >= 0 or _is_overshoot(-values, 0, span):
        whites = (w for w in _NOMINAL_WHITE if _is_overshoot(values, w, span))
        return 0.0, next(whites, highest)
    lowest = lowest if lowest >= low - span else low
    # Constant images have no range; any positive width avoids dividing by zero.
    return lowest, max(highest, lowest + 1e-6 * max(1.0, abs(lowest)))


def _some_values(X):
    """Return a bounded number of values, from all over the images."""
    some = X[:: -(-len(X) // _N_SAMPLES_FOR_STATISTICS)]
    step = -(-some.size // _N_VALUES_FOR_RANGE)
    # From every image other pixels: a fixed grid might hold one column or one channel.
    parts = [image.reshape(-1)[i % step :: step] for i, image in enumerate(some)]
    return np.concatenate(parts, dtype=np.float64)


def _count_ignored(n_values):
    """Say how many values at either end may be hot or dead pixels."""
    return n_values // 10_000 + min(8, n_values // 100)


def _ends(values):
    """Return both ends of the values, with and without what may be odd pixels."""
    n_ignored = _count_ignored(len(values))
    ranks = [0, n_ignored, len(values) - 1 - n_ignored, len(values) - 1]
    lowest, low, high, highest = np.partition(values, ranks)[ranks].tolist()
    if low == high:  # all but a few are the same, and the few say everything
        low, high = lowest, highest
    return lowest, low, high, highest


def _is_overshoot(values, limit, span):
    """Say whether what is above `limit` is what resampling leaves there."""
    excess = (values - limit).clip(min=0)
    return (
        excess.max() <= _MAX_OVERSHOOT * span
        and excess.sum() <= _MAX_OVERSHOOT_IN_ALL * np.abs(values).sum()
    )


def _find_oddities(X, low, high):
    """Return `n_outliers` and `faint` of an `ImageFormat`, in one reading of `X`."""
    if X.dtype == np.uint8:
        return 0, 0.0
    n_outliers, faint = 0, 0.0
    step = max(1, _N_VALUES_PER_PART // X[0].size)
    for start in range(0, len(X), step):
        part = np.asarray(X[start : start + step])
        n_outliers = max(n_outliers, int(_count_outliers(part, low, high).max()))
        maxima = part.max(axis=tuple(range(1, part.ndim)))
        faint = max(faint, *maxima[maxima <= _MAX_OF_FRACTIONS].tolist(), 0.0)
    return n_outliers, faint


def _count_outliers(X, low, high):
    """Count in each image the values farther outside a range than it is wide."""
    lowest, highest = 2 * low - high, 2 * high - low
    if lowest <= X.min() and X.max() <= highest:
        return np.zeros(len(X), dtype=int)
    return np.array([((x < lowest) | (x > highest)).sum() for x in X])
