# SPDX-License-Identifier: BSD-3-Clause
"""`predict_proba` as a graph of ONNX, which programs without Python run as well."""

import copy
from typing import Literal

import torch
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sklearn_scan._backbone import find_encoder
from sklearn_scan._disk import whole_file
from sklearn_scan._engine import Runtime
from sklearn_scan._scan import SCANClustering
from sklearn_scan._typing import PathLike

# Of the samples with which the graph is traced.
_N_EXAMPLES = 2


def export_onnx(
    estimator: SCANClustering,
    path: PathLike,
    *,
    dtype: Literal["float32", "uint8"] = "float32",
) -> None:
    """Write `predict_proba` of a fitted clusterer as a model of ONNX.

    The model has one input, "images" (or "rows"), of shape (n, ...) with any n, and one
    output, "probabilities", of shape (n, n_clusters). It reads images as
    `predict_proba` does, so that nothing need be scaled beforehand; probabilities are
    equal within 1e-4 to those in float32. Needs onnx and onnxscript:
    ``pip install "sklearn-scan[onnx]"``.

    Parameters
    ----------
    estimator : SCANClustering
        Fitted on images or rows. Its pretext is one of :mod:`sklearn_scan.pretext`, or
        none.
    path : str or PathLike
        Where to write; a file of this name is replaced.
    dtype : {"float32", "uint8"}, default="float32"
        Type of the input. Values have the range of the images that were fitted in
        either case.

    Raises
    ------
    TypeError
        If the pretext is a transformer of others, which is not a network.
    ImportError
        If onnx or onnxscript is not installed.

    See Also
    --------
    save : For programs with this library.

    Notes
    -----
    The input has the shape that the network reads. Where images were passed as rows, it
    is that of an image; where files were passed, (n, h, w, 3). A named encoder of
    :class:`~sklearn_scan.pretext.Pretrained` is given images that were resized and
    cropped as it expects them, as uint8 or as floats from 0 to 255. The model computes
    in float32: `predict_proba` differs by its rounding where it looks at images in
    bfloat16, as ``precision="auto"`` does where that is fast.

    Examples
    --------
    ::

        import onnxruntime

        sklearn_scan.export_onnx(clusterer, "clusters.onnx")
        session = onnxruntime.InferenceSession("clusters.onnx")
        (probabilities,) = session.run(None, {"images": images.astype("float32")})
    """
    if not isinstance(estimator, SCANClustering):
        raise TypeError(
            f"estimator is of type {type(estimator).__name__}; a fitted SCANClustering "
            "is needed."
        )
    if dtype not in ("float32", "uint8"):
        raise ValueError(f"dtype={dtype!r} must be 'float32' or 'uint8'.")
    check_is_fitted(estimator, "net_")
    _require_onnx()
    module = Answering(estimator).eval()
    format = estimator.input_spec_.format
    examples = torch.zeros(
        (_N_EXAMPLES, *format.sample_shape), dtype=getattr(torch, dtype)
    )
    name = "rows" if estimator.image_shape_ is None else "images"
    with Runtime.resolve("cpu", "float32").isolated(0), torch.no_grad():
        program = torch.onnx.export(
            module,
            (examples,),
            input_names=[name],
            output_names=["probabilities"],
            dynamic_shapes=({0: torch.export.Dim("n")},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # as it is where dynamo=True
    with whole_file(path) as part:
        program.save(part, external_data=False)


class Answering(nn.Module):
    """From samples as they lie in memory to the probabilities of clusters.

    Parameters
    ----------
    clusterer : SCANClustering
        Fitted. Left as it is: its networks are copied to the CPU.
    """

    def __init__(self, clusterer):
        super().__init__()
        backbone = clusterer._backbone
        self.format = clusterer.input_spec_.format
        self.embedder = nn.Identity()
        if not backbone.learns:
            self.embedder = _find_embedder(clusterer.pretext_)
        self.network = copy.deepcopy(clusterer.net_.module_).cpu().eval()
        self.temperature = float(getattr(clusterer, "temperature_", 1.0))

    def forward(self, samples):
        """Return the probabilities (n, n_clusters)."""
        features = self.embedder(self.format.decode(samples))
        logits = self.network.logits(features)[0]
        return (logits / self.temperature).softmax(dim=-1)


def _find_embedder(pretext):
    """Return the module from decoded samples to the embedding."""
    ours = find_encoder(pretext)
    if ours is not None:
        return ours.make_embedder().cpu().eval()
    if isinstance(pretext, FunctionTransformer) and pretext.func is None:
        return nn.Identity()
    raise TypeError(
        f"The pretext {pretext!r} is no network, and cannot be exported. Cluster its "
        "output as rows, and export that; skl2onnx exports transformers of "
        "scikit-learn."
    )


def _require_onnx():
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "export_onnx needs onnx and onnxscript: pip install onnx onnxscript, or "
            'install sklearn_scan with its extra, pip install "sklearn_scan[onnx]".'
        ) from error
