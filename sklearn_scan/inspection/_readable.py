# SPDX-License-Identifier: BSD-3-Clause
"""What is shown of a fit in which files were skipped: the others."""

import copy
from dataclasses import replace

import numpy as np

from sklearn_scan._inputs import Places, find_paths


def find_places(estimator):
    """Return where the samples are that were not skipped in `fit`."""
    spec = getattr(estimator, "input_spec_", None)
    return Places() if spec is None else spec.places


def keep_readable(estimator):
    """Return a clusterer as if it had been fitted on the readable files alone.

    Parameters
    ----------
    estimator : estimator
        Fitted. It is not changed.
    """
    places = find_places(estimator)
    if places.kept is None:
        return estimator
    shown = copy.copy(estimator)
    for name in ("labels_", "confidence_", "embedding_"):
        setattr(shown, name, getattr(estimator, name)[places.kept])
    shown.neighbors_ = places.gather(estimator.neighbors_)
    # As prototypes are numbered like neighbours.
    here = np.full(places.n_given + 1, -1)
    here[places.kept] = np.arange(len(places.kept))
    shown.prototypes_ = here[estimator.prototypes_]
    shown.paths_ = [estimator.paths_[i] for i in places.kept]
    shown.input_spec_ = replace(estimator.input_spec_, paths=shown.paths_, skipped={})
    return shown


def take_readable(estimator, values):
    """Return what is said of each file of `fit`, without those that were skipped.

    Parameters
    ----------
    estimator : estimator
        As it was fitted.
    values : sequence, folder or None
        None stays None; a folder becomes the paths of its files.
    """
    places = find_places(estimator)
    if values is None or places.kept is None:
        return values
    paths = find_paths(values) if not isinstance(values, np.ndarray) else None
    values = values if paths is None else paths
    if len(values) != places.n_given:
        return values  # an error of the length follows
    return [values[i] for i in places.kept]
