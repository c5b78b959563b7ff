# SPDX-License-Identifier: BSD-3-Clause
"""What tests of several layers need."""

from contextlib import contextmanager

import pytest
from sklearn.base import BaseEstimator

from sklearn_scan import pretext
from sklearn_scan._inputs import SampleInputMixin
from sklearn_scan._stages import _head_search, _linear_steps

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


@contextmanager
def few_steps():
    """Let heads begin near partitions only; for tests of what is around the heads.

    To tell a partition takes up to 2000 steps: most of the time of a small fit.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_head_search, "_FITTING_STEPS_FOR_PIECES", (100,))
        patch.setattr(_linear_steps, "_FITTING_STEPS", 20)
        yield


class Reader(SampleInputMixin, BaseEstimator):
    """An estimator that does nothing with samples but read them."""

    def learn(self, X, image_shape=None):
        """Read samples as `fit` does."""
        return self._learn_samples(X, image_shape=image_shape)

    def check(self, X):
        """Read samples as `predict` does."""
        return self._check_samples(X)
