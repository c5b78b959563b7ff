# SPDX-License-Identifier: BSD-3-Clause
"""What tests of several layers need."""

from sklearn.base import BaseEstimator

from sklearn_scan import pretext
from sklearn_scan._inputs import SampleInputMixin

#: Every pretext task that is trained.
TASKS = (
    pretext.SimCLR,
    pretext.MoCo,
    pretext.BYOL,
    pretext.VICReg,
    pretext.InstanceDiscrimination,
    pretext.RotNet,
    pretext.FeatureDecoupling,
    pretext.DeepCluster,
)


class Reader(SampleInputMixin, BaseEstimator):
    """An estimator that does nothing with samples but read them."""

    def learn(self, X, image_shape=None):
        """Read samples as `fit` does."""
        return self._learn_samples(X, image_shape=image_shape)

    def check(self, X):
        """Read samples as `predict` does."""
        return self._check_samples(X)
