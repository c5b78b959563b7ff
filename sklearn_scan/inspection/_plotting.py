# SPDX-License-Identifier: BSD-3-Clause
"""Matplotlib, imported when something is drawn."""


def import_pyplot(caller, advice=""):
    """Import pyplot for `caller`, which is named where matplotlib is missing."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f'{caller} needs matplotlib: pip install "sklearn-scan[plot]".{advice}'
        ) from error
    return plt
