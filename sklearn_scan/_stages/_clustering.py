# SPDX-License-Identifier: BSD-3-Clause
"""Step 2, its second part: the whole network minimises the SCAN loss, on views.

Van Gansbeke et al. (ECCV 2020), section 2.2. Heads were trained on the frozen embedding
before, which is cheap (see `_head_search`); now the encoder learns with the best of
them.
"""

import copy

from sklearn_scan._engine import Stage
from sklearn_scan._stages._finishing import finish, make_snapshot


def cluster(network, loss, plan, evaluator, context):
    """Train a copy of a network on views of samples and of neighbours.

    All of its heads learn, together with the encoder or without; then the best stays.

    Parameters
    ----------
    network : ClusterNetwork
        Left as it is.
    loss : SCANLoss
        What to minimise.
    plan : StagePlan
        How to train.
    evaluator : Evaluator
        Has the samples and the views, and chooses the head.
    context : FitContext
        Trains.

    Returns
    -------
    network : ClusterNetwork
        With one head.
    """
    network = copy.deepcopy(network)
    network.views = evaluator.views
    schedule = context.fit_to_memory("clustering", plan)
    shared = evaluator, schedule.batch_size, context
    with network.frozen_encoder(plan.freeze_encoder):
        stage = Stage(
            "clustering",
            network,
            loss,
            evaluator.samples.make_pairs(),
            schedule,
            make_snapshot(network, *shared),
        )
        context.trainer.run(stage)
        return finish(network, *shared)
