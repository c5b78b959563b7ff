# SPDX-License-Identifier: BSD-3-Clause
"""Encoders that timm and torchvision know by name, with the preparation of their own.

Each is asked two things: how it prepares pictures, which takes no weights, and for its
network. What the network returns is what its authors pool: for most vision transformers
of timm the class token, which DINO, DINOv2 and supervised training make an image's
summary (others, such as SigLIP, DINOv3 and EVA-02, have a pooling head or take a mean);
for convolutional networks, what their classifier reads, mostly the mean over positions.
"""

import difflib
import os
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from torch import nn

from sklearn_scan._inputs import Preparation

#: The few that people mean, with the size of image at which their authors publish
#: results without fine-tuning. (In timm, DINOv2 reads 518 pixels, at ten times the
#: cost.)
SHORT_NAMES = {
    "dinov2": ("timm/vit_small_patch14_dinov2.lvd142m", 224),
    "dinov2-base": ("timm/vit_base_patch14_dinov2.lvd142m", 224),
    "clip": ("timm/vit_base_patch32_clip_224.openai", None),
}

_HUB = "hf-hub:"
# Networks of torchvision that exchange the standardisation of ImageNet for their own.
_OLD_STATISTICS = {"googlenet", "inception_v3"}

_HUB_CACHE = (
    "the cache of Hugging Face from a machine that has it to the folder in the "
    "environment variable HF_HOME."
)


def find_named(name, image_size=None):
    """Return the encoder that a name stands for.

    Parameters
    ----------
    name : str
        "timm/NAME", "hf-hub:ORGANISATION/NAME" (of timm, too), "torchvision/WEIGHTS",
        or a short name.
    image_size : int or None, default=None
        Side of the images that it is to read; None for its own.

    Returns
    -------
    encoder : NamedEncoder or None
        None where the name is of none of these forms.
    """
    if not isinstance(name, str):
        return None
    name, own_size = SHORT_NAMES.get(name, (name, None))
    image_size = image_size or own_size
    if name.startswith(_HUB):
        return TimmEncoder(name, image_size)
    library, _, rest = name.partition("/")
    if library == "timm" and rest:
        return TimmEncoder(rest, image_size)
    if library == "torchvision" and rest:
        return TorchvisionEncoder(rest, image_size)
    return None


@dataclass(frozen=True)
class NamedEncoder(ABC):
    """An encoder that a library knows by name.

    Attributes
    ----------
    name : str
        In that library.
    image_size : int or None
        Side of the images that it is to read; None for its own.
    """

    name: str
    image_size: int | None = None

    @abstractmethod
    def find_preparation(self):
        """Return the `Preparation` that it was trained with. Takes no weights."""

    @abstractmethod
    def make_network(self):
        """Return the network without its classifier, in evaluation mode.

        Its weights come from where the library keeps them, and are fetched there first
        if need be.

        Raises
        ------
        ValueError
            If the library knows no such name.
        FileNotFoundError
            If there are no weights here, and they cannot be fetched.
        """

    @abstractmethod
    def make_untrained(self):
        """Return the network without its classifier, with weights at random."""

    def adapt(self, weights, network):
        """Return weights, as the library has them, for this very network."""
        return weights


