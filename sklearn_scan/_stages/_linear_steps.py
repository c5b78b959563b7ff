# SPDX-License-Identifier: BSD-3-Clause
"""Short trainings of linear heads on features that are held in memory.

They take a second or so, without views, checkpoints or records, so that the engine
would be more than they need.
"""

import numpy as np
import torch
import torch.nn.functional as F

from sklearn_scan._engine import OPTIMIZERS

# Samples in a step.
_BATCH = 512
_FITTING_RATE, _FITTING_STEPS = 1e-2, 150
_FEW_FEATURES = 8


def fit_partitions(heads, rows, partitions, n_steps=None):
    """Train each head, in place, to tell the parts of its partition.

    Parameters
    ----------
    heads : LinearHeads
        One per partition.
    rows : Tensor of shape (n_samples, n_features)
        What heads are given.
    partitions : list of ndarray of shape (n_samples,)
        Numbers of clusters.
    n_steps : int or None, default=None
        How long; None for 150.
    """
    n_steps = _FITTING_STEPS if n_steps is None else n_steps
    device = heads.linear.weight.device
    targets = torch.tensor(np.stack(partitions), dtype=torch.int64, device=device)
    rows = rows.to(device)
    # Of few features, weights must be large to tell three clusters in a row.
    lr = _FITTING_RATE * max(1, _FEW_FEATURES / rows.shape[1])
    optimizer, lr_schedule = _begin_steps(heads, n_steps, lr)
    for _ in range(n_steps):
        batch = torch.randint(len(rows), (min(_BATCH, len(rows)),))
        batch = batch.to(device, non_blocking=True)
        loss = F.cross_entropy(
            heads(rows[batch]).flatten(0, 1), targets[:, batch].flatten()
        )
        # Summed over heads: each learns as if it were alone.
        _step(heads.n_heads * loss, optimizer, lr_schedule)


def minimise_loss(heads, features, draw_pairs, loss, n_steps, lr):
    """Minimise the SCAN loss of heads, in place, on samples and neighbours drawn.

    Parameters
    ----------
    heads : LinearHeads
        To be trained.
    features : Tensor of shape (n_samples, n_features)
        What they are given.
    draw_pairs : callable
        Takes a number n, and returns the indices of n samples and of one neighbour of
        each.
    loss : SCANLoss
        With the weight at its end throughout.
    n_steps : int
        How long.
    lr : float
        Peak learning rate.
    """
    device = heads.linear.weight.device
    optimizer, lr_schedule = _begin_steps(heads, n_steps, lr)
    loss = loss.settle().to(device)
    for _ in range(n_steps):
        pairs = features[torch.cat(draw_pairs(min(_BATCH, len(features))))]
        logits = heads(pairs.to(device)).chunk(2, dim=1)
        _step(loss(*logits)[0], optimizer, lr_schedule)


def _begin_steps(heads, n_steps, lr):
    optimizer = OPTIMIZERS["adamw"](heads.parameters(), lr=lr)
    lr_schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        lr,
        total_steps=max(n_steps, 2),
        # Torch divides by zero where the rise takes exactly one step.
        pct_start=0.1 if n_steps > 10 else 0.05,
    )
    return optimizer, lr_schedule


def _step(loss, optimizer, lr_schedule):
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    lr_schedule.step()
