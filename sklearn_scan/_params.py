# SPDX-License-Identifier: BSD-3-Clause
"""The parameters of `SCANClustering`: what they may be, and what they mean."""

import os
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_array

from sklearn_scan._backbone import find_encoder
from sklearn_scan._compat import HasMethods, Interval, StrOptions, check_params
from sklearn_scan._config import TrainingConfig
from sklearn_scan._engine import Schedule, StageCache
from sklearn_scan._nets import ENCODERS
from sklearn_scan._stages import check_countable, list_numbers
from sklearn_scan._views import POLICIES, check_views

# Far beyond what helps; all heads are held in memory at once.
_MOST_HEADS = 100_000

CONSTRAINTS = {
    "n_clusters": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "K": [Interval(Integral, 0, None, closed="left")],
    "threshold": [Interval(Real, 0, 1, closed="right")],
    "entropy_weight": [Interval(Real, 0, None, closed="left")],
    "cluster_sizes": [StrOptions({"auto", "equal"}), "array-like"],
    "n_heads": [
        StrOptions({"auto"}),
        Interval(Integral, 1, _MOST_HEADS, closed="both"),
    ],
    "pretext": [StrOptions({"auto"}), HasMethods(["fit", "transform"])],
    "encoder": [StrOptions({"auto", *ENCODERS}), callable],
    "views": [StrOptions(set(POLICIES)), tuple, callable],
    "head_search": [StrOptions({"auto"}), TrainingConfig, None],
    "clustering": [StrOptions({"auto"}), TrainingConfig, None],
    "self_labeling": [StrOptions({"auto"}), TrainingConfig, None],
    "class_weight": [StrOptions({"balanced"}), None],
    "keep": [StrOptions({"best", "last"})],
    "batch_size": [Interval(Integral, 2, None, closed="left")],
    "image_shape": [tuple, list, None],
    "on_error": [StrOptions({"raise", "skip"})],
    "memory": [str, os.PathLike, HasMethods(["cache"]), None],
    "checkpoint": [str, os.PathLike, None],
    "device": [str, torch.device],
    "precision": [StrOptions({"auto", "float32", "bfloat16", "float16"})],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}

# Heads of a search, by default. On an embedding that was trained on the samples several
# solutions have nearly the same loss, and which is found depends on where heads begin;
# it is narrow, so that a head costs little.
_N_HEADS = 20
_N_HEADS_ON_LEARNED = 60

# The learning rate at which an encoder is trained on that has learned elsewhere.
_LR_OF_PRETRAINED = 1e-5

#: The parameters that say how a stage is trained, in the order of the stages.
STAGES = ("head_search", "clustering", "self_labeling")


@dataclass(frozen=True)
class StagePlan:
    """How a stage is trained, with "auto" and None filled in.

    Attributes
    ----------
    schedule : Schedule
        How long and how fast.
    views : str, tuple or callable
        What is asked for; see `build_views`.
    freeze_encoder : bool
        Whether the heads learn alone.
    """

    schedule: Schedule
    views: object
    freeze_encoder: bool


def plan_stages(clusterer):
    """Return the `StagePlan` of every stage; None for those that are left out."""
    return {name: _plan_stage(clusterer, name) for name in STAGES}


def _plan_stage(clusterer, name):
    config = getattr(clusterer, name)
    # A pretrained encoder is trained on where that is asked for, and not by default.
    trains_on = name != "head_search" and is_pretrained(clusterer)
    if config is None or (config == "auto" and trains_on):
        return None
    config = TrainingConfig() if config == "auto" else config
    schedule = config.make_schedule(name, clusterer.batch_size)
    if trains_on and config.lr == "auto":
        schedule = replace(schedule, lr=_LR_OF_PRETRAINED)
    return StagePlan(
        schedule,
        clusterer.views if config.views is None else config.views,
        config.freeze_encoder,
    )


def find_n_heads(clusterer, backbone):
    """Return how many heads are trained, with "auto" filled in."""
    if clusterer.n_heads != "auto":
        return int(clusterer.n_heads)
    is_searched = clusterer.head_search is not None
    return _N_HEADS_ON_LEARNED if backbone.learns and is_searched else _N_HEADS


def find_sizes(clusterer):
    """Return the expected shares of clusters, ascending; None where none are given."""
    if isinstance(clusterer.cluster_sizes, str):
        return None
    sizes = np.sort(np.asarray(clusterer.cluster_sizes, dtype=np.float64))
    return tuple((sizes / sizes.sum()).tolist())


def follows_sizes(clusterer):
    """Return whether heads may follow a partition of unequal sizes."""
    sizes = clusterer.cluster_sizes
    return isinstance(sizes, str) and sizes == "auto"


def find_batch_sizes(plans):
    """Return the batch sizes of the stages in which the encoder learns, by stage."""
    return {
        name: plan.schedule.batch_size
        for name, plan in plans.items()
        if name != "head_search" and plan and not plan.freeze_encoder
    }


