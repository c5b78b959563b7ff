# SPDX-License-Identifier: BSD-3-Clause
"""What devices differ in: memory, instructions, and which copies need not wait."""

import math
import os
from pathlib import Path

import torch


def has_own_memory(device):
    """Say whether a device computes beside the CPU, in memory of its own."""
    return device.type == "cuda"


def send(tensor, device):
    """Copy a tensor of the CPU to a device, without waiting where that is safe.

    A GPU of CUDA copies pageable memory aside before the call returns. Others, such as
    "mps", may still read the memory when it has been given to someone else.
    """
    return tensor.to(device, non_blocking=device.type == "cuda")


def has_tiles():
    """Say whether this CPU multiplies matrices of bfloat16 in tiles (AMX)."""
    return _has_instructions("amx_bf16")


def has_bfloat16():
    """Say whether this CPU computes in bfloat16, which others emulate."""
    return _has_instructions("avx512_bf16") or has_tiles()


def _has_instructions(name):
    find = getattr(torch.cpu, "get_capabilities", dict)  # since torch 2.12
    return bool(find().get(name))


def available_memory(device):
    """Return the bytes of memory that are free on a device; infinity if unknown."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # Torch holds back what was freed, for itself.
        reserved = torch.cuda.memory_reserved(device)
        return free + reserved - torch.cuda.memory_allocated(device)
    return min(_free_on_machine(), _free_in_container())


def _free_on_machine():
    """Return what the system could give without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        fields = dict(line.split(":") for line in lines)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return math.inf


def _free_in_container(root="/sys/fs/cgroup"):
    """Return what the control group of a container leaves, of either version."""
    folders = {
        "memory.max": ("", "memory.current"),
        "memory.limit_in_bytes": ("memory", "memory.usage_in_bytes"),
    }
    for limit, (folder, usage) in folders.items():
        folder = Path(root) / folder
        try:
            most = int((folder / limit).read_text())
            used = int((folder / usage).read_text())
            statistics = (folder / "memory.stat").read_text().splitlines()
            fields = dict(line.split() for line in statistics)
            # Files that were read are counted, and are let go when there is need.
            cached = int(fields["inactive_file"]) + int(fields["active_file"])
        except (OSError, KeyError, ValueError):  # none, or "max", which is no limit
            continue
        return max(0, most - used + cached)
    return math.inf
