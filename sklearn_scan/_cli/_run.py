# SPDX-License-Identifier: BSD-3-Clause
"""What `sklearn-scan cluster` does: fit, write, and know what was done before."""

import hashlib
import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version

from sklearn_scan._cli._errors import Interrupted
from sklearn_scan._cli._folder import FINISHED, MODEL, PAGE, RUNNING
from sklearn_scan._cli._labels import Labels, name_files, warn_undecodable, write_labels
from sklearn_scan._cli._model import save_model
from sklearn_scan._cli._streams import Result
from sklearn_scan._version import __version__

_FROM_SCRATCH = (
    "A network is trained on these pictures alone; for photographs, a pretrained one "
    "finds better groups: --encoder dinov2."
)

# Decide, with the settings, what the labels are.
_LIBRARIES = ("scikit-learn", "torch", "torchvision", "timm")


class Run:
    """One call of `cluster`.

    Parameters
    ----------
    folder : Path
        Of the pictures.
    out : RunFolder
        Of the results.
    settings : Settings
    names : list of str
        Files to be written, in this order; the table of labels first.
    streams : Streams
    """

    def __init__(self, folder, out, settings, names, streams):
        from sklearn_scan._inputs import list_images

        self.folder = folder.absolute()
        self.out = out
        self.settings = settings
        self.names = names
        self.streams = streams
        self.paths = list_images(self.folder)
        # Where all of this is as before, so are the results.
        self.request = {
            "folder": str(self.folder),
            "pictures": describe_pictures(self.paths, self.folder),
            "settings": settings.describe(),
            "versions": find_versions(),
        }

    def go(self, overwrite):
        """Cluster, or say that this was done; return the `Result`."""
        earlier = self.out.read_summary()
        if not overwrite:
            self.out.claim(self.names)
        is_same = self.request.items() <= earlier.items()
        is_finished = is_same and earlier["status"] == FINISHED
        if is_finished and self.out.has(self.names):
            self.streams.say(
                "Nothing to do: an earlier run has finished with these pictures and "
                "settings."
            )
            return self._result(earlier, is_reused=True)
        if is_same and not is_finished:
            self.streams.say("Going on with the run that did not finish.")
        return self._compute(earlier, is_finished)

    def _compute(self, earlier, is_finished):
        listed = earlier.get("files", [])
        self._begin(earlier if is_finished else self.request, listed)
        try:
            found = self._cluster()
        except KeyboardInterrupt as error:
            raise Interrupted(
                f"Interrupted. What was computed is kept in {self.out.cache}; the same "
                "command goes on from there."
            ) from error
        # What was written with other settings is of other clusters.
        files = _unite(self.names, listed if is_finished else [])
        self.out.discard(set(listed) - set(files))
        record = self.request | found | {"status": FINISHED, "files": files}
        return self._result(self.out.write_summary(record), is_reused=False)

    def _begin(self, record, listed):
        """Say in the folder whose it is, before anything is written."""
        self.out.path.mkdir(parents=True, exist_ok=True)
        files = _unite(self.names, listed)
        self.out.write_summary({"status": RUNNING} | record | {"files": files})

    def _cluster(self):
        """Fit, and write the results; return what the summary says of them."""
        begin = time.perf_counter()
        warn_undecodable(self.paths, self.folder, self.streams)
        if self.settings.trains:
            self.streams.say(_FROM_SCRATCH)
        clusterer = self._fit()
        fitted = time.perf_counter()
        self._write(clusterer)
        end = time.perf_counter()
        return describe_clusters(clusterer, self.folder) | {
            "seconds": {"fit": fitted - begin, "results": end - fitted},
            "warnings": self.streams.warnings,
        }

    def _fit(self):
        from sklearn_scan._settings import config_context

        clusterer = self.settings.make_clusterer(
            self.out.cache, self.out.checkpoint, self.streams.verbosity
        )
        # None in memory: a run that goes on finds decoded images in the cache.
        with config_context(in_memory_bytes=0):
            # The folder: links that leave it are not followed.
            clusterer.fit(self.folder)
        self.out.forget_checkpoint()
        return clusterer

    def _write(self, clusterer):
        from sklearn_scan.inspection import write_gallery

        probabilities = clusterer._predict_proba_fitted(self.folder)
        names = name_files(clusterer.paths_, self.folder)
        labels = Labels.rank(names, probabilities, clusterer.labels_)
        write_labels(labels, self.out.path / self.names[0])
        if PAGE in self.names:
            self.streams.say(f"Writing {PAGE} ...")
            write_gallery(clusterer, clusterer.paths_, self.out.path / PAGE)
        save_model(clusterer, self.out.path / MODEL)

    def _result(self, summary, *, is_reused):
        sizes = [each["size"] for each in summary["clusters"]]
        lines = [
            f"{sum(sizes):,} pictures in {len(sizes)} clusters, of {min(sizes):,} to "
            f"{max(sizes):,}; mean confidence {summary['confidence']:.2f}",
            *(os.path.join(self.out.path, name) for name in self.names),
        ]
        out = str(self.out.path.absolute())
        record = summary | {"out": out, "reused": is_reused}
        return Result(record, "\n".join(lines))


def _unite(*lists):
    """Return what is in any of the lists, each once."""
    return list(dict.fromkeys(name for names in lists for name in names))


def describe_pictures(paths, folder):
    """Return by what it is seen that a folder has not changed."""
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        digest.update(os.fsencode(os.path.relpath(path, folder)) + b"\0")
        if os.path.exists(path):  # what is a broken link, the fit will say
            status = os.stat(path)
            digest.update(f"{status.st_size} {status.st_mtime_ns}\0".encode())
    return {"count": len(paths), "digest": digest.hexdigest()}


def find_versions():
    """Return the versions of what computes labels, without importing it."""
    versions = {"sklearn_scan": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def describe_clusters(clusterer, folder):
    """Return the sizes of clusters, their confidence and their prototypes."""
    labels, confidence = clusterer.labels_, clusterer.confidence_
    names = name_files(clusterer.paths_, folder)
    clusters = []
    for number, prototype in enumerate(clusterer.prototypes_):
        is_member = labels == number
        size = int(is_member.sum())
        mean = float(confidence[is_member].mean()) if size else None
        shown = names[prototype] if prototype >= 0 else None
        clusters.append(
            {"cluster": number, "size": size, "confidence": mean, "prototype": shown}
        )
    return {
        "confidence": float(confidence[labels >= 0].mean()),
        "clusters": clusters,
        "skipped": len(clusterer.skipped_),
    }
