# SPDX-License-Identifier: BSD-3-Clause
"""Step 1: pretext tasks, each a scikit-learn transformer that stands on its own."""

from sklearn_scan.pretext._simclr import SimCLR

__all__ = ["SimCLR"]
