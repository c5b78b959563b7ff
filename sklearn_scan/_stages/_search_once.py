# SPDX-License-Identifier: BSD-3-Clause
"""Heads that were searched before are not searched again."""

from dataclasses import replace
from functools import partial

import joblib
import torch
from torch import nn

from sklearn_scan._engine import Stage, StageCache, Unfinished
from sklearn_scan._nets import ClusterNetwork, LinearHeads
from sklearn_scan._stages._head_search import make_heads, search_heads

_NAME = "head_search"


def search_heads_once(samples, n_clusters, n_heads, loss, plan, context, follows=True):
    """Search heads, or fetch those that were found.

    Candidates of a grid that differ in what comes later, such as `threshold`, share
    them: with their partitions, which take longer than the training.

    Parameters
    ----------
    samples, n_clusters, n_heads, loss, plan, context, follows
        See `search_heads`.

    Returns
    -------
    network : ClusterNetwork
        With one head.
    sample_weight : ndarray of shape (n_samples,) or None
        How often each sample is to be drawn from here on.
    """
    progress = context.progress
    search = partial(search_heads, samples, n_clusters, n_heads, loss, plan)
    identity = _identify(samples, n_clusters, n_heads, loss, plan, context, follows)
    if identity is None:
        return search(context, follows)
    # The search as a whole is cached here, and its stage not a second time.
    within = replace(context, trainer=replace(context.trainer, cache=StageCache()))
    weights, sample_weight, records = context.cache.fetch(
        search_to_arrays,
        identity,
        partial(search, within, follows),
        progress,
        ignore=("search", "progress"),
        lock=lambda: f"{_NAME}-{identity}",
    )
    progress.take_up(_NAME, records)
    network = make_heads(samples.source, n_clusters, 1)
    network.heads.load_state_dict({k: torch.tensor(w) for k, w in weights.items()})
    return network.eval(), sample_weight


def search_to_arrays(identity, search, progress):
    """Search heads; return weights, sample weights and records as arrays.

    Raises
    ------
    Unfinished
        If a callback ended the search.
    """
    # Of this stage alone: one that was ended before is no reason to search again.
    was_stopped, progress.was_stopped = progress.was_stopped, False
    try:
        network, sample_weight = search()
        is_whole = not progress.was_stopped
    finally:
        progress.was_stopped |= was_stopped
    weights = network.heads.state_dict()
    result = (
        {name: value.cpu().numpy() for name, value in weights.items()},
        sample_weight,
        progress.history[_NAME],
    )
    if not is_whole:
        raise Unfinished(result)
    return result


def _identify(samples, n_clusters, n_heads, loss, plan, context, follows):
    """Return what a search is known by; None where nothing is cached.

    Where heads begin goes by the state of the generator, which is part of it.
    """
    if not context.cache.is_active:
        return None
    with torch.random.fork_rng(devices=[]):
        heads = LinearHeads(1, n_clusters, n_heads)
    network = ClusterNetwork(nn.Identity(), heads, nn.Identity())
    stage = Stage(_NAME, network, loss, samples.make_pairs(), plan.schedule)
    identity = context.trainer.identify(stage)
    if identity is None:
        return None
    return joblib.hash((identity, samples.is_learned, follows, context.seeds))
