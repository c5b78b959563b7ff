# SPDX-License-Identifier: BSD-3-Clause
"""Heads that were searched before are not searched again."""

from dataclasses import replace

import joblib
import torch
from torch import nn

from sklearn_scan._engine import Stage, StageCache, Unfinished
from sklearn_scan._nets import ClusterNetwork, LinearHeads
from sklearn_scan._stages._head_search import make_heads, search_heads

_NAME = "head_search"


def search_heads_once(samples, n_clusters, n_heads, loss, plan, context, follows=True):
    """Search heads, or fetch those that were found; see `search_heads`.

    Candidates of a grid that differ in what comes later, such as `threshold`, share
    them: with their partitions, which take longer than the training.
    """
    parameters = samples, n_clusters, n_heads, loss, plan
    identity = _identify(*parameters, context, follows)
    if identity is None:
        return search_heads(*parameters, context, follows)
    computed = []

    def search():
        # The search as a whole is cached here, and its stage not a second time.
        trainer = replace(context.trainer, cache=StageCache())
        within = replace(context, trainer=trainer)
        computed.append(search_heads(*parameters, within, follows))
        return computed[0]

    found = context.cache.fetch(
        search_to_arrays,
        identity,
        search,
        context.progress,
        ignore=("search", "progress"),
        lock=lambda: f"{_NAME}-{identity}",
    )
    if computed:
        return computed[0]
    context.progress.say(f"{_NAME} taken from the cache")
    weights, sample_weight, context.progress.history[_NAME] = found
    network = make_heads(samples.source, n_clusters, 1)
    network.heads.load_state_dict({k: torch.tensor(w) for k, w in weights.items()})
    return network.eval(), sample_weight


def search_to_arrays(identity, search, progress):
    """Search heads; return weights, sample weights and records as arrays."""
    network, sample_weight = search()
    weights = network.heads.state_dict()
    result = (
        {name: value.cpu().numpy() for name, value in weights.items()},
        sample_weight,
        progress.history[_NAME],
    )
    if progress.was_stopped:
        raise Unfinished(result)
    return result


def _identify(samples, n_clusters, n_heads, loss, plan, context, follows):
    """Return what a search is known by; None where nothing is cached."""
    if not context.cache.is_active:
        return None
    # Where heads begin goes by the generator, which this leaves as it is.
    with torch.random.fork_rng(devices=[]):
        heads = LinearHeads(1, n_clusters, n_heads)
    network = ClusterNetwork(nn.Identity(), heads, nn.Identity())
    stage = Stage(_NAME, network, loss, samples.make_pairs(), plan.schedule)
    identity = context.trainer.identify(stage)
    if identity is None:
        return None
    return joblib.hash((identity, samples.is_learned, follows, context.seeds))
