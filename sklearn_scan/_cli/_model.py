# SPDX-License-Identifier: BSD-3-Clause
"""The clusterer that options ask for, and the file that it is kept in."""

from dataclasses import asdict, dataclass
from pathlib import Path

import click

#: Of images; "vector" is for rows.
VIEWS = ("auto", "strong", "affine", "photo", "none")


@dataclass(frozen=True)
class Settings:
    """The options that labels depend on.

    Attributes
    ----------
    n_clusters : int or "auto"
    encoder : str or None
        A name that `Pretrained` takes; None to train from scratch.
    weights : str or None
        A file.
    image_size : int or None
        Pixels of a side; None for the encoder's own.
    views : str or None
        Random views; None for "auto".
    seed : int
    device : str
    on_error : {"raise", "skip"}
        What is done where pictures cannot be read.
    """

    n_clusters: int | str
    encoder: str | None
    weights: str | None
    image_size: int | None
    views: str | None
    seed: int
    device: str
    on_error: str = "raise"

    def describe(self):
        """Return a dict that differs where labels may differ."""
        described = asdict(self)
        if self.weights is not None:
            status = Path(self.weights).stat()
            described["weights"] = {
                "path": str(Path(self.weights).absolute()),
                "size": status.st_size,
                "changed": status.st_mtime_ns,
            }
        return described

    @property
    def trains(self):
        """Whether a network is trained on the pictures."""
        return self.weights is None and not self._has_named_encoder()

    def check(self):
        """Refuse options that do not go together, before pictures are looked at."""
        from sklearn_scan._nets import ENCODERS

        if self.encoder is None and self.weights is not None:
            raise click.UsageError(
                "--weights needs --encoder, the network that they belong to."
            )
        is_known = self.encoder in ENCODERS or self._has_named_encoder()
        if self.encoder is not None and not is_known:
            raise click.BadParameter(
                f"{self.encoder!r} is no encoder. Choose dinov2, dinov2-base, clip, "
                "timm/NAME, hf-hub:ORG/NAME or torchvision/WEIGHTS; or, to be trained "
                f"on your pictures, one of {', '.join(sorted(ENCODERS))}.",
                param_hint="'--encoder'",
            )
        if self.views is not None and not self.trains:
            raise click.UsageError(
                "--views is for networks that are trained on your pictures; a "
                "pretrained encoder stays as it is, and draws none."
            )

    def make_clusterer(self, cache, checkpoint, verbose):
        """Return the clusterer, unfitted."""
        from sklearn_scan._scan import SCANClustering

        return SCANClustering(
            n_clusters=self.n_clusters,
            random_state=self.seed,
            device=self.device,
            on_error=self.on_error,
            memory=str(cache),
            verbose=verbose,
            **(self._from_scratch(checkpoint) if self.trains else self._pretrained()),
        )

    def _from_scratch(self, checkpoint):
        return {
            "checkpoint": str(checkpoint),
            "encoder": self.encoder or "auto",
            "views": self.views or "auto",
            "image_shape": self._image_shape(),
        }

    def _pretrained(self):
        from sklearn_scan.pretext import Pretrained

        # Without checkpoint: the cache keeps features as they come, and heads on them
        # take seconds, of which writing their state would be most.
        has_own_size = self._has_named_encoder()
        size = {"image_size": self.image_size} if has_own_size else {}
        shape = {} if has_own_size else {"image_shape": self._image_shape()}
        return {"pretext": Pretrained(self.encoder, self.weights, **size, **shape)}

    def _image_shape(self):
        return None if self.image_size is None else (self.image_size,) * 2 + (3,)

    def _has_named_encoder(self):
        from sklearn_scan.pretext._named import find_named

        return find_named(self.encoder) is not None


def save_model(clusterer, path):
    """Write a fitted clusterer that is used no more."""
    from sklearn_scan._persistence import save

    save(clusterer.set_params(verbose=0), path)


def load_model(path, *, device="auto", verbose=0, on_error="raise"):
    """Read a fitted clusterer. The file may come from anybody: it holds no code."""
    from sklearn_scan._persistence import load
    from sklearn_scan._scan import SCANClustering

    clusterer = load(path, device=device)
    if not isinstance(clusterer, SCANClustering):
        raise click.ClickException(
            f"{str(path)!r} holds a {type(clusterer).__name__}, and a model is needed "
            "that `sklearn-scan cluster` has written."
        )
    return clusterer.set_params(verbose=verbose, on_error=on_error)
