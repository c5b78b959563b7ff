# SPDX-License-Identifier: BSD-3-Clause
"""How the gallery runs an example: as the plain script that it is otherwise."""

import tempfile
from pathlib import Path


def give_arguments(gallery_conf, script_vars):
    """Return the arguments of an example, and let it know its own file.

    The picture that is committed is drawn by ``make demo`` alone.
    """
    script_vars["example_globals"]["__file__"] = script_vars["src_file"]
    if Path(script_vars["src_file"]).name == "plot_digits.py":
        return ["--output", str(Path(tempfile.gettempdir()) / "digits.png")]
    return []
