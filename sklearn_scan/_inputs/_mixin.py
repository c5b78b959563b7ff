# SPDX-License-Identifier: BSD-3-Clause
"""What estimators of samples share: they learn what `X` is, and hold it later."""

from dataclasses import replace
from functools import partial

from sklearn.utils.validation import validate_data

from sklearn_scan._console import Console
from sklearn_scan._inputs._holding import digest_some
from sklearn_scan._inputs._validation import check_given, learn_samples
from sklearn_scan._world import world


class SampleInputMixin:
    """Mixin for estimators whose `X` is samples.

    It owns the `InputSpec` and the fitted attributes that follow from it:
    `input_spec_`, `image_shape_`, `n_features_in_`, and, if `X` has them,
    `feature_names_in_`, `paths_` and `skipped_`.
    """

    def _learn_samples(self, X, **reading):
        """Return the samples in `X`; remember what `X` is.

        `reading` holds parameters of `learn_samples`.
        """
        vars(self).pop("feature_names_in_", None)
        validate = partial(validate_data, self, reset=True)
        reading.setdefault("console", self._open_console())
        reading.setdefault("on_error", getattr(self, "on_error", "raise"))
        X, spec = learn_samples(X, validate=validate, **reading)
        if world().size > 1:
            world().check_same("X", digest_some(X))
        names = getattr(self, "feature_names_in_", None)
        self._take_input_spec(replace(spec, feature_names=names))
        return X

    def _check_samples(self, X):
        """Return the samples in `X`, if they are such as `fit` saw."""
        return self._check_given(X, "raise")[0]

    def _check_given(self, X, on_error=None):
        """Return the samples in `X`, and their places among those that were given."""
        if on_error is None:
            on_error = getattr(self, "on_error", "raise")
        validate = partial(validate_data, self, reset=False)
        name, console = type(self).__name__, self._open_console()
        return check_given(X, self.input_spec_, name, validate, console, on_error)

    def _open_console(self):
        """Return where a call of a method says how far it has come."""
        # One of several processes speaks for all.
        verbose = 0 if world().rank else getattr(self, "verbose", 0)
        return Console(type(self).__name__, verbose)

    def _take_input_spec(self, spec):
        """Take over what is known of `X`."""
        self.input_spec_ = spec
        self.image_shape_ = spec.image_shape
        self.n_features_in_ = spec.passed_shape[0]
        for name, value in (
            ("paths_", spec.paths),
            ("skipped_", spec.skipped),
            ("feature_names_in_", spec.feature_names),
        ):
            vars(self).pop(name, None)
            if value is not None:
                setattr(self, name, value)
