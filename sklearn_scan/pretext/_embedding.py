# SPDX-License-Identifier: BSD-3-Clause
"""Embed images with a network that does not change: each once, as they are decoded."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from sklearn_scan._devices import send
from sklearn_scan._engine import exact_inference, kept_memory
from sklearn_scan._inputs import LazyImages, find_digests

# Images in a batch on a GPU; and the decoded bytes, and most images, on a CPU, whose
# caches then hold what a layer leaves to the next: batches of 16 to 32 images of 224
# pixels are embedded twice as fast as those of 64 or 128.
_BATCH_SIZE = 256
_BATCH_BYTES = 2**24
# Rows that are written to disk together, so that little is lost by an interrupt.
_ROWS_KEPT_TOGETHER = 2048
_SECONDS_BETWEEN_LINES = 5


def embed_images(encoder, images, format, runtime, *, store=None, say=None):
    """Embed images, those alone that are not in a store.

    While the network computes, the next batch is decoded in other threads.

    Parameters
    ----------
    encoder : nn.Module
        In evaluation mode, on the device; from decoded samples to features.
    images : ndarray or LazyImages of shape (n_samples, ...)
        Checked samples.
    format : ImageFormat or RowFormat
        How they are decoded.
    runtime : Runtime
        Device and precision.
    store : RowStore or None, default=None
        Where features are looked for, and kept.
    say : callable or None, default=None
        Is given lines on the progress.

    Returns
    -------
    embedding : ndarray of shape (n_samples, n_features), dtype float32
    record : dict
        How many "images" there are, how many of them were "embedded" now, and how many
        "seconds" it took.
    """
    begin = time.perf_counter()
    if store is None:
        wanted = np.arange(len(images))
        parts = _embed(encoder, images, wanted, format, runtime, say)
        embedding = np.concatenate([rows for _, rows in parts])
        n_embedded = len(images)
    else:
        with store.held():
            digests = find_digests(images, store.folder)
            found, n_embedded = _complete(
                encoder, images, digests, format, runtime, store, say
            )
        embedding = np.stack([found[digest] for digest in digests])
    record = {"images": len(images), "embedded": n_embedded}
    return embedding, record | {"seconds": time.perf_counter() - begin}


def _complete(encoder, images, digests, format, runtime, store, say):
    """Return all rows by digest, after computing and keeping those that are not there.

    Images of the same content are embedded once.
    """
    found = store.fetch(digests)
    first = {digest: i for i, digest in reversed(list(enumerate(digests)))}
    wanted = np.array(sorted(i for d, i in first.items() if d not in found), dtype=int)
    if say and len(wanted) < len(images):
        n_kept = len(images) - len(wanted)
        say(f"{n_kept:,} of {len(images):,} images taken from the cache")
    unkept = {}
    for indices, rows in _embed(encoder, images, wanted, format, runtime, say):
        unkept |= {digests[i]: row for i, row in zip(indices, rows, strict=True)}
        if len(unkept) >= _ROWS_KEPT_TOGETHER or indices[-1] == wanted[-1]:
            store.keep(unkept.keys(), unkept.values())
            found |= unkept
            unkept = {}
    return found, len(wanted)


def _embed(encoder, images, wanted, format, runtime, say):
    """Yield indices and features, batch by batch."""
    progress = _Progress(len(wanted), say)
    if isinstance(images, LazyImages) and images.paths is not None:
        # Headers first: a bad file among many is found in seconds.
        images.check(wanted)
    device, size = runtime.device, _BATCH_SIZE
    cuda = device.type == "cuda"
    if not cuda:
        n_bytes = 4 * int(np.prod(images.shape[1:]))
        size = max(1, min(size, _BATCH_BYTES // max(1, n_bytes)))
    parts = [wanted[k : k + size] for k in range(0, len(wanted), size)]
    before = None
    with kept_memory(device):
        for part, raw in _decode_ahead(images, parts, pinned=cuda):
            with torch.no_grad(), exact_inference(device), runtime.autocast():
                features = encoder(format.decode(send(raw, device)))
            # One batch late, so that a GPU has the next one when the transfer waits.
            if before is not None:
                yield before[0], before[1].float().cpu().numpy()
            before = part, features
            progress.advance(len(part))
    if before is not None:
        yield before[0], before[1].float().cpu().numpy()


def _decode_ahead(images, parts, *, pinned):
    """Yield parts and their images as tensors, of which the next is being decoded."""

    def decode(part):
        raw = np.ascontiguousarray(images[part])
        raw = torch.from_numpy(
            raw.astype(np.float32) if raw.dtype == np.float64 else raw
        )
        return raw.pin_memory() if pinned else raw

    with ThreadPoolExecutor(max_workers=1) as pool:
        ahead = None
        for part in [*parts, None]:
            ready, ahead = (
                ahead,
                (None if part is None else (part, pool.submit(decode, part))),
            )
            if ready is not None:
                yield ready[0], ready[1].result()


class _Progress:
    """Says every few seconds how many images there were, and how long it will take."""

    def __init__(self, n_images, say):
        self.n_images = n_images
        self.say = say
        self.n_done = 0
        self.begin = self.last = time.perf_counter()

    def advance(self, n_images):
        self.n_done += n_images
        now = time.perf_counter()
        is_last = self.n_done == self.n_images
        if self.say is None or (
            now - self.last < _SECONDS_BETWEEN_LINES and not is_last
        ):
            return
        self.last = now
        rate = self.n_done / max(now - self.begin, 1e-9)
        left = (self.n_images - self.n_done) / rate
        self.say(
            f"pretext       {self.n_done:,}/{self.n_images:,} images  "
            f"{rate:.1f} images/s, {left:.0f} s left"
        )
