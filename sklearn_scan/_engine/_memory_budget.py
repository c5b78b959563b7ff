# SPDX-License-Identifier: BSD-3-Clause
"""How many samples a step may take before memory runs out.

What a step keeps for its backward pass grows with the batch and with the size of the
samples: a ResNet-18 keeps 21 MiB of an image of 224 pixels. So the bytes of one sample
are measured before a stage is trained, and where the batch would take more than half of
the memory that is free, the stage takes smaller batches, and says so.

Gradients that are added up over parts of a batch would not do: the losses compare the
samples of a batch, or look at the mean over it, and batch normalisation sees the parts
alone. A smaller batch is what the user would have asked for.
"""

import copy
import math
import warnings

import torch

# Of the free memory, for activations; the rest is for their gradients, for the
# optimizer, and for whatever else is running.
_SHARE = 0.5
# No network is taken to keep more bytes of a sample than this for each of its own; so
# small samples need no measuring. (A ResNet-50 on 8 x 8 pixels keeps 12,000.)
_MOST_PER_BYTE = 20_000
# Batch normalisation needs two.
_LEAST_BATCH = 2

# What a batch of decoded samples may take where nothing is kept for a backward pass.
# The largest layers of a ResNet-50 take ten times as much.
_MOST_INFERENCE_BYTES = 2**26
_MOST_INFERENCE_SAMPLES = 512


def affordable_batch(wanted, bytes_per_sample, free):
    """Return the batch size that memory has room for.

    A power of two where it is not the wish, so that a little more or less of free
    memory makes no difference to the result, nor to which checkpoint is found again.

    Parameters
    ----------
    wanted : int
        Returned if it takes no more than half of the free memory.
    bytes_per_sample : float
        Kept for the backward pass.
    free : int
        Bytes of free memory.
    """
    if wanted * bytes_per_sample <= _SHARE * free:
        return wanted
    fitting = max(_LEAST_BATCH, int(_SHARE * free / bytes_per_sample))
    return 1 << (fitting.bit_length() - 1)


def is_surely_affordable(wanted, source, free):
    """Say whether the samples are so small that no network can need too much."""
    return wanted * decoded_bytes(source) * _MOST_PER_BYTE <= _SHARE * free


def decoded_bytes(source):
    """Return the bytes of one decoded sample of a source, in float32."""
    return 4 * math.prod(source.format.tensor_shape)


def inference_batch(source):
    """Return how many samples of a source are looked at together without gradients."""
    fitting = _MOST_INFERENCE_BYTES // decoded_bytes(source)
    return max(1, min(_MOST_INFERENCE_SAMPLES, fitting))


def make_step(module, criterion, runtime):
    """Return the forward pass of a stage as a function of a batch.

    Of a copy: neither statistics nor memories of the stage are to move.
    """
    module, criterion = copy.deepcopy((module, criterion))
    module.to(runtime.device, memory_format=torch.channels_last).train()
    criterion.to(runtime.device)

    def step(*batch):
        with runtime.autocast():
            outputs = module(*batch)
        return criterion(*outputs)

    return step


def measure_sample(step, data, runtime):
    """Return the bytes that a step keeps, for its backward pass, of one sample.

    That is the difference between batches of four and of two: weights are kept as well,
    and do not grow with the batch.

    Parameters
    ----------
    step : callable
        From a batch to anything.
    data : Samples
        What is read.
    runtime : Runtime
        Its generators are left as they were.
    """
    sizes, kept = (_LEAST_BATCH, 2 * _LEAST_BATCH), []
    with runtime.isolated(0), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for n in sizes:
                kept.append(_count_kept(step, data.read(torch.arange(n) % len(data))))
        except Exception:
            # If anything is wrong, training says so, and it says its warnings.
            return 0.0
    return max(0, kept[1] - kept[0]) / (sizes[1] - sizes[0])


def _count_kept(step, batch):
    """Count the bytes that a step keeps for its backward pass."""
    # Held, so that no later tensor takes the place in memory of an earlier.
    storages = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda packed: packed):
        step(*batch)
    return sum(storage.nbytes() for storage in storages.values())


def explain_smaller_batches(name, wanted, size, bytes_per_sample, free, source):
    """Say that a stage takes smaller batches than was asked for."""
    return (
        f"Batches of {wanted} need about {_readable(wanted * bytes_per_sample)} of "
        f"memory in {name}, for samples of shape {source.format.tensor_shape}. "
        f"{_readable(free)} are free, of which half is taken, so {name} takes batches "
        f"of {size}, and its result is that of batch_size={size}. Set batch_size="
        f"{size} for {name} to silence this warning, or make room for larger batches: "
        "by smaller images (image_shape), a smaller encoder, or more free memory."
    )


def _readable(n_bytes):
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= size:
            n_units = n_bytes / size
            return f"{n_units:.0f} {unit}" if n_units >= 10 else f"{n_units:.1f} {unit}"
    return f"{n_bytes:.0f} bytes"
