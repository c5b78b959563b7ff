# SPDX-License-Identifier: BSD-3-Clause
"""Settings of a process: room for decoded images, and whether several fit together."""

from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any

_DEFAULTS = {"in_memory_bytes": 2 * 2**30, "decoded_bytes": None, "distributed": False}
# Of the process, and not of a thread: threads of a search must see them.
_settings: dict[str, Any] = dict(_DEFAULTS)


def get_config() -> dict[str, Any]:
    """Return the settings, a dict; see `set_config`.

    Examples
    --------
    >>> from sklearn_scan import get_config
    >>> get_config()["in_memory_bytes"]
    2147483648
    """
    return dict(_settings)


def set_config(**settings: int | None) -> None:
    """Change settings of this process; others, as those of a search, have their own.

    Parameters
    ----------
    **settings : dict
        Of these, by name:

        - ``in_memory_bytes``, 2 GiB by default: the most that the decoded images of
          files may take to be held in memory. More are decoded into a file, in the
          folder of `memory=`, where later fits find them again; without `memory=`, in
          the temporary folder (TMPDIR), from which they go with the array.
        - ``decoded_bytes``, by default what is free on that disk: the most that they
          may take there. More are decoded each time that they are looked at.
        - ``distributed``, False by default: whether the processes that ``accelerate
          launch`` has started fit an estimator together; see the page "More processes
          and machines" of the documentation. In a process that was started otherwise
          it changes nothing.

    Examples
    --------
    >>> from sklearn_scan import set_config
    >>> set_config(in_memory_bytes=2 * 2**30)
    """
    if unknown := sorted(settings.keys() - _DEFAULTS):
        raise TypeError(
            f"Unknown settings {', '.join(unknown)}; choose from "
            f"{', '.join(_DEFAULTS)}."
        )
    for name, value in settings.items():
        if name == "distributed":
            _check_flag(name, value)
            continue
        is_number = isinstance(value, Integral) and value >= 0
        if not is_number and (value is not None or name == "in_memory_bytes"):
            raise ValueError(
                f"{name} is {value!r}, and must be an integer, the number of bytes."
            )
    _settings.update(settings)


def _check_flag(name, value):
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}, and must be True or False.")


@contextmanager
def config_context(**settings: int | None) -> Iterator[None]:
    """Change settings within a ``with`` statement; see `set_config`.

    Examples
    --------
    >>> from sklearn_scan import config_context, get_config
    >>> with config_context(decoded_bytes=10 * 10**9):
    ...     get_config()["decoded_bytes"]
    10000000000
    """
    before = get_config()
    try:
        set_config(**settings)
        yield
    finally:
        _settings.update(before)
