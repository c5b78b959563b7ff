# SPDX-License-Identifier: BSD-3-Clause
"""Image clustering without labels, as a scikit-learn estimator.

>>> from sklearn_scan import SCANClustering
>>> SCANClustering(n_clusters=10)
SCANClustering()
"""

from sklearn_scan._scan import SCANClustering
from sklearn_scan._sources import list_images
from sklearn_scan._training import Training
from sklearn_scan._version import __version__

__all__ = ["SCANClustering", "Training", "__version__", "list_images"]
