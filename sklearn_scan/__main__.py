# SPDX-License-Identifier: BSD-3-Clause
"""The command line, as `python -m sklearn_scan`."""

from sklearn_scan._cli import main

if __name__ == "__main__":
    main()
