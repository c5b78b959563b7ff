# SPDX-License-Identifier: BSD-3-Clause
"""What fuzzed tests share: how many cases, and what may happen in one.

`pytest tests/fuzz` makes about 2,000 cases, the same ones in every run; with ``--fuzz
10`` ten times as many, drawn anew. Whatever is passed, a call may return what it
promises or raise ValueError, TypeError or OSError with a message for people; it may
neither hang, nor end the interpreter, nor leave anything changed.
"""

import os
import re
import traceback
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import sklearn
import torch
from hypothesis import HealthCheck, Phase, event, settings
from hypothesis import strategies as st
from PIL import Image

import sklearn_scan

#: Errors that are documented everywhere.
DOCUMENTED = (ValueError, TypeError, OSError)
# What the insides of libraries say, and no stranger understands.
_INSIDE = re.compile(
    r"mat1 and mat2|index .* out of (bounds|range)|expected scalar type|list index"
    r"|Expected all tensors|cannot reshape|broadcast together|invalid literal"
    r"|object has no attribute|object is not (subscriptable|iterable|callable)"
    r"|unhashable|unsupported operand|zero-size array|must be real number"
    r"|not enough values to unpack|too many values to unpack|Truth value",
    re.IGNORECASE,
)
_SECONDS = 120
_HOMES = [str(Path(m.__file__).parent) for m in (sklearn_scan, sklearn)]


def cases(number):
    """Return a decorator that lets a test be tried with so many cases."""
    factor = float(os.environ.get("SKLEARN_SCAN_FUZZ", "1"))
    return settings(
        max_examples=max(1, round(number * factor)),
        derandomize=factor <= 1,
        database=None,
        deadline=_SECONDS * 1000,
        # Cases are small, and to make them smaller takes many more fits.
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )


#: Kinds of damage, each with where (as a share of the file), how far, and which bytes.
DAMAGES = st.lists(
    st.tuples(
        st.sampled_from(["flip", "write", "cut out", "insert", "cut off", "repeat"]),
        st.floats(0, 1),
        st.integers(1, 40),
        st.binary(min_size=1, max_size=40),
    ),
    max_size=3,
)


def damage(content, damages):
    """Return the bytes of a file after it was damaged."""
    content = bytearray(content)
    for kind, share, length, put in damages:
        if not content:
            break
        # Half of the damage is in the first quarter, where headers are.
        first = int(share**2 * (len(content) - 1))
        part = slice(first, first + length)
        if kind == "flip":
            content[first] ^= put[0] or 1
        elif kind == "write":
            content[first : first + len(put)] = put
        elif kind == "cut out":
            del content[part]
        elif kind == "insert":
            content[first:first] = put
        elif kind == "cut off":
            del content[first:]
        else:
            content[first:first] = content[part]
    return bytes(content)


def attempt(function, *args, **kwargs):
    """Call a function; return what it returns, or None if it refuses.

    A refusal has a message of its own, from where arguments are checked; what is
    global, and the files that are open, are as before.
    """
    before = _look_around()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = function(*args, **kwargs)
    except DOCUMENTED as error:
        found = None
        event(f"refused: {type(error).__name__}")
        check_message(error)
    else:
        event("answered")
    assert _look_around() == before
    return found


def check_message(error):
    """Assert that an error says something, and comes from where inputs are checked."""
    message = str(error)
    assert len(message) > 10, repr(error)
    said = message.partition("broken (")[0]
    assert not _INSIDE.search(said), message
    if isinstance(error, OSError) and error.filename is not None:
        return  # the system says what is wrong with a file, by its name
    frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    assert frames[-1].startswith(tuple(_HOMES)), f"{frames[-1]} said: {message}"


def _look_around():
    """Return what no call may change."""
    return (
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.random.get_rng_state().numpy().tobytes(),
        np.random.get_state()[1].tobytes(),  # noqa: NPY002
        tuple(np.geterr().items()),
        os.getcwd(),
        dict(os.environ),
        Image.MAX_IMAGE_PIXELS,
        sklearn_scan.get_config(),
        _count_open(),
    )


def _count_open():
    """Return how many files are open, where the system tells."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


@contextmanager
def unchanged(array):
    """Assert that an array is what it was."""
    content = array.tobytes() if array.dtype != object else None
    yield
    if content is not None:
        assert array.tobytes() == content
