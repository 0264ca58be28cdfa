"""How large the tiles are in which an image is enlarged, so that they fit into memory."""

from __future__ import annotations

import math
import os

import torch

UNKNOWN = 16_000  # bytes a pixel of a network that says nothing of itself
SHARE = 0.5  # of the free memory: kernels need some that nothing counts
BUDGET = 256 * 2**20  # bytes that a tile holds on a CPU; more would save little overlap
CACHED = 48 * 2**20  # bytes that a tile holds where small tiles cost nothing: they stay in the processor's cache
USEFUL = 256  # pixels; smaller tiles read more overlap than they produce
SMALLEST = 32


def fitting_tile(
    height: int, width: int, *, bytes_per_pixel: int, free: int, overlap: int, batch: int, budget: int | None
) -> int:
    """Return the side of the tiles that fit into memory; 0 where the whole image does.

    Args:
        height: Of the low-resolution image.
        width: Likewise.
        bytes_per_pixel: What the network holds for one of its pixels; 0 if it is not known.
        free: Bytes of memory.
        overlap: What a tile reads around it.
        batch: Tiles at a time.
        budget: Bytes that a tile should hold at most, unless it were smaller than `USEFUL`; None for no such limit.
    """
    held = bytes_per_pixel or UNKNOWN
    pixels = SHARE * free / held
    if budget is not None:
        pixels = min(pixels, max(budget / held, batch * (USEFUL + 2 * overlap) ** 2))
    if height * width <= pixels:
        return 0
    return max(SMALLEST, math.isqrt(int(pixels / batch)) - 2 * overlap)


def free_memory(device: torch.device) -> int:
    """Return the bytes that are free: of the GPU, or of the machine, within what its container may use."""
    if device.type == 'cuda':
        return torch.cuda.mem_get_info(device)[0]
    free = 4 * 2**30  # where nothing tells
    if os.path.isfile('/proc/meminfo'):
        with open('/proc/meminfo', encoding='utf-8') as file:
            free = next((1024 * int(line.split()[1]) for line in file if line.startswith('MemAvailable')), free)
    limit, used = (_read_number(f'/sys/fs/cgroup/memory.{name}') for name in ('max', 'current'))
    return free if limit is None or used is None else max(0, min(free, limit - used))


def _read_number(path: str) -> int | None:
    try:
        with open(path, encoding='utf-8') as file:
            return int(file.read())
    except (OSError, ValueError):  # no such limit, or 'max'
        return None
