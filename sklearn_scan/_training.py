# SPDX-License-Identifier: BSD-3-Clause
"""How one step of the algorithm is trained, as a parameter of the clusterer."""

from numbers import Integral, Real

from sklearn.base import BaseEstimator

from sklearn_scan._compat import Interval, StrOptions
from sklearn_scan._engine import ANNEALINGS, OPTIMIZERS, Schedule
from sklearn_scan._views import POLICIES

# What "auto" is in each step: the learning rate, the epochs, and the number of steps
# that small data are given at least.
_AUTO = {
    "clustering": {
        "lr": 1e-2,
        "default_epochs": 50,
        "min_steps": 500,
        "max_steps": 1000,
    },
    "fine_tuning": {"lr": 5e-4, "default_epochs": 15, "min_steps": 80},
    "self_labeling": {"lr": 1e-4, "default_epochs": 15, "min_steps": 50},
}


class Training(BaseEstimator):
    """How one step of :class:`SCANClustering` is trained.

    Passed as `clustering`, `fine_tuning` or `self_labeling`, where it replaces "auto".
    Its parameters are then nested parameters of the clusterer: a search over
    ``SCANClustering(self_labeling=Training())`` may vary ``self_labeling__lr``.

    Parameters
    ----------
    epochs : int or "auto", default="auto"
        Passes through the data. For the clustering of the frozen embedding "auto" is
        50, but between 500 and 1,000 steps. For the other steps it is at most 15, or
        as many as make 80 steps (50 in self-labelling) where the data are few; a step
        that no longer lowers its loss ends after half of that (see Notes).
    batch_size : int or None, default=None
        Largest number of samples in a step. None for that of the clusterer.
    optimizer : {"adamw", "adam", "sgd"} or callable, default="adamw"
        What takes the steps; "sgd" has momentum 0.9. Or a function
        ``f(parameters, lr=, weight_decay=)`` that returns a `torch.optim.Optimizer`.
    lr : float or "auto", default="auto"
        Peak learning rate. "auto" is 1e-2, 5e-4 and 1e-4 in the order of the steps.
    weight_decay : float, default=1e-4
        Weight decay, decoupled in "adamw".
    annealing : {"one_cycle", "cosine", "constant"}, default="one_cycle"
        How the learning rate goes: up for a tenth of the steps and then down to zero
        along a cosine; down along a cosine from epoch to epoch; or not at all.
    views : str, tuple, callable or None, default=None
        The random views of this step. None for those of the clusterer. Clustering of
        the frozen embedding draws none.
    freeze_encoder : bool, default=False
        Whether only the heads learn, behind an encoder in evaluation mode. Clustering
        of the frozen embedding does so in any case.

    See Also
    --------
    sklearn_scan.recipes : The settings of the paper.

    Notes
    -----
    With ``epochs="auto"`` and "one_cycle", fine-tuning and self-labelling take a cycle
    of half of the longest run. In the middle of it they pause, at the learning rate
    that they have reached, for as long as the loss falls: until its mean over the last
    twelfth of the longest run is below that over the twelfth before by less than 4 % of
    what it has fallen since the first epoch, or by less than its standard error.
    (SimCLR takes the longest run where it is lower by more than 8 % at first.)

    Examples
    --------
    >>> from sklearn_scan import SCANClustering, Training
    >>> SCANClustering(fine_tuning=Training(lr=1e-4), self_labeling=None)
    SCANClustering(fine_tuning=Training(lr=0.0001), self_labeling=None)
    """

    _parameter_constraints = {
        "epochs": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 2, None, closed="left"), None],
        "optimizer": [StrOptions(set(OPTIMIZERS)), callable],
        "lr": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "annealing": [StrOptions(set(ANNEALINGS))],
        "views": [StrOptions(set(POLICIES)), tuple, callable, None],
        "freeze_encoder": ["boolean"],
    }

    def __init__(
        self,
        *,
        epochs="auto",
        batch_size=None,
        optimizer="adamw",
        lr="auto",
        weight_decay=1e-4,
        annealing="one_cycle",
        views=None,
        freeze_encoder=False,
    ):
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.annealing = annealing
        self.views = views
        self.freeze_encoder = freeze_encoder

    def make_schedule(self, step, batch_size):
        """Return the schedule of a step, with "auto" and None filled in."""
        auto = dict(_AUTO[step])
        lr = auto.pop("lr")
        return Schedule(
            self.epochs,
            int(batch_size if self.batch_size is None else self.batch_size),
            lr if self.lr == "auto" else self.lr,
            self.weight_decay,
            self.optimizer,
            self.annealing,
            **auto,
            # Heads alone cost little, and their search needs its whole length.
            settles=step != "clustering",
        )
