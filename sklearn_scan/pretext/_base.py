# SPDX-License-Identifier: BSD-3-Clause
"""What all pretext tasks share: everything but the task.

A pretext task is a subclass of `BasePretext` in a file of its own with one method,
`make_task(encoder, views, n_samples)`, that returns a module and a criterion (see
`sklearn_scan._engine`); the module keeps the encoder as `encoder`. `make_data` says
what the module is given of each batch. The package exports the task by name.
"""

from abc import abstractmethod
from functools import partial
from numbers import Integral, Real

from torch import nn

from sklearn_scan._compat import Interval, StrOptions
from sklearn_scan._engine import (
    LR_SCHEDULES,
    OPTIMIZERS,
    Samples,
    Schedule,
    Stage,
    make_step,
    resolve_seed,
)
from sklearn_scan._nets import build_encoder
from sklearn_scan._typing import (
    AutoInt,
    Device,
    EncoderLike,
    LRSchedule,
    OnError,
    OptimizerLike,
    Precision,
    RandomState,
    Shape,
    ViewsLike,
)
from sklearn_scan._views import POLICIES, build_views
from sklearn_scan.pretext._caching import fit_embed_once
from sklearn_scan.pretext._encoder import BaseEncoder, fill_docstring

_SHARED_PARAMETERS = """encoder : str, class or callable, default="auto"
        The network to train. "auto" is an MLP for rows, a small convolutional network
        for images up to 64 pixels, which is cheaper on those of one channel above 24
        pixels, and ResNet-18 for larger ones. By name: "convnet",
        "mlp", "resnet18", "resnet34", "resnet50", "resnet18_cifar" and so on with the
        3 x 3 stem for small images, worth its cost on a GPU, and "resnet18_stl" and so
        on with the paper's stem for images of 96 pixels. Or a class or function
        that is given the shape of a sample, (c, h, w) or (n_features,), and returns a
        `torch.nn.Module` from samples to features (b, d).
    views : str, tuple or callable, default="auto"
        The random views. "auto" measures on `X` which changes are harmless: it crops
        pictures that fill their frame, and moves and turns objects on a plain
        background. It mirrors images, changes their hue, and inverts such objects, only
        where the set holds images that look as if they had been made so. Where colour
        hides what is shown, half of the views are gray. By name: "affine", "photo"
        (SimCLR's), "strong" (the paper's), "vector" (for rows), "none"; or a tuple of
        "affine", "crop", "flip", "color" (jitter of brightness, contrast and hue; a
        fifth turn gray), "gray" (as "color", but half turn gray), "light" (jitter of
        brightness and contrast alone), "invert" (half become negatives), "operations"
        (those of the paper), "shapes" (its geometric ones), "cutout". Or a class or
        function that is given the shape of a sample and returns a `torch.nn.Module`
        from a batch to a batch.
    epochs : int or "auto", default="auto"
        Passes through the data. "auto" is 60, or as many as make 400 steps where the
        data are few. :class:`~sklearn_scan.pretext.SimCLR` ends after half of that
        where its loss no longer falls: see the notes of
        :class:`~sklearn_scan.TrainingConfig`.
    batch_size : int, default=256
        Largest number of samples in a step. Where memory is short, batches are
        smaller, with a warning.
    optimizer : {"adamw", "adam", "sgd"} or callable, default="adamw"
        The optimizer; "sgd" has momentum 0.9. Or a function
        ``f(parameters, lr=, weight_decay=)`` that returns a `torch.optim.Optimizer`.
    lr : float, default=3e-3
        Peak learning rate.
    weight_decay : float, default=1e-4
        Weight decay, decoupled in "adamw".
    lr_schedule : {"one_cycle", "cosine", "constant"}, default="one_cycle"
        Learning-rate schedule. "one_cycle" rises for a tenth of the steps and then
        falls to zero along a cosine; "cosine" falls along a cosine from epoch to epoch;
        "constant" stays at the peak.
    image_shape : tuple of int or None, default=None
        Shape (h, w), (h, w, c) or (c, h, w) of one image where `X` holds images as
        rows.
    on_error : {"raise", "skip"}, default="raise"
        What to do where `X` is files of which some cannot be read: end with one error
        that names them, or leave them out, with one warning. `transform` keeps a row
        for each, NaN where it was left out.
    device : str or torch.device, default="auto"
        Where to compute. "auto" takes a CUDA GPU where there is one.
    precision : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        Type in which networks learn, and look at images afterwards. "auto" is bfloat16
        where there are fast instructions for it, float16 on GPUs that have them for it
        alone, else float32. Losses and heads are float32, as are the answers of
        networks that read rows, and never TF32.
    random_state : int, RandomState instance or None, default=None
        Determines all random choices. Pass an int for reproducible results.
    verbose : int, default=0
        1 prints a line that grows in a terminal and in a notebook; a log is told every
        minute, and at the end. 2 prints a line per epoch."""


