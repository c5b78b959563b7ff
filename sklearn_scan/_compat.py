# SPDX-License-Identifier: BSD-3-Clause
"""The one room for anything private or experimental of scikit-learn.

* ``sklearn.utils._param_validation`` is private; importing it here alone means that a
  change of scikit-learn breaks one file.
* ``sklearn.callback`` is public, and announced as free to change without the usual
  deprecation cycle.
"""

from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    StrOptions,
    validate_params,
)

__all__ = [
    "CallbackSupportMixin",
    "HasMethods",
    "Interval",
    "StrOptions",
    "validate_params",
    "with_callbacks",
]
