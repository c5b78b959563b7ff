# SPDX-License-Identifier: BSD-3-Clause
"""The settings of the SCAN paper, by the name of the data set.

The defaults of :class:`~sklearn_scan.SCANClustering` are made for two CPU cores as well
as for a GPU. These are what the paper's figures were made with, on a GPU. Where the
text of the paper and the configuration files of its authors disagree, the files are
followed, since the published figures come from them: the text has 100 epochs of
clustering in batches of 128 for all small sets.

=============  ===============  ===============  ===============  ======================
setting        cifar10          cifar100-20      stl10            imagenet50, 100, 200
=============  ===============  ===============  ===============  ======================
encoder        ResNet-18,       ResNet-18,       ResNet-18,       ResNet-50
               3 x 3 stem       3 x 3 stem       STL stem
pretext        SimCLR, T 0.1    SimCLR, T 0.1    SimCLR, T 0.1    MoCo v2, T 0.2
  epochs       500              500              500              800
  batch        512              512              512              256
  optimizer    SGD 0.4          SGD 0.4          SGD 0.4          SGD 0.03
K              20               20               20               50
heads          1                1                1                10
clustering     all weights      all weights      all weights      heads
  epochs       50               100              100              100
  batch        128              512              128              512, 1024, 1024
  optimizer    Adam 1e-4        Adam 1e-4        Adam 1e-4        SGD 5, no decay
  views        strong           strong           strong           SimCLR's
self-labels    all weights      all weights      all weights      all weights
  epochs       200              200              100              25
  batch        1000             1000             1000             512
  optimizer    Adam 1e-4        Adam 1e-4        Adam 1e-4        SGD 3e-5, no decay
  weights      balanced         balanced         balanced         none
=============  ===============  ===============  ===============  ======================

Differences from the authors' program that remain: neighbours are mined in the features
of the encoder (theirs, for SimCLR, in its projection) and never hold the sample itself.
The projector has batch normalisation, both views of SimCLR are anchors, holes take the
mean of their image, MoCo's views have no blur, and statistics of batch normalisation
are taken anew from plain samples when a stage ends. STL-10's pretext was trained on
105,000 images and the rest on 5,000 of them: fit ``paper_recipe("stl10").pretext`` on
the many, and pass it as ``pretext=FrozenEstimator(fitted)`` with the few.
Batches split the data evenly, so that none is dropped. The last epoch of the clustering
counts, and for ImageNet the head with the lowest loss on the training images (theirs:
epoch and head by the loss on the test images). Pseudo-labels are given in evaluation
mode. The temperature 0.07 of their MoCo configuration was never trained with, as the
weights came from elsewhere; 0.2 is MoCo v2's own. Their moving average of the weights
for ImageNet is put back into the training weights at every step, which makes a
learning rate of 0.03 one of 3e-5.
"""

from functools import partial

from sklearn_scan._config import TrainingConfig
from sklearn_scan._scan import SCANClustering
from sklearn_scan._typing import WeightsLike
from sklearn_scan._views import make_strong_views
from sklearn_scan.pretext import MoCo, Pretrained, SimCLR

__all__ = ["RECIPES", "paper_recipe"]

# A third of the side is 32 of 96 pixels, and 75 of 224.
_THIRD = partial(make_strong_views, cutout=1 / 3)
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