class BasePretext(BaseEncoder):
    """Base class of the pretext tasks."""

    _parameter_constraints = {
        "views": [StrOptions(set(POLICIES)), tuple, callable],
        "epochs": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 2, None, closed="left")],
        "optimizer": [StrOptions(set(OPTIMIZERS)), callable],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "lr_schedule": [StrOptions(set(LR_SCHEDULES))],
    }
    trains = True
    #: Whether the loss falls while the task learns, so that the training can end where
    #: it no longer does. (A queue or a moving target makes it rise.)
    ends_early = False

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        fill_docstring(cls, shared_parameters=_SHARED_PARAMETERS)

    @abstractmethod
    def __init__(
        self,
        *,
        encoder: EncoderLike,
        views: ViewsLike,
        epochs: AutoInt,
        batch_size: int,
        optimizer: OptimizerLike,
        lr: float,
        weight_decay: float,
        lr_schedule: LRSchedule,
        image_shape: Shape,
        on_error: OnError = "raise",
        device: Device,
        precision: Precision,
        random_state: RandomState,
        verbose: int,
    ):
        self.encoder = encoder
        self.views = views
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.lr_schedule = lr_schedule
        self.image_shape = image_shape
        self.on_error = on_error
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose

    @abstractmethod
    def make_task(self, encoder, views, n_samples):
        """Return the module, which has `encoder`, and the criterion of the task.

        Parameters
        ----------
        encoder : Encoder
            From samples to features.
        views : nn.Module
            From a batch to random views of it.
        n_samples : int
            How many there are to learn from.

        Returns
        -------
        module, criterion : nn.Module
            See `sklearn_scan._engine`.
        """

    def make_data(self, source, module):
        """Return the data set of the task; one that knows each sample, if need be."""
        return Samples(source)

    def build(self, source):
        """Return the module of the task, with an untrained encoder, and the criterion.

        Parameters
        ----------
        source : ArraySource
            The samples.
        """
        encoder = build_encoder(self.encoder, source.format)
        return self.make_task(encoder, build_views(self.views, source), len(source))

    def fit_samples(self, X, input_spec, trainer):
        """Train on checked samples, as the stage "pretext" of `trainer`."""
        self._take_input_spec(input_spec)
        source = self._open(X, trainer.runtime)
        schedule = Schedule(
            self.epochs,
            int(self.batch_size),
            self.lr,
            self.weight_decay,
            self.optimizer,
            self.lr_schedule,
            ends_early=self.ends_early,
        )
        with trainer.runtime.isolated(resolve_seed(self.random_state)):
            module, criterion = self.build(source)
            data = self.make_data(source, module)
            stage = Stage("pretext", module, criterion, data, schedule)
            self.net_ = trainer.run(stage)
        self.history_ = trainer.progress.history["pretext"]

    def fit_embed(self, X, input_spec, trainer):
        """Train on checked samples, or fetch what was learned; return the embedding."""
        return fit_embed_once(self, X, input_spec, trainer)

    def _plan_own_batches(self, source, build, trainer):
        """Find out which batches of the pretext itself memory has room for.

        Its `batch_size` becomes what there is room for, so that a cache does not hold
        the result under another name.
        """
        if self.is_fitted:
            return
        wish = int(self.batch_size)
        size = trainer.plan_batches(
            "pretext", wish, source, partial(self._prepare_step, source, build, trainer)
        )
        if size < wish:
            self.set_params(batch_size=size)

    def _prepare_step(self, source, build, trainer):
        encoder = build()
        with trainer.runtime.isolated(0):
            # What views keep is not kept for a backward pass.
            module, criterion = self.make_task(encoder, nn.Identity(), len(source))
        step = make_step(module, criterion, trainer.runtime)
        return step, self.make_data(source, module)

    def _build_encoder(self, source):
        return build_encoder(self.encoder, source.format)