class TimmEncoder(NamedEncoder):
    """An encoder of timm, or of the Hugging Face hub in the format of timm."""

    def find_preparation(self):
        """Return what `timm.data.create_transform` makes of the model's own data."""
        _import_timm()
        from timm.data import create_transform, resolve_data_config

        options = {} if self.image_size is None else {"input_size": self._input_size()}
        config = resolve_data_config(options, pretrained_cfg=self._config())
        # As uint8: standardising is the network's first step, on any device.
        transform = create_transform(**config, is_training=False, normalize=False)
        height, width = config["input_size"][1:]
        return Preparation(
            (height, width, 3),
            ToArray(transform),
            config["mean"],
            config["std"],
            f"timm {_import_timm().__version__} {sorted(config.items())}",
        )

    def make_network(self):
        """Return the network of `timm.create_model` with its weights."""
        try:
            return self._create(pretrained=True)
        except OSError as error:
            raise FileNotFoundError(self._explain_missing()) from error

    def make_untrained(self):
        """Return the network of `timm.create_model` with weights at random."""
        return self._create(pretrained=False)

    def adapt(self, weights, network):
        """Return weights by the names and for the size of image of a network.

        Not `timm.create_model`, which leaves weights at random where the file has none.
        """
        module = sys.modules[type(network).__module__]
        convert = getattr(module, "checkpoint_filter_fn", None)
        return weights if convert is None else convert(weights, network)

    def _create(self, **options):
        timm = _import_timm()
        if not self.name.startswith(_HUB) and not timm.is_model(self.name):
            raise ValueError(self._explain_unknown(timm))
        if self.image_size is not None:
            options["img_size"] = self.image_size
        try:
            return self._create_sized(timm, options).eval()
        except (RuntimeError, AssertionError) as error:
            size = f" for images of {self.image_size} pixels" if self.image_size else ""
            raise ValueError(
                f"timm cannot make {self.name!r}{size}: {error}. Choose another "
                "image_size, or pass weights= where timm has none."
            ) from error

    def _create_sized(self, timm, options):
        try:
            return timm.create_model(self.name, num_classes=0, **options)
        except TypeError as error:
            # Convolutional networks read any size, and take no such argument.
            if options.pop("img_size", None) is None or "img_size" not in str(error):
                raise
        return timm.create_model(self.name, num_classes=0, **options)

    def _config(self):
        timm = _import_timm()
        if self.name.startswith(_HUB):
            try:
                found = timm.models.load_model_config_from_hf(self._hub_name())
            except OSError as error:
                raise FileNotFoundError(
                    f"The file config.json of {self.name!r} is not on this machine, "
                    "and could not be downloaded from https://huggingface.co/"
                    f"{self._hub_name()}. Copy {_HUB_CACHE}"
                ) from error
            return found[0]
        if not timm.is_model(self.name):
            raise ValueError(self._explain_unknown(timm))
        try:
            config = timm.get_pretrained_cfg(self.name)
        except RuntimeError:  # there is such a model, but not with these weights
            config = None
        if config is None:
            raise ValueError(self._explain_unknown(timm))
        return config.to_dict()

    def _input_size(self):
        return (3, self.image_size, self.image_size)

    def _hub_name(self):
        return self.name.removeprefix(_HUB)

    def _explain_unknown(self, timm):
        known = timm.list_pretrained()
        near = difflib.get_close_matches(self.name, known, n=3, cutoff=0.5)
        return (
            f"timm {timm.__version__} has no model {self.name!r}."
            + (f" Similar names: {', '.join(near)}." if near else "")
            + " timm.list_pretrained() lists all."
        )

    def _explain_missing(self):
        repository, file = self._find_weights()
        return (
            f"The weights of {self.name!r} are not on this machine, and could not be "
            f"downloaded. Download {file} from https://huggingface.co/{repository} "
            'where there is a network, and pass it as weights="path/to/'
            f'{os.path.basename(file)}"; or copy {_HUB_CACHE}'
        )

    def _find_weights(self):
        if self.name.startswith(_HUB):
            return self._hub_name(), "model.safetensors"
        config = _import_timm().get_pretrained_cfg(self.name)
        # What is on the hub has the name of the model.
        return config.hf_hub_id or f"timm/{self.name}", (
            config.hf_hub_filename or "model.safetensors"
        )


