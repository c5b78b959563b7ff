# SPDX-License-Identifier: BSD-3-Clause
"""Nested parameters, where the object that has them must be passed first."""


def check_nested(estimator, params, examples):
    """Explain why a nested parameter cannot be set, where its object has none.

    Parameters
    ----------
    estimator : estimator instance
        Whose parameters are to be set.
    params : dict
        New values by name; the object of a nested parameter may be among them.
    examples : dict of str
        For parameters that may be objects, what to pass so that they are.

    Raises
    ------
    ValueError
        If ``name__key`` is given, and the value of ``name`` has no parameters.
    """
    values = estimator.get_params(deep=False) | params
    for nested in params:
        name, is_nested, _ = nested.partition("__")
        if not is_nested or name not in values or _has_parameters(values[name]):
            continue
        what = f"{name}={values[name]!r} has no parameters, so {nested} cannot be set."
        if name in examples:
            what += f" Pass {name}={examples[name]} first, which has parameters."
        raise ValueError(what)


def _has_parameters(value):
    # A class has the method, but no parameters before there is an instance.
    return hasattr(value, "set_params") and not isinstance(value, type)
