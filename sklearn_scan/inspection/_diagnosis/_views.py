# SPDX-License-Identifier: BSD-3-Clause
"""Whether random views keep what the images show."""

import torch

from sklearn_scan._engine import infer
from sklearn_scan._params import plan_stages
from sklearn_scan._views import build_views
from sklearn_scan._views._color import negative, remove_color
from sklearn_scan._views._policy import relative_distance, summarize
from sklearn_scan.neighbors import draw_some

# Images of which views are drawn.
_N_DRAWN = 2000

# What mirrors images, takes their colour, or inverts them.
_MIRRORS = {"flip", "photo", "strong"}
_COLORS = {"color", "gray", "photo", "operations", "strong"}
_NEGATIVES = {"invert"}


def measure_views(estimator, X):
    """Compare the views that an estimator was given with those that images ask for.

    Parameters
    ----------
    estimator : SCANClustering
        Fitted, with an encoder that learned on views.
    X : array-like
        Images; what it was fitted on.

    Returns
    -------
    found : list of dict
        For each parameter that says which views are drawn: the "parameter" and the
        "views" as text; whether they are "chosen" by the user; the "invariance", the
        share of images of which a view is in the cluster of the image, and that under
        "auto"; and "mirror", "gray" and "negative", how much farther from all other
        images a mirrored, gray or inverted image is than the image itself, None where
        the views do not make that change. Empty where no views are drawn.
    """
    if estimator.input_spec_.image_shape is None or not estimator._backbone.learns:
        return []
    X, runtime = estimator._check_samples(X), estimator._resolve_runtime()
    source = estimator._backbone.open(X, None, runtime)
    network = estimator._network(runtime)
    indices = draw_some(len(source), _N_DRAWN)
    labels = torch.from_numpy(estimator.labels_[indices])

    def find_invariance(views):
        with runtime.isolated(0):
            draw = build_views(views, source)
            found = infer(
                lambda batch: network.logits(draw(batch))[0].argmax(dim=1),
                source,
                indices=indices,
            )
        return float((found.cpu() == labels).float().mean())

    automatic = find_invariance("auto")
    images, _ = summarize(source)
    found = []
    for parameter, views in _list_views(estimator).items():
        is_chosen = not (isinstance(views, str) and views == "auto")
        found.append(
            {
                "parameter": parameter,
                "views": _name(views),
                "chosen": is_chosen,
                "invariance": find_invariance(views) if is_chosen else automatic,
                "automatic": automatic,
                **measure_changes(views, images),
            }
        )
    return found


def _list_views(estimator):
    """Return the views of the clustering, and of the pretext where it has some."""
    plan = plan_stages(estimator)["clustering"]
    found = {"views": estimator.views if plan is None else plan.views}
    if hasattr(estimator.pretext_, "views"):
        found["pretext__views"] = estimator.pretext_.views
    return found


def measure_changes(views, images):
    """Say how foreign changed images are, for the changes that views make."""
    names = {views} if isinstance(views, str) else set()
    names |= set(views) if isinstance(views, tuple) else set()
    found = {"mirror": None, "gray": None, "negative": None}
    if names & _MIRRORS:
        found["mirror"] = relative_distance(images, lambda x: x.flip(-1))
    if names & _COLORS and images.shape[1] == 3:
        found["gray"] = relative_distance(images, remove_color)
    if names & _NEGATIVES:
        found["negative"] = relative_distance(images, negative)
    return found


def _name(views):
    if isinstance(views, (str, tuple)):
        return repr(views)
    return getattr(views, "__name__", type(views).__name__)
