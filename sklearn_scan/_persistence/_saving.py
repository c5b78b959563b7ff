# SPDX-License-Identifier: BSD-3-Clause
"""`save` and `load`."""

import os
from importlib import metadata
from typing import Any

from sklearn.base import BaseEstimator

from sklearn_scan._engine import Runtime
from sklearn_scan._persistence._estimators import (
    EstimatorDecoder,
    EstimatorEncoder,
    warn_of_versions,
)
from sklearn_scan._persistence._file import (
    Blocks,
    RefusedFileError,
    read_file,
    read_release,
    write_file,
)
from sklearn_scan._persistence._names import Names
from sklearn_scan._typing import Device, PathLike
from sklearn_scan._version import __version__

# What answers depend on, by the names under which they are imported and installed.
_LIBRARIES = {
    "sklearn": "scikit-learn",
    "torch": "torch",
    "torchvision": "torchvision",
    "timm": "timm",
    "numpy": "numpy",
}


def save(estimator: BaseEstimator, path: PathLike) -> None:
    """Save an estimator as data, without pickle.

    One file in the format of safetensors holds the class, the parameters and all that
    `fit` has learned: what :func:`load` makes of it predicts the same, to the bit on a
    CPU. It holds no code. So an encoder, views or a transformer of your own are saved
    by name, and their module has to be there when the file is loaded.

    Left out is what belongs to one machine: the parameters `memory` and `checkpoint`
    are None afterwards, and `device` is what :func:`load` is told. So are callbacks,
    and of the network of a pretext task what is of use in training alone.

    Parameters
    ----------
    estimator : estimator
        A :class:`SCANClustering`, or a task of :mod:`sklearn_scan.pretext`, fitted or
        not. Its pretext may be any estimator of scikit-learn whose attributes are
        numbers, strings and arrays, such as ``PCA(50)`` or a pipeline of such.
    path : str or PathLike
        Where to write; the usual ending is ".safetensors". A file of this name is
        replaced when all is written, and stays as it is if that fails.

    Raises
    ------
    TypeError
        If something in it is no data, such as a lambda or a decision tree; the message
        says what. `joblib.dump` saves these as well, for those who trust each other.
    OSError
        If the file cannot be written.

    See Also
    --------
    load : The way back.
    export_onnx : For programs without this library.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import sklearn_scan
    >>> from sklearn.datasets import make_blobs
    >>> X, _ = make_blobs(n_samples=90, centers=3, random_state=0, cluster_std=0.5)
    >>> clusterer = sklearn_scan.SCANClustering(n_clusters=3, random_state=0).fit(X)
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "clusters.safetensors")
    ...     sklearn_scan.save(clusterer, path)
    ...     loaded = sklearn_scan.load(path)
    >>> bool((loaded.predict_proba(X) == clusterer.predict_proba(X)).all())
    True
    """
    if not isinstance(estimator, BaseEstimator):
        raise TypeError(
            f"estimator is of type {type(estimator).__name__}. Pass a SCANClustering "
            "or another estimator of sklearn_scan."
        )
    blocks = Blocks()
    try:
        node = EstimatorEncoder(blocks).encode(estimator, "")
    except RecursionError as error:
        raise TypeError(
            "The estimator cannot be saved: something in it holds itself."
        ) from error
    description = {"versions": _find_versions(), "estimator": node}
    write_file(os.fspath(path), description, blocks)


def load(path: PathLike, *, trusted: Any = (), device: Device = "auto") -> Any:
    """Load an estimator that :func:`save` has written.

    Nothing in the file is run. The file may come from anybody: what is damaged, or not
    what `save` writes, is refused.

    Parameters
    ----------
    path : str or PathLike
        The file.
    trusted : list of str, class or callable, default=()
        What is not of this library or of scikit-learn, and may be imported and called:
        your own encoders, views, optimizers and transformers, themselves or as
        ``"module:name"``. Where something is missing, the error lists all names. Look
        at what they stand for before you pass them.
    device : str or torch.device, default="auto"
        Where the estimator computes. "auto" takes a CUDA GPU where there is one.

    Returns
    -------
    estimator : estimator
        Predicts what the saved one predicted.

    Raises
    ------
    ValueError
        If the file was damaged, is of a newer format, asks for what is not trusted, or
        was not written by `save`. The message says which.
    OSError
        If the file cannot be read, or the configuration of an encoder of the Hugging
        Face hub is not on this machine.
    ImportError
        If the encoder is one of timm, and timm is not installed.

    See Also
    --------
    save : Writes the file, and has an example.
    """
    names, description = Names(trusted), None
    Runtime.resolve(device, "float32")  # raises where there is no such device
    try:
        description, blocks = read_file(path)
        _refuse_untrusted(names.list_untrusted(description))
        decoder = EstimatorDecoder(blocks, names, device)
        estimator = decoder.decode(description["estimator"])
        if not isinstance(estimator, BaseEstimator):
            raise RefusedFileError("it holds no estimator")
        if not isinstance(description["versions"], dict):
            raise RefusedFileError("it does not say by which versions it was written")
    except (OSError, ImportError, Warning):
        raise
    except RefusedFileError as error:
        raise RefusedFileError(f"{os.fspath(path)!r} is refused: {error}.") from error
    # Whatever a description that makes no sense runs into.
    except (Exception, RecursionError) as error:
        raise RefusedFileError(
            f"{os.fspath(path)!r} is refused: its description does not fit together "
            f"({type(error).__name__}: {error}).{_compare_release(description)}"
        ) from error
    warn_of_versions(description)
    return estimator


def _compare_release(description):
    """Say by which release a file was written, if it was another than this."""
    versions = description.get("versions") if isinstance(description, dict) else None
    found = versions.get("sklearn_scan") if isinstance(versions, dict) else None
    if found == __version__:
        return ""
    writer = read_release(found)
    return f" It was written by sklearn_scan {writer}; this is {__version__}."


def _refuse_untrusted(untrusted):
    if untrusted:
        raise RefusedFileError(
            f"it asks for {', '.join(map(repr, untrusted))}, which is no estimator of "
            "sklearn_scan or of scikit-learn, and is imported and called when it is "
            f"loaded. If you trust it, pass trusted={untrusted!r}"
        )


def _find_versions():
    versions = {"sklearn_scan": __version__}
    for name, distribution in _LIBRARIES.items():
        try:
            versions[name] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return versions
