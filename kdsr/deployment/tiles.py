"""Run a network over a large image in tiles, several at a time, so that any image fits into memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import product

import torch
from torch import Tensor

from kdsr.distillation.tiling import Span, blending_weights, tile_spans

SIDES = (1536, 1024, 768, 512, 384, 256, 192, 128, 96, 64)  # of tiles, where the whole image is too large
UNKNOWN = 16_000  # bytes a pixel of a network that says nothing of itself
SHARE = 0.5  # of the free memory: kernels need some that nothing counts
Progress = Callable[[float], object]


def run_in_tiles(
    answer: Callable[[Tensor], Tensor],
    lq: Tensor,
    scale: int,
    tile: int,
    overlap: int,
    multiple: int = 1,
    batch: int = 1,
    progress: Progress = lambda share: None,
) -> Tensor:
    """Answer for an image in tiles, `batch` of one shape at a time; what comes out is kept on the CPU.

    Cut and blended as in `kdsr.distillation.tiling.run_tiled`, which takes one tile at a time, of anything.

    Args:
        answer: Maps (n, C, h', w') to (n, C, S*h', S*w').
        lq: (1, C, h, w).
        scale: S.
        tile: Side of tiles in low-resolution pixels; 0 for the whole image.
        overlap: What a tile sees around it, in low-resolution pixels.
        multiple: Where tiles may start.
        batch: Tiles at a time.
        progress: Called with the share of the image that a step has done.

    Returns:
        (1, C, S*h, S*w), on the CPU.
    """
    height, width = lq.shape[-2:]
    overlap = min(overlap, tile // 2)
    rows, columns = (tile_spans(side, tile or side, overlap, multiple) for side in (height, width))
    if len(rows) == len(columns) == 1:
        whole = answer(lq).cpu()
        progress(1.0)
        return whole
    down, across = (
        blending_weights(spans, side, overlap, scale).float() for spans, side in ((rows, height), (columns, width))
    )
    whole = torch.zeros(1, lq.shape[1], scale * height, scale * width)
    for places in _alike(rows, columns, batch):
        parts = answer(torch.cat([lq[..., slice(*rows[i].seen), slice(*columns[j].seen)] for i, j in places])).cpu()
        for part, (i, j) in zip(parts, places):
            y, x = (slice(scale * span.seen[0], scale * span.seen[1]) for span in (rows[i], columns[j]))
            whole[..., y, x] += part * (down[i, y, None] * across[j, x])
        progress(len(places) / (len(rows) * len(columns)))
    return whole


def _alike(rows: list[Span], columns: list[Span], batch: int) -> Iterator[list[tuple[int, int]]]:
    """Yield the places of tiles of one shape, at most `batch` at a time."""
    shapes: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for i, j in product(range(len(rows)), range(len(columns))):
        shape = (rows[i].seen[1] - rows[i].seen[0], columns[j].seen[1] - columns[j].seen[0])
        shapes.setdefault(shape, []).append((i, j))
    for places in shapes.values():
        for start in range(0, len(places), batch):
            yield places[start : start + batch]


def fitting_tile(height: int, width: int, bytes_per_pixel: int, free: int, overlap: int, batch: int) -> int:
    """Return the side of the largest tiles that fit into memory; 0 where the whole image does.

    Args:
        height: Of the low-resolution image.
        width: Likewise.
        bytes_per_pixel: What the network holds for one of its pixels; 0 if nobody knows.
        free: Bytes.
        overlap: As for :func:`run_in_tiles`.
        batch: Likewise.
    """
    pixels = SHARE * free / (bytes_per_pixel or UNKNOWN)
    if height * width <= pixels:
        return 0
    for side in SIDES:
        if side < max(height, width) and batch * (side + 2 * overlap) ** 2 <= pixels:
            return side
    return SIDES[-1]


def smaller_tile(tile: int, height: int, width: int) -> int | None:
    """Return the next smaller tile after `tile` (0: whole) was too large; None when there is none."""
    current = tile or max(height, width)
    return next((side for side in SIDES if side < current), None)


def free_memory(device: torch.device) -> int:
    """Return the bytes that are free: of the GPU, or of the machine, within what its container may use."""
    if device.type == 'cuda':
        return torch.cuda.mem_get_info(device)[0]
    free = 4 * 2**30  # where nothing tells
    if os.path.isfile('/proc/meminfo'):
        with open('/proc/meminfo', encoding='utf-8') as file:
            free = next((1024 * int(line.split()[1]) for line in file if line.startswith('MemAvailable')), free)
    limit, used = (_number(f'/sys/fs/cgroup/memory.{name}') for name in ('max', 'current'))
    return free if limit is None or used is None else max(0, min(free, limit - used))


def _number(path: str) -> int | None:
    try:
        with open(path, encoding='utf-8') as file:
            return int(file.read())
    except (OSError, ValueError):  # no such limit, or 'max'
        return None
