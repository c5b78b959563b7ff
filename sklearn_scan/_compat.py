# SPDX-License-Identifier: BSD-3-Clause
"""The one room for anything private or experimental of scikit-learn.

* ``sklearn.utils._param_validation`` is private; importing it here alone means that a
  change of scikit-learn breaks one file.
* ``sklearn.callback`` is public, and announced as free to change without the usual
  deprecation cycle.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from sklearn.callback import CallbackSupportMixin
from sklearn.callback import with_callbacks as _with_callbacks
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    StrOptions,
    validate_parameter_constraints,
    validate_params,
)

__all__ = [
    "CallbackSupportMixin",
    "HasMethods",
    "Interval",
    "StrOptions",
    "check_params",
    "validate_params",
    "with_callbacks",
]

Method = TypeVar("Method", bound=Callable[..., Any])


def with_callbacks(method: Method) -> Method:
    """Let a `fit` call scikit-learn's callbacks; its signature stays as it is."""
    return _with_callbacks(method)


def check_params(estimator):
    """Check the parameters of another estimator, as its own `fit` would."""
    validate_parameter_constraints(
        estimator._parameter_constraints,
        estimator.get_params(deep=False),
        caller_name=type(estimator).__name__,
    )
