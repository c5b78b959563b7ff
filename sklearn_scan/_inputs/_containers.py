# SPDX-License-Identifier: BSD-3-Clause
"""What samples come wrapped in: sequences of objects, and what cannot be unwrapped."""

from collections.abc import Iterable, Mapping

# Under these keys people keep samples, images first.
_KEYS_OF_SAMPLES = (
    *("images", "image", "img", "pixel_values"),
    *("data", "X", "x", "features", "embeddings", "embedding"),
)
_N_NAMED = 8


def as_list(X):
    """Return the elements of a sequence that may hold paths, pictures or arrays.

    Parameters
    ----------
    X : object
        What the user passed.

    Returns
    -------
    elements : list or None
        Of a list, a tuple, a 1-d array or Series of text or objects, or the only column
        of a DataFrame of such. None for all else; numbers are left out for speed.
    """
    if isinstance(X, (list, tuple)):
        return list(X)
    if hasattr(X, "iloc") and X.ndim == 2 and X.shape[1] == 1:
        X = X.iloc[:, 0]
    kind = getattr(getattr(X, "dtype", None), "kind", None)
    is_sequence = getattr(X, "ndim", None) == 1 and kind in {"O", "U", "T"}
    return list(X) if is_sequence else None


def refuse_containers(X):
    """Raise where `X` holds samples, but not in an order and alone.

    Parameters
    ----------
    X : object
        What the user passed.

    Raises
    ------
    TypeError
        If `X` is a mapping, an iterable without an index, a list of mappings, or a
        DataFrame with text among other columns.
    """
    if isinstance(X, Mapping):
        raise TypeError(
            f"X is a {type(X).__name__} with the keys {_name(X)}. "
            f"{_which_key(X, 'X[{!r}]')}"
        )
    if isinstance(X, Iterable) and not _has_index(X):
        raise TypeError(
            f"X is of type {type(X).__name__}, which cannot be indexed. Pass a list of "
            "the samples, such as list(X)."
        )
    if isinstance(X, (list, tuple)) and len(X) and isinstance(X[0], Mapping):
        raise TypeError(
            f"X[0] is a {type(X[0]).__name__} with the keys {_name(X[0])}. "
            f"{_which_key(X[0], '[row[{!r}] for row in X]')}"
        )
    if hasattr(X, "iloc") and getattr(X, "ndim", None) == 2 and X.shape[1] > 1:
        _refuse_columns_of_text(X)


def _has_index(X):
    return any(hasattr(X, name) for name in ("__getitem__", "__array__", "shape"))


def _name(keys):
    keys = list(keys)
    named = ", ".join(map(repr, keys[:_N_NAMED]))
    n_more = len(keys) - _N_NAMED
    return f"{named} and {n_more} more" if n_more > 0 else named


def _which_key(mapping, template):
    found = [template.format(key) for key in _KEYS_OF_SAMPLES if key in mapping]
    if found:
        return f"Pass the samples alone, {' or '.join(found[:2])}."
    return f"Pass the samples alone, {template.replace('!r', '').format('key')}."


def _refuse_columns_of_text(X):
    is_text = [len(X) > 0 and isinstance(X.iat[0, j], str) for j in range(X.shape[1])]
    columns = [name for name, found in zip(X.columns, is_text, strict=True) if found]
    if columns:
        raise TypeError(
            f"X is a {type(X).__name__} with text in the columns {_name(columns)}. "
            f"Pass the column of paths alone, such as X[{columns[0]!r}], or columns of "
            "numbers only."
        )