class TorchvisionEncoder(NamedEncoder):
    """An encoder of torchvision, named by its weights."""

    def find_preparation(self):
        """Return what the `transforms()` of the weights do."""
        import torchvision

        self._find_model()
        transform = self._find_weights().transforms()
        crop = CropLikeTorchvision(
            tuple(transform.resize_size),
            tuple(transform.crop_size),
            transform.interpolation.value,
        )
        if self.image_size is not None:
            crop = crop.scaled_to(self.image_size)
        return Preparation(
            (*_as_pair(crop.crop_size), 3),
            crop,
            tuple(transform.mean),
            tuple(transform.std),
            f"torchvision {torchvision.__version__} {crop}",
        )

    def make_network(self):
        """Return the network with its weights, without its last linear layer."""
        found = self._find_weights()
        try:
            return _without_classifier(self._make(found))
        except OSError as error:
            raise FileNotFoundError(self._explain_missing(found)) from error

    def make_untrained(self):
        """Return the network with weights at random."""
        return _without_classifier(self._make(None))

    def _make(self, weights):
        import torchvision

        model, options = self._find_model(), {}
        if model.startswith("vit_"):  # is made for one size of image
            options["image_size"] = self.find_preparation().image_shape[0]
        if model in _OLD_STATISTICS and weights is None:
            # What their weights were trained with, and torchvision sets with them.
            options |= {"transform_input": True, "init_weights": False}
        try:
            return torchvision.models.get_model(model, weights=weights, **options)
        except ValueError as error:
            raise ValueError(
                f"torchvision cannot make {self.name!r} for images of "
                f"{self.image_size} pixels: {error}. Leave image_size out."
            ) from error

    def _find_weights(self):
        """Return the entry of torchvision's enumeration of weights."""
        import torchvision

        group = self.name.partition(".")[0]
        try:
            return torchvision.models.get_weight(self.name)
        except (KeyError, ValueError) as error:
            known = [
                f"{weights.__name__}.{member}"
                for model in torchvision.models.list_models(torchvision.models)
                for weights in [torchvision.models.get_model_weights(model)]
                for member in weights.__members__
            ]
            own = [each for each in known if each.startswith(f"{group}.")]
            near = own or difflib.get_close_matches(self.name, known, n=3, cutoff=0.3)
            raise ValueError(
                f"torchvision has no weights {self.name!r}. Similar names: "
                f"{', '.join(near)}."
            ) from error

    def _find_model(self):
        import torchvision

        group = type(self._find_weights())
        for model in torchvision.models.list_models(torchvision.models):
            if torchvision.models.get_model_weights(model) is group:
                return model
        raise ValueError(
            f"The weights {self.name!r} are not of a classifier of images. "
            "torchvision.models.list_models(torchvision.models) lists those that there "
            "are."
        )

    def _explain_missing(self, weights):
        import torch

        file = os.path.basename(weights.url)
        folder = os.path.join(torch.hub.get_dir(), "checkpoints")
        return (
            f"The weights of {self.name!r} are not on this machine, and could not be "
            f"downloaded. Download {weights.url} where there is a network, and put it "
            f'in {folder!r}, or pass it as weights="path/to/{file}".'
        )


@dataclass(frozen=True)
class ToArray:
    """Calls a transform that returns a tensor (c, h, w), and makes it (h, w, c)."""

    transform: object

    def __call__(self, picture):
        """Return the transformed picture as an array."""
        return np.ascontiguousarray(self.transform(picture).permute(1, 2, 0).numpy())


@dataclass(frozen=True)
class CropLikeTorchvision:
    """The first two steps of torchvision's `ImageClassification`, on pictures.

    Attributes
    ----------
    resize_size : tuple of int
        Of the shorter side, or of height and width.
    crop_size : tuple of int
        Of what is cut out around the centre.
    interpolation : str
        Of torchvision's `InterpolationMode`.
    """

    resize_size: tuple
    crop_size: tuple
    interpolation: str

    def __call__(self, picture):
        """Return the picture, resized and cropped."""
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms import functional as F

        interpolation = InterpolationMode(self.interpolation)
        resized = F.resize(picture, list(self.resize_size), interpolation)
        return F.center_crop(resized, list(self.crop_size))

    def scaled_to(self, image_size):
        """Return the same for another size of the crop."""
        factor = image_size / _as_pair(self.crop_size)[0]
        resize_size = tuple(round(side * factor) for side in self.resize_size)
        return CropLikeTorchvision(resize_size, (image_size,), self.interpolation)


def _as_pair(sides):
    return (sides[0], sides[-1])


def _without_classifier(network):
    """Return a network of torchvision that ends before its last linear layer."""
    linear = [n for n, m in network.named_modules() if isinstance(m, nn.Linear)]
    if not linear:
        raise ValueError(
            f"{type(network).__name__} has no linear layer to be taken off. Choose "
            "another model, or pass a function that returns the network."
        )
    parent, _, name = linear[-1].rpartition(".")
    setattr(network.get_submodule(parent), name, nn.Identity())
    return network.eval()


def _import_timm():
    try:
        import timm
    except ImportError as error:
        raise ImportError(
            "Encoders of timm need timm: pip install timm, or install sklearn_scan "
            'with its extra, pip install "sklearn_scan[timm]".'
        ) from error
    return timm
