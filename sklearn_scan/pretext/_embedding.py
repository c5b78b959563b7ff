# SPDX-License-Identifier: BSD-3-Clause
"""Embed images with a network that does not change: each once, as they are decoded."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from itertools import chain

import numpy as np
import torch

from sklearn_scan._console import SILENT
from sklearn_scan._devices import send
from sklearn_scan._engine import inference, kept_memory
from sklearn_scan._inputs import (
    LazyImages,
    UnreadableImagesError,
    find_digests,
    find_missing,
)
from sklearn_scan._world import world

# Images in a batch on a GPU; and the decoded bytes, and most images, on a CPU, whose
# caches then hold what a layer leaves to the next: batches of 16 to 32 images of 224
# pixels are embedded twice as fast as those of 64 or 128.
_BATCH_SIZE = 256
_BATCH_BYTES = 2**24
# Rows that are written to disk together, so that little is lost where a process ends.
_ROWS_KEPT_TOGETHER = 2048


def embed_images(encoder, images, format, runtime, *, store=None, console=SILENT):
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
    console : Console, default=SILENT
        Told how many are embedded, and how many were in the store.

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
        parts = _embed_together(encoder, images, wanted, format, runtime)
        parts = _count(parts, len(wanted), console)
        embedding = np.concatenate([rows for _, rows in parts])
        n_embedded = len(images)
    else:
        digests = world().once(lambda: find_digests(images, store.folder))
        found, n_embedded = world().once(lambda: store.fetch(digests)), 0
        if not found.keys() >= set(digests):
            with nullcontext() if world().rank else store.held():
                # Others may have computed some while we waited.
                found = world().once(lambda: store.fetch(digests))
                wanted = find_missing(digests, found)
                if len(wanted) < len(images):
                    console.say_cached(len(images) - len(wanted), len(images))
                parts = _embed_together(encoder, images, wanted, format, runtime)
                parts = _count(parts, len(wanted), console)
                found |= _keep(parts, digests, store)
                n_embedded = len(wanted)
        else:
            console.say_cached(len(images), len(images))
        embedding = np.stack([found[digest] for digest in digests])
    record = {"images": len(images), "embedded": n_embedded}
    return embedding, record | {"seconds": time.perf_counter() - begin}


def _count(parts, n_images, console):
    """Yield parts, and say how many images there were."""
    n_done = 0
    with console.line("embedding", n_images, "image") as line:
        for indices, rows in parts:
            n_done += len(indices)
            rate = n_done / line.elapsed
            line.advance(n_done, figures=f"{rate:.1f} images/s")
            yield indices, rows


def _keep(parts, digests, store):
    """Keep features as they are computed, also where this is interrupted."""
    found, unkept = {}, {}
    try:
        for indices, rows in parts:
            unkept |= {digests[i]: row for i, row in zip(indices, rows, strict=True)}
            if len(unkept) >= _ROWS_KEPT_TOGETHER:
                _keep_rows(unkept, store)
                found, unkept = found | unkept, {}
    finally:
        _keep_rows(unkept, store)
    return found | unkept


def _keep_rows(rows, store):
    """Write rows, in one process, where there are several."""
    if not world().rank:
        store.keep(rows.keys(), rows.values())


def _embed_together(encoder, images, wanted, format, runtime):
    """Yield indices and features; each of several processes embeds a share of them."""
    size, rank = world().size, world().rank
    if size == 1:
        yield from _embed(encoder, images, wanted, format, runtime)
        return

    def embed_share():
        parts = _embed(encoder, images, share, format, runtime) if len(share) else ()
        return [rows for _, rows in parts]

    together = size * _ROWS_KEPT_TOGETHER
    for part in (wanted[k : k + together] for k in range(0, len(wanted), together)):
        share = np.array_split(part, size)[rank]
        yield part, np.concatenate([*chain(*world().compute_all(embed_share))])


def _embed(encoder, images, wanted, format, runtime):
    """Yield indices and features, batch by batch."""
    if isinstance(images, LazyImages) and images.paths is not None:
        # Headers first: a bad file among many is found in seconds.
        images.check(wanted)
    device, size = runtime.device, _BATCH_SIZE
    cuda = device.type == "cuda"
    if not cuda:
        n_bytes = 4 * int(np.prod(images.shape[1:]))
        size = max(1, min(size, _BATCH_BYTES // max(1, n_bytes)))
    parts = [wanted[k : k + size] for k in range(0, len(wanted), size)]
    batches = _decode_ahead(images, parts, wanted, pinned=cuda)
    before = None
    with kept_memory(device) as memory:
        for part, raw in batches:
            with inference(device, runtime.precision):
                features = encoder(format.decode(send(raw, device)))
            # One batch late: a GPU has the next one when the transfer waits.
            if before is not None:
                yield before[0], before[1].float().cpu().numpy()
            before = part, features
            # Decoding and computing leave holes in each other's memory.
            memory.relieve()
    if before is not None:
        yield before[0], before[1].float().cpu().numpy()


def _decode_ahead(images, parts, wanted, *, pinned):
    """Yield parts and their images as tensors, of which the next is being decoded."""

    def decode(part):
        try:
            raw = np.ascontiguousarray(images[part])
        except UnreadableImagesError:
            images.check_contents(wanted)  # names all, and not those of this batch
            raise
        raw = torch.from_numpy(
            raw.astype(np.float32) if raw.dtype == np.float64 else raw
        )
        return raw.pin_memory() if pinned else raw

    with ThreadPoolExecutor(max_workers=1) as pool:
        ahead = pool.submit(decode, parts[0])
        for part, following in zip(parts, [*parts[1:], None], strict=True):
            raw = ahead.result()
            if following is not None:
                ahead = pool.submit(decode, following)
            yield part, raw