def find_reading(clusterer):
    """Return the arguments by which `_learn_samples` reads the `X` of a clusterer."""
    encoder = find_encoder(clusterer.pretext)
    folder = StageCache.open(clusterer.memory).folder
    if encoder is None:
        return {"image_shape": clusterer.image_shape, "folder": folder}
    reading = encoder.find_reading(clusterer.image_shape) | {"folder": folder}
    # Images that an encoder is trained on are looked at many times.
    return reading if keeps_encoder(clusterer) else reading | {"is_lazy": False}


def is_pretrained(clusterer):
    """Return whether the encoder has learned elsewhere, and is trained on request."""
    encoder = find_encoder(clusterer.pretext)
    return encoder is not None and encoder.is_pretrained


def keeps_encoder(clusterer):
    """Return whether the encoder has learned elsewhere, and stays as it is."""
    stages = (clusterer.clustering, clusterer.self_labeling)
    asks = any(isinstance(stage, TrainingConfig) for stage in stages)
    return is_pretrained(clusterer) and not asks


def check_together(clusterer):
    """Check parameters that depend on each other, and those of nested estimators.

    Returns
    -------
    advice : str or None
        A warning to show the user.
    """
    pretext = clusterer.pretext
    for name in STAGES:
        if isinstance(config := getattr(clusterer, name), TrainingConfig):
            check_params(config)
            check_views(config.views)
    check_views(clusterer.views)
    if (encoder := find_encoder(pretext)) is not None:
        check_params(encoder)
    if isinstance(pretext, type):
        name = pretext.__name__
        raise TypeError(f"pretext is the class {name}; pass an instance, {name}().")
    if clusterer.encoder != "auto" and pretext != "auto":
        raise ValueError(
            f"encoder={clusterer.encoder!r} was given together with pretext="
            f"{pretext!r}, which has an encoder of its own. Give the encoder to the "
            "pretext, or leave the pretext out."
        )
    if not isinstance(clusterer.cluster_sizes, str):
        _check_sizes(clusterer.cluster_sizes, clusterer.n_clusters)
    if clusterer.checkpoint is not None:
        _check_checkpoint(clusterer.random_state)
    if encoder is pretext and encoder.trains and encoder.is_fitted:
        return (
            f"The pretext {type(pretext).__name__} is fitted, and will be trained "
            "anew. To use it as it is, pass sklearn.frozen.FrozenEstimator(pretext)."
        )


def _check_sizes(sizes, n_clusters):
    sizes = check_array(sizes, ensure_2d=False, input_name="cluster_sizes")
    if sizes.shape != (n_clusters,):
        raise ValueError(
            f"cluster_sizes has shape {sizes.shape}, and n_clusters={n_clusters}. Give "
            "one number per cluster."
        )
    if not (sizes > 0).all():
        raise ValueError(
            "cluster_sizes must be positive, as a cluster of no samples cannot be "
            f"found. Got {sizes.min():g} among them."
        )


def _check_checkpoint(random_state):
    if not isinstance(random_state, Integral):
        raise ValueError(
            "checkpoint= requires an integer random_state to resume an interrupted "
            f"fit. Got random_state={random_state!r} instead."
        )


def check_size(n_samples, n_clusters):
    """Refuse fewer samples than clusters, or too few to tell how many there are."""
    if n_clusters == "auto":
        check_countable(n_samples, list_numbers(n_samples))
    elif n_samples < n_clusters:
        raise ValueError(f"n_samples={n_samples} should be >= n_clusters={n_clusters}.")


def check_trainable(clusterer, backbone):
    """Refuse to leave out all stages that train heads."""
    if clusterer.head_search is None and keeps_encoder(clusterer):
        raise ValueError(
            "head_search=None leaves nothing to train, as a pretrained encoder stays "
            'as it is. Leave head_search at "auto", or pass '
            "clustering=TrainingConfig()."
        )
    if clusterer.head_search is None and not backbone.learns:
        raise ValueError(
            "head_search=None leaves nothing to train: the samples are rows, or the "
            "pretext has no network, so that there is no clustering on views. Leave "
            'head_search at "auto".'
        )
    if clusterer.head_search is None and clusterer.clustering is None:
        raise ValueError(
            "head_search=None and clustering=None were given; heads need one of them "
            "to learn."
        )


class NestedParametersMixin(BaseEstimator):
    """Mixin that explains why a nested parameter cannot be set."""

    def set_params(self, **params) -> Self:
        """Set parameters, also those of the pretext and of the stages.

        Parameters
        ----------
        **params : dict
            Values by name. Where `pretext` is an estimator, or a stage is a
            :class:`~sklearn_scan.TrainingConfig`, its own parameters are set by names
            such as ``pretext__temperature`` and ``clustering__lr``.

        Returns
        -------
        self : object
            The clusterer.
        """
        examples = {"pretext": "SimCLR()"} | dict.fromkeys(STAGES, "TrainingConfig()")
        check_nested(self, params, examples)
        return super().set_params(**params)


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
