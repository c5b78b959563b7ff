# SPDX-License-Identifier: BSD-3-Clause
"""`TrainingConfig`: how one stage of the algorithm is trained."""

from numbers import Integral, Real
from typing import Literal, TypeAlias

from sklearn.base import BaseEstimator

from sklearn_scan._compat import Interval, StrOptions
from sklearn_scan._engine import LR_SCHEDULES, OPTIMIZERS, Schedule
from sklearn_scan._typing import (
    AutoFloat,
    AutoInt,
    LRSchedule,
    OptimizerLike,
    ViewsLike,
)
from sklearn_scan._views import POLICIES

# What "auto" means for each stage: the learning rate, the epochs, and the number of
# steps that small data are given at least.
_AUTO = {
    "head_search": {
        "lr": 1e-2,
        "default_epochs": 50,
        "min_steps": 500,
        "max_steps": 1000,
    },
    "clustering": {"lr": 5e-4, "default_epochs": 15, "min_steps": 80},
    "self_labeling": {"lr": 1e-4, "default_epochs": 15, "min_steps": 50},
}


class TrainingConfig(BaseEstimator):
    """Configuration of the training of one stage of :class:`SCANClustering`.

    Pass it as `head_search`, `clustering` or `self_labeling` instead of "auto". Its
    parameters are then nested parameters of the clusterer: a grid search over
    ``SCANClustering(self_labeling=TrainingConfig())`` may vary ``self_labeling__lr``.

    Parameters
    ----------
    epochs : int or "auto", default="auto"
        Number of passes through the data. "auto" is 50 for the head search, but between
        500 and 1,000 steps. For the other stages it is at most 15, or as many as make
        80 steps (50 in self-labelling) where there are few data; a stage whose loss no
        longer falls ends after half of that (see Notes).
    batch_size : int or None, default=None
        Largest number of samples in a step. None to use that of the clusterer.
    optimizer : {"adamw", "adam", "sgd"} or callable, default="adamw"
        The optimizer; "sgd" has momentum 0.9. Or a function
        ``f(parameters, lr=, weight_decay=)`` that returns a `torch.optim.Optimizer`.
    lr : float or "auto", default="auto"
        Peak learning rate. "auto" is 1e-2 for the head search, 5e-4 for the clustering
        and 1e-4 for self-labelling; and 1e-5 for both where they train a pretrained
        encoder on, which higher rates destroy.
    weight_decay : float, default=1e-4
        Weight decay, decoupled in "adamw".
    lr_schedule : {"one_cycle", "cosine", "constant"}, default="one_cycle"
        Learning-rate schedule. "one_cycle" rises for a tenth of the steps and then
        falls to zero along a cosine; "cosine" falls along a cosine from epoch to epoch;
        "constant" stays at the peak.
    views : str, tuple, callable or None, default=None
        Random views to train on. None to use those of the clusterer. The head search
        uses no views.
    freeze_encoder : bool, default=False
        Whether to train the heads alone, behind an encoder in evaluation mode. The head
        search always does so.

    See Also
    --------
    sklearn_scan.recipes : The settings of the paper.

    Notes
    -----
    With ``epochs="auto"`` and "one_cycle", clustering and self-labelling run a cycle of
    half of the maximum length. In the middle of the cycle the learning rate pauses for
    as long as the loss falls: until the mean loss over the last twelfth of the maximum
    length is below that over the twelfth before by less than 4 % of what it has fallen
    since the first epoch, or by less than its standard error. (SimCLR runs for the
    maximum length if the mean loss is still lower by more than 8 % at first.)

    Examples
    --------
    >>> from sklearn_scan import SCANClustering, TrainingConfig
    >>> SCANClustering(clustering=TrainingConfig(lr=1e-4), self_labeling=None)
    SCANClustering(clustering=TrainingConfig(lr=0.0001), self_labeling=None)
    """

    _parameter_constraints = {
        "epochs": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 2, None, closed="left"), None],
        "optimizer": [StrOptions(set(OPTIMIZERS)), callable],
        "lr": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "lr_schedule": [StrOptions(set(LR_SCHEDULES))],
        "views": [StrOptions(set(POLICIES)), tuple, callable, None],
        "freeze_encoder": ["boolean"],
    }

    def __init__(
        self,
        *,
        epochs: AutoInt = "auto",
        batch_size: int | None = None,
        optimizer: OptimizerLike = "adamw",
        lr: AutoFloat = "auto",
        weight_decay: float = 1e-4,
        lr_schedule: LRSchedule = "one_cycle",
        views: ViewsLike | None = None,
        freeze_encoder: bool = False,
    ):
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.lr_schedule = lr_schedule
        self.views = views
        self.freeze_encoder = freeze_encoder

    def make_schedule(self, stage, batch_size):
        """Return the schedule of a stage, with "auto" and None filled in."""
        auto = dict(_AUTO[stage])
        lr = auto.pop("lr")
        return Schedule(
            self.epochs,
            int(batch_size if self.batch_size is None else self.batch_size),
            lr if self.lr == "auto" else self.lr,
            self.weight_decay,
            self.optimizer,
            self.lr_schedule,
            **auto,
            # Heads alone cost little, and their search needs its whole length.
            ends_early=stage != "head_search",
        )


#: How a stage of `SCANClustering` is trained; None leaves it out.
StageConfig: TypeAlias = TrainingConfig | Literal["auto"] | None
