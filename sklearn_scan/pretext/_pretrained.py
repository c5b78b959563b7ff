# SPDX-License-Identifier: BSD-3-Clause
"""An encoder that was trained elsewhere."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from sklearn_scan._compat import HasMethods, Interval, StrOptions
from sklearn_scan._console import SILENT
from sklearn_scan._engine import (
    RowStore,
    Runtime,
    StageCache,
    fingerprint,
    resolve_seed,
    warn_user,
    wrap_trained,
)
from sklearn_scan._inputs import Preparation
from sklearn_scan._nets import ENCODERS, build_encoder, wrap_network
from sklearn_scan._typing import (
    Device,
    EncoderLike,
    Floats,
    OnError,
    Precision,
    RandomState,
    SamplesLike,
    Shape,
    WeightsLike,
)
from sklearn_scan.pretext._embedding import embed_images
from sklearn_scan.pretext._encoder import BaseEncoder
from sklearn_scan.pretext._named import SHORT_NAMES, find_named
from sklearn_scan.pretext._weights import load_weights, read_weights, select_weights


class Pretrained(BaseEncoder):
    """An encoder with the weights of a network that was trained elsewhere.

    `fit` trains nothing: it loads the weights, and learns from `X` no more than what
    the samples are. `transform` shows each image to the network once. Images are
    prepared as the network expects them, and files are decoded while it computes, so
    that they need not fit into memory.

    In :class:`~sklearn_scan.SCANClustering` it takes the place of a pretext task, and
    stays as it is, unless ``clustering`` or ``self_labeling`` is a
    :class:`~sklearn_scan.TrainingConfig`: then these stages train it on.

    Parameters
    ----------
    encoder : str, class or callable, default="auto"
        The network that the weights belong to. ``"timm/NAME"`` is a model of timm, such
        as ``"timm/vit_small_patch14_dinov2.lvd142m"``, and ``"hf-hub:ORG/NAME"`` one
        that the Hugging Face hub holds in timm's format; both need timm.
        ``"torchvision/WEIGHTS"`` names weights of torchvision, such as
        ``"torchvision/ResNet50_Weights.IMAGENET1K_V2"``. Short names are "dinov2" and
        "dinov2-base" (timm's ViT-S/14 and ViT-B/14, at 224 pixels) and "clip" (timm's
        ViT-B/32 by OpenAI). The size of the images, how they are resized and cropped,
        their mean and standard deviation are those that such a network was trained
        with. Or the name of an encoder of this library, such as "resnet18", or a class
        or function that is given the shape of a sample, (c, h, w) or (n_features,), and
        returns a `torch.nn.Module` from samples to features (b, d). "auto" is what
        :class:`SimCLR` takes. See Notes for what the features are.
    weights : str, PathLike, dict or None, default=None
        A file of PyTorch or of safetensors, or a state dict: names to tensors or
        arrays. A file is read without running code that it may hold. None loads the
        weights of a named encoder from where its library keeps them, after fetching
        them there if need be; and leaves the network of a function as it is: trained,
        where that loads weights by itself, or at random, which is the baseline of all
        pretext tasks.
    prefix : str, default=""
        What the names of the encoder's weights begin with in `weights`, such as
        ``"module.encoder_q."`` for MoCo. It is taken off; all other entries are left
        out.
    mean, std : tuple of float or "data", default="data"
        The mean and standard deviation, per channel, that the network of a function
        was trained to see taken off, of values from 0 to 1. For ImageNet
        ``mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)``. "data" is those of
        `X`, in each fold of a search those of another, so that `memory` finds nothing
        there. Named encoders have their own.
    image_size : int or None, default=None
        Side of the images that a named encoder is to read. None for its own.
    image_shape : tuple of int or None, default=None
        Shape (h, w), (h, w, c) or (c, h, w) of one image where `X` holds images as
        rows; and, for the network of a function, to which files are brought.
    on_error : {"raise", "skip"}, default="raise"
        What to do where `X` is files of which some cannot be read: end with one error
        that names them, or leave them out, with one warning. `transform` keeps a row
        for each, NaN where it was left out. To skip, files are decoded once more, or
        once only where there is a `memory`.
    memory : str, joblib.Memory or None, default=None
        Where to keep the features of each image, by its content and by the encoder. An
        image that was embedded before, in another fold or another fit, is not embedded
        again, and a file that has not changed is not even read. In `SCANClustering`,
        None stands for the clusterer's.
    store_weights : bool, default=True
        Whether what is saved of a fitted estimator holds the weights. If not, they are
        loaded again when they are needed, from where they came from.
    device : str or torch.device, default="auto"
        Where to compute. "auto" takes a CUDA GPU where there is one.
    precision : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        Type in which images are embedded. "auto" is that of the clusterer, if any:
        bfloat16 on devices with bfloat16 instructions, GPUs and CPUs alike, float16 on
        GPUs that have these alone, and float32 elsewhere.
    random_state : int, RandomState instance or None, default=None
        Determines the weights where there are none to load.
    verbose : int, default=0
        1 prints a line that grows: how many images were embedded, and the time left. In
        a log, it is printed every minute and at the end; with 2, every five seconds.

    Attributes
    ----------
    {shared_attributes}

    See Also
    --------
    sklearn_scan.SCANClustering : Takes it as `pretext`.

    Notes
    -----
    *Features* are what the authors of a network pool, as they come, in float32. For
    most vision transformers of timm this is the class token (DINO, DINOv2, supervised
    training), for others the mean over patches or the output of a pooling head
    (DINOv3, SigLIP); for convolutional networks, what the classifier reads, mostly the
    mean over positions. Of torchvision's networks the last linear layer is taken off.

    *Large JPEG files* are decoded at a reduced size, of at least twice that of the
    network's images, so that features differ a little from those of the full size.
    Otherwise pixels are those of the library's own transform.

    *Offline*, a missing file of weights is named, with where it is to be put.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_scan.pretext import Pretrained, SimCLR
    >>> images = load_digits().images[:200]
    >>> trained = SimCLR(encoder="convnet", epochs=1, random_state=0).fit(images)
    >>> weights = trained.net_.module_.encoder.network.state_dict()
    >>> Pretrained("convnet", weights).fit_transform(images).shape
    (200, 128)

    A folder of photographs through a network that has seen many, and how well a linear
    classifier reads its features::

        make_pipeline(Pretrained("dinov2", memory="cache"), LogisticRegression())
    """

    _parameter_constraints = {
        "encoder": [str, callable],
        "weights": [str, os.PathLike, Mapping, None],
        "prefix": [str],
        "mean": [StrOptions({"data"}), tuple, list],
        "std": [StrOptions({"data"}), tuple, list],
        "image_size": [Interval(Integral, 1, None, closed="left"), None],
        "memory": [str, os.PathLike, HasMethods(["cache"]), None],
        "store_weights": ["boolean"],
    }
    is_pretrained = True

    def __init__(
        self,
        encoder: EncoderLike = "auto",
        weights: WeightsLike = None,
        *,
        prefix: str = "",
        mean: Literal["data"] | Sequence[float] = "data",
        std: Literal["data"] | Sequence[float] = "data",
        image_size: int | None = None,
        image_shape: Shape = None,
        on_error: OnError = "raise",
        memory: Any = None,
        store_weights: bool = True,
        device: Device = "auto",
        precision: Precision = "auto",
        random_state: RandomState = None,
        verbose: int = 0,
    ):
        self.encoder = encoder
        self.weights = weights
        self.prefix = prefix
        self.mean = mean
        self.std = std
        self.image_size = image_size
        self.image_shape = image_shape
        self.on_error = on_error
        self.memory = memory
        self.store_weights = store_weights
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose

    def find_reading(self, image_shape=None):
        """Return the arguments by which `_learn_samples` reads what this encoder needs.

        Nothing is decoded that is not asked for.
        """
        shape = super().find_reading(image_shape)["image_shape"]
        named = self._find_named()
        if named is not None:
            preparation = named.find_preparation()
        else:
            given = {} if shape is None else {"image_shape": tuple(shape)}
            if self.mean != "data" and self.std != "data":
                given |= {"mean": tuple(self.mean), "std": tuple(self.std)}
            preparation = Preparation(**given)
        return {"image_shape": shape, "preparation": preparation, "is_lazy": True}

    def build(self, source):
        """Return the network in a module, with its weights, and no criterion.

        Parameters
        ----------
        source : ArraySource
            The samples.
        """
        return self._build(source.format)

    def fit_samples(self, X, input_spec, trainer):
        """Load the weights."""
        self._take_input_spec(input_spec)
        self._load(trainer.runtime)
        self.history_ = trainer.progress.history.setdefault("pretext", [])

    def fit_and_embed(self, X, input_spec, trainer):
        """Load the weights, and embed checked samples."""
        self.fit_samples(X, input_spec, trainer)
        embedding, record = self._embed(X, trainer.runtime, trainer.progress.console)
        if not np.isfinite(embedding).all():
            raise ValueError(
                f"The features of {self!r} are not finite. Its weights may be damaged, "
                'or need precision="float32".'
            )
        self.history_.append(record)
        return embedding

    def embed_samples(self, X, runtime, console=SILENT):
        """Embed checked samples."""
        return self._embed(X, runtime, console)[0]

    def transform(self, X: SamplesLike) -> Floats:
        """Embed samples.

        Parameters
        ----------
        X : array-like, folder or sequence of paths or pictures
            Samples such as `fit` saw. Where the encoder has a name, images may be of
            any size.

        Returns
        -------
        embedding : ndarray of shape (n_samples, n_features_out), dtype float32
            Features of the encoder, as they come.
        """
        return super().transform(X)

    def make_embedder(self):
        """Return the module from samples, as decoded, to the embedding."""
        return self.make_encoder()

    def _embed(self, X, runtime, console):
        # In its own precision: features must not differ between `fit` and `predict`.
        runtime = Runtime.resolve_fitted(runtime.device, self.precision)
        encoder = self.net_.module_.encoder.to(runtime.device).eval()
        return embed_images(
            encoder,
            X,
            self.input_spec_.format,
            runtime,
            store=self._open_store(encoder, runtime),
            console=console,
        )

    def _open_store(self, encoder, runtime):
        """Return where features of images are kept, if anywhere."""
        folder = StageCache.open(self.memory).folder
        if folder is None:
            return None
        preparation, format = self.input_spec_.preparation, self.input_spec_.format
        prepared = None if preparation is None else preparation.describe()
        # The same array is another image where another value is white. Rows have none.
        limits = getattr(format, "low", None), getattr(format, "high", None)
        try:
            code = fingerprint((self.encoder, prepared, limits, runtime.precision))
        except TypeError as error:
            warn_user(
                f"memory= does not hold what {type(self).__name__} makes of images: "
                f"its encoder cannot be identified later, as {error}."
            )
            return None
        identity = hashlib.blake2b(code.encode(), digest_size=16)
        identity.update(_digest_weights(encoder).encode())
        return RowStore(folder, identity.hexdigest())

    def _load(self, runtime):
        """Make the network, with its weights, for samples that are known."""
        with runtime.isolated(resolve_seed(self.random_state)):
            module, criterion = self._build(self.input_spec_.format)
        self.net_ = wrap_trained(module, criterion, runtime)

    def _build(self, format):
        named = self._find_named()
        if named is not None:
            network = self._make_named(named)
            return TrainedEncoder(wrap_network(network, format)), nn.Identity()
        encoder = build_encoder(self.encoder, format)
        for name in ("mean", "std"):
            if (given := getattr(self, name)) != "data":
                _set_statistic(encoder, name, given)
        if self.weights is not None:
            weights = select_weights(read_weights(self.weights), self.prefix)
            load_weights(encoder.network, weights, self.encoder, self.prefix)
        return TrainedEncoder(encoder), nn.Identity()

    def _make_named(self, named):
        """Return the network of a named encoder, with its weights."""
        if self.weights is None:
            return named.make_network()
        network = named.make_untrained()
        weights = select_weights(read_weights(self.weights), self.prefix)
        weights = named.adapt(weights, network)
        load_weights(network, weights, self.encoder, self.prefix)
        return network

    def _find_named(self):
        """Return what a name of another library stands for; check parameters by it."""
        if callable(self.encoder) or self.encoder in {"auto", *ENCODERS}:
            if self.image_size is not None:
                raise ValueError(
                    f"image_size={self.image_size} is for encoders of other libraries "
                    "that have a name. Pass image_shape=(h, w, 3) instead."
                )
            self._check_statistics()
            return None
        named = find_named(self.encoder, self.image_size)
        if named is None:
            raise ValueError(
                f"Unknown encoder={self.encoder!r}. Choose 'timm/NAME', "
                "'torchvision/WEIGHTS', 'hf-hub:ORGANISATION/NAME', one of "
                f"{', '.join(map(repr, SHORT_NAMES))}, or one of "
                f"{', '.join(map(repr, ('auto', *ENCODERS)))}; or pass a function that "
                "returns the network."
            )
        for name in ("mean", "std"):
            if getattr(self, name) != "data":
                raise ValueError(
                    f"{name}={getattr(self, name)!r} was given, and the encoder "
                    f"{self.encoder!r} has its own. Leave {name} out."
                )
        return named

    def _check_statistics(self):
        """Refuse a mean and a standard deviation that are not of values from 0 to 1."""
        for name, least in (("mean", 0), ("std", 1e-6)):
            given = getattr(self, name)
            if given != "data" and not all(least <= value <= 1 for value in given):
                raise ValueError(
                    f"{name}={given!r} must be of values from 0 to 1, one for each "
                    "channel; divide what is of values from 0 to 255 by 255."
                )

    def __getstate__(self):
        state = dict(super().__getstate__())
        if not self.store_weights and "net_" in state:
            state["_digest"] = _digest_weights(state.pop("net_").module_.encoder)
        return state

    def __copy__(self):
        # By default of the state for pickles, which may be without weights.
        copied = type(self).__new__(type(self))
        vars(copied).update(vars(self))
        return copied

    def __getattr__(self, name):
        # Only called where there is no such attribute: a pickle without weights loads
        # them again when they are needed.
        if name != "net_" or "_digest" not in vars(self):
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}"
            )
        self._load(Runtime.resolve_fitted(self.device, self.precision))
        found = _digest_weights(vars(self)["net_"].module_.encoder)
        if found != self._digest:
            del self.net_
            raise ValueError(
                f"The weights of encoder={self.encoder!r} that are loaded now are not "
                "those that it was fitted with, which its pickle left out because of "
                "store_weights=False. Fit it anew."
            )
        del self._digest
        return vars(self)["net_"]


class TrainedEncoder(nn.Module):
    """Holds an encoder where tasks keep theirs."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder


def _digest_weights(encoder):
    """Return a hash of all weights and statistics of an encoder."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in encoder.state_dict().items():
        value = value.detach().cpu().contiguous()
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _set_statistic(encoder, name, given):
    """Set the mean, or the reciprocal of the standard deviation, of an encoder."""
    buffer = encoder.mean if name == "mean" else encoder.scale
    if len(given) != buffer.numel():
        raise ValueError(
            f"{name}={given!r} has {len(given)} entries, and the samples have "
            f"{buffer.numel()} channels."
        )
    values = torch.tensor(given, dtype=buffer.dtype).view_as(buffer)
    buffer.copy_(values if name == "mean" else 1 / values)
