# SPDX-License-Identifier: BSD-3-Clause
"""What `X` is: learned once in `fit`, and held against all later samples."""

from dataclasses import dataclass, field
from functools import partial

from sklearn.utils.validation import validate_data

from sklearn_scan._inputs._formats import ImageFormat, RowFormat
from sklearn_scan._inputs._validation import check_samples, learn_samples


@dataclass(frozen=True, eq=False)
class InputSpec:
    """What the `X` of `fit` was.

    Attributes
    ----------
    format : ImageFormat or RowFormat
        Layout and range of the samples, by which batches are decoded.
    passed_shape : tuple of int
        Shape of one sample as it was passed: images may be passed as rows.
    paths : list of str or None
        The files, where `X` was a folder or paths.
    feature_names : ndarray of shape (n_features,) or None
        Column names, where `X` had any.
    """

    format: ImageFormat | RowFormat
    passed_shape: tuple
    paths: list | None = field(default=None, repr=False)
    feature_names: object = field(default=None, repr=False)

    @property
    def image_shape(self):
        """Shape of one image as it lies in memory; None for rows."""
        shape = self.format.sample_shape
        return shape if len(shape) > 1 else None


class SampleInputMixin:
    """Mixin for estimators whose `X` is samples.

    It owns the `InputSpec` and the fitted attributes that follow from it:
    `input_spec_`, `image_shape_`, `n_features_in_`, and, if `X` has them,
    `feature_names_in_` and `paths_`.
    """

    def _learn_samples(self, X, image_shape=None):
        """Return the samples in `X` as an array; remember what `X` is."""
        validate = partial(validate_data, self, reset=True)
        X, format, passed_shape, paths = learn_samples(X, image_shape, validate)
        names = getattr(self, "feature_names_in_", None)
        self._take_input_spec(InputSpec(format, passed_shape, paths, names))
        return X

    def _check_samples(self, X):
        """Return the samples in `X` as an array, if they are such as `fit` saw."""
        validate = partial(validate_data, self, reset=False)
        name = type(self).__name__
        return check_samples(X, self.input_spec_, name, validate)

    def _take_input_spec(self, spec):
        """Take over what is known of `X`."""
        self.input_spec_ = spec
        self.image_shape_ = spec.image_shape
        self.n_features_in_ = spec.passed_shape[0]
        for name, value in (
            ("paths_", spec.paths),
            ("feature_names_in_", spec.feature_names),
        ):
            vars(self).pop(name, None)
            if value is not None:
                setattr(self, name, value)