def paper_recipe(
    name: str,
    *,
    effort: float = 1.0,
    weights: WeightsLike = None,
    prefix: str = "",
    **parameters,
) -> SCANClustering:
    """Make the clusterer of the paper for a data set.

    It serves for any images of that kind, at any number: on a folder of photographs,
    ``paper_recipe("imagenet50", n_clusters=12).fit("photographs")``.

    Parameters
    ----------
    name : {"cifar10", "cifar100-20", "stl10", "imagenet50", "imagenet100", \
"imagenet200"}
        Whose settings; the table above has them all.
    effort : float, default=1.0
        Share of the epochs of every step of the recipe, at least one each; what
        `parameters` say stays as it is.
    weights : str, PathLike, dict or None, default=None
        For the ImageNet recipes, weights of a ResNet-50 that MoCo has trained, as the
        authors have used; see :class:`~sklearn_scan.pretext.Pretrained`. None trains
        MoCo on the images at hand.
    prefix : str, default=""
        What the names of those weights begin with.
    **parameters : dict
        Parameters of the clusterer to set otherwise, nested ones as well, such as
        ``pretext__encoder="convnet"``.

    Returns
    -------
    clusterer : SCANClustering
        Not fitted.

    Raises
    ------
    ValueError
        If there is no such recipe, `effort` is not positive, or weights are given to a
        recipe that trains SimCLR.

    References
    ----------
    .. [1] W. Van Gansbeke, S. Vandenhende, S. Georgoulis, M. Proesmans and L. Van Gool,
       "SCAN: Learning to classify images without labels", ECCV 2020, section 3.1 and
       supplement, and the configuration files of its authors.

    Examples
    --------
    >>> from sklearn_scan.recipes import paper_recipe
    >>> clusterer = paper_recipe("cifar10", effort=0.1, random_state=0)
    >>> clusterer.clustering.epochs, clusterer.pretext.epochs
    (5, 50)
    """
    if name not in RECIPES:
        raise ValueError(f"Unknown recipe {name!r}; choose from {sorted(RECIPES)}.")
    if effort <= 0:
        raise ValueError(f"effort must be positive. Got {effort!r} instead.")
    clusterer = RECIPES[name]()
    if weights is not None:
        clusterer.pretext = _load_instead(clusterer.pretext, weights, prefix)
    # `effort` shortens the recipe, and not the parameters that replace parts of it.
    clusterer.set_params(**_shorten(clusterer, effort))
    return clusterer.set_params(**parameters)


def _small_images(n_clusters, *, encoder, epochs, batch_size, label_epochs, views):
    """Return what CIFAR and STL have in common."""
    adam = {"optimizer": "adam", "lr": 1e-4, "lr_schedule": "constant", "views": views}
    return SCANClustering(
        n_clusters,
        n_heads=1,
        pretext=SimCLR(
            temperature=0.1,
            encoder=encoder,
            views="photo",
            epochs=500,
            batch_size=512,
            optimizer="sgd",
            lr=0.4,
            lr_schedule="cosine",
        ),
        head_search=None,
        clustering=TrainingConfig(epochs=epochs, batch_size=batch_size, **adam),
        self_labeling=TrainingConfig(epochs=label_epochs, batch_size=1000, **adam),
        keep="last",
    )


def _imagenet(n_clusters, *, batch_size):
    sgd = {"optimizer": "sgd", "weight_decay": 0.0, "lr_schedule": "constant"}
    return SCANClustering(
        n_clusters,
        K=50,
        n_heads=10,
        pretext=MoCo(
            temperature=0.2,
            momentum=0.999,
            encoder="resnet50",
            views="photo",
            epochs=800,
            batch_size=256,
            optimizer="sgd",
            lr=0.03,
            lr_schedule="cosine",
        ),
        head_search=None,
        clustering=TrainingConfig(
            epochs=100,
            batch_size=batch_size,
            lr=5.0,
            views="photo",
            freeze_encoder=True,
            **sgd,
        ),
        self_labeling=TrainingConfig(
            epochs=25, batch_size=512, lr=3e-5, views=_THIRD, **sgd
        ),
        class_weight=None,
        image_shape=(224, 224, 3),
        keep="last",
    )


# Every recipe, as a function that makes a new clusterer.
RECIPES = {
    "cifar10": partial(
        _small_images,
        10,
        encoder="resnet18_cifar",
        epochs=50,
        batch_size=128,
        label_epochs=200,
        views="strong",
    ),
    "cifar100-20": partial(
        _small_images,
        20,
        encoder="resnet18_cifar",
        epochs=100,
        batch_size=512,
        label_epochs=200,
        views="strong",
    ),
    "stl10": partial(
        _small_images,
        10,
        encoder="resnet18_stl",
        epochs=100,
        batch_size=128,
        label_epochs=100,
        views=_THIRD,
    ),
    "imagenet50": partial(_imagenet, 50, batch_size=512),
    "imagenet100": partial(_imagenet, 100, batch_size=1024),
    "imagenet200": partial(_imagenet, 200, batch_size=1024),
}


def _load_instead(pretext, weights, prefix):
    """Return the encoder of a pretext task with weights instead of the task."""
    if not isinstance(pretext, MoCo):
        raise ValueError(
            "weights= go with the ImageNet recipes; the others train SimCLR. Pass "
            "pretext=Pretrained(encoder, weights) to replace it."
        )
    return Pretrained(
        pretext.encoder, weights, prefix=prefix, mean=_IMAGENET_MEAN, std=_IMAGENET_STD
    )


def _shorten(clusterer, effort):
    """Return all numbers of epochs, times `effort`."""
    return {
        name: max(1, round(effort * value))
        for name, value in clusterer.get_params().items()
        if name.endswith("__epochs")
    }
