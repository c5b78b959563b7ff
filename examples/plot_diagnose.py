# SPDX-License-Identifier: BSD-3-Clause
"""
=========================
Are my clusters any good?
=========================

There is no accuracy without labels. But a wrong number of clusters, neighbours in the
wrong order or views that destroy what matters leave traces, and ``diagnose`` looks for
them. Here digits are clustered into too few groups, and into too many.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from sklearn_scan import SCANClustering, diagnose

bunch = load_digits()
X = PCA(40, random_state=0).fit_transform(bunch.data)

# %%
# Too few
# -------
#
# The most important finding comes first. It says what was measured, what that means and
# which parameter to change.

few = SCANClustering(7, random_state=0).fit(X)
report = diagnose(few, X, images=bunch.images)
print(report)

# %%
# The two halves of a cluster that may be two kinds: they are.

if report.rows:
    report.plot(cmap="gray_r")

# %%
# Too many
# --------
#
# In a program, look at the findings. A value is what the measurement suggests for the
# parameter: a next try, rather than the answer.

many = SCANClustering(16, random_state=0).fit(X)
report = diagnose(many, X, images=bunch.images)
for finding in report.findings:
    print(f"{finding.severity}: {finding.measured} {finding.advice}\n")

# %%
# Members of clusters that may be one, beside each other.

if report.rows:
    report.plot(cmap="gray_r")
plt.show()

# %%
# Neighbours in the wrong order
# -----------------------------
#
# Whoever passes neighbours to ``fit`` may pass them in the order of other rows. Nothing
# that is learned from them makes sense, and the report says that and nothing else.

shuffled = np.random.default_rng(0).permutation(few.neighbors_)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # clusters stay empty
    spoiled = SCANClustering(10, random_state=0).fit(X, neighbors=shuffled)
(finding,) = diagnose(spoiled).findings
print(finding)
