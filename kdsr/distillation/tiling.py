"""Run networks on whole images: in tiles where they are large, and as the mean over the eight orientations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise, product
from typing import NamedTuple

import torch
from torch import Tensor

from kdsr.distillation.outputs import Batch

Answer = Callable[[Batch], Tensor]


class Span(NamedTuple):
    """One tile on one axis: the pixels that it produces, and those that it reads, in low-resolution pixels."""

    part: tuple[int, int]
    seen: tuple[int, int]


RowOfTiles = Callable[[Span, Sequence[Span]], Sequence[Tensor]]


def run_tiled(answer: Answer, batch: Batch, tile: int, overlap: int, multiple: int = 1) -> Tensor:
    """Run on an image in tiles of about `tile` x `tile`; each tile also reads `overlap` pixels around it.

    The outer half of the overlap is dropped from the output. Across the inner half, and the same width on the other
    side of the cut, neighbouring tiles are blended linearly. The result equals that of the whole image, up to rounding,
    for networks whose receptive field reaches at most `overlap / 2` pixels. Other networks (attention over the whole
    image, deep stacks) return slightly different results per tile: there is no seam, but only a single tile is exact.
    Tiles start at multiples of the window, so that windows lie as in the whole image.

    Args:
        answer: Maps a batch to (N, C', S*h, S*w).
        batch: `lq` (N, C, h, w), any size; `gt` of S times that size, or None.
        tile: In low-resolution pixels.
        overlap: In low-resolution pixels.
        multiple: Window of the networks.

    Returns:
        (N, C', S*h, S*w).
    """
    rows, columns = (tile_spans(side, tile, overlap, multiple) for side in batch.lq.shape[-2:])
    if len(rows) == len(columns) == 1:
        return answer(batch)

    def run(row: Span, columns: Sequence[Span]) -> list[Tensor]:
        return [answer(_part(batch, *row.seen, *column.seen)) for column in columns]

    return torch.cat(list(run_in_bands(run, rows, columns, overlap)), dim=-2)


def run_in_bands(run: RowOfTiles, rows: Sequence[Span], columns: Sequence[Span], ramp: int) -> Iterator[Tensor]:
    """Run a network on one row of tiles after the other, and yield the image from top to bottom as it gets finished.

    Args:
        run: Maps a row of tiles to the output for the seen pixels of each, (..., S*h', S*w'), floating point or uint8.
        rows: Of the tiles, from top to bottom.
        columns: Of the tiles, from left to right.
        ramp: Low-resolution pixels over which neighbours are blended; 0 where they agree.

    Yields:
        (..., rows, S*w), which follow one another.
    """
    before: Tensor | None = None  # the rows of the last band that are still to be blended
    for i, row in enumerate(rows):
        band = _join(run(row, columns), columns, ramp)
        scale = band.shape[-2] // (row.seen[1] - row.seen[0])
        origin = scale * row.seen[0]
        start, end = scale * row.part[0] - origin, scale * row.part[1] - origin
        if before is not None:
            low, high, weights = _zone(rows[i - 1], row, ramp, scale)
            yield _blend(before, band[..., low - origin : high - origin, :], weights[:, None])
            start = high - origin
        before = None
        if i + 1 < len(rows):
            low, high, _ = _zone(row, rows[i + 1], ramp, scale)
            end, before = low - origin, band[..., low - origin : high - origin, :].clone()
        yield band[..., start:end, :]


def tile_spans(side: int, tile: int, overlap: int, multiple: int) -> list[Span]:
    """Cut a side into tiles that read equally many pixels, about `tile + 2 * overlap` at most.

    Every tile reads at least `overlap` pixels beyond what it produces, except at the ends of the side. Runtimes prepare
    a network for one size at a time, so that tiles of one size are faster.

    Args:
        side: In pixels.
        tile: Pixels that a tile in the middle of the side produces, at most.
        overlap: Pixels around them.
        multiple: Tiles start there. If `side` is no multiple, the last tile reads the rest too.
    """
    around = -(-2 * overlap // multiple)  # this and what follows in multiples
    count = -(-(side - around * multiple) // (max(1, tile // multiple) * multiple))
    if count <= 1:
        return [Span((0, side), (0, side))]
    step = -(-(side - around * multiple) // (count * multiple))
    length = around + step
    last = side // multiple - length  # where the last tile starts
    gaps = -(-last // step)
    starts = [last * k // max(1, gaps) * multiple for k in range(gaps + 1)]
    ends = [start + length * multiple for start in starts[:-1]] + [side]
    cuts = [0, *((start + end) // 2 for start, end in zip(starts[1:], ends)), side]
    return [Span(part, seen) for part, seen in zip(pairwise(cuts), zip(starts, ends))]


def _join(parts: Sequence[Tensor], spans: Sequence[Span], ramp: int) -> Tensor:
    """Put the outputs of a row of tiles side by side, blended where they meet."""
    if len(parts) == 1:
        return parts[0]
    scale = parts[0].shape[-1] // (spans[0].seen[1] - spans[0].seen[0])
    pieces, start = [], 0
    for i, (part, span) in enumerate(zip(parts, spans)):
        origin = scale * span.seen[0]
        if i:
            low, high, weights = _zone(spans[i - 1], span, ramp, scale)
            left = scale * spans[i - 1].seen[0]
            pieces.append(
                _blend(parts[i - 1][..., low - left : high - left], part[..., low - origin : high - origin], weights)
            )
            start = high
        end = _zone(span, spans[i + 1], ramp, scale)[0] if i + 1 < len(spans) else scale * span.part[1]
        pieces.append(part[..., start - origin : end - origin])
    return torch.cat(pieces, dim=-1)


def _zone(first: Span, second: Span, ramp: int, scale: int) -> tuple[int, int, Tensor]:
    """Return where two neighbours are blended, from and to which output pixel, and the weights of the second one."""
    cut = first.part[1]
    ramp = min(ramp, first.part[1] - first.part[0], second.part[1] - second.part[0])
    if ramp == 0:
        return scale * cut, scale * cut, torch.zeros(0)
    low, high = math.floor(scale * (cut - ramp / 2)), math.ceil(scale * (cut + ramp / 2))
    position = (torch.arange(low, high, dtype=torch.float32) + 0.5) / scale
    return low, high, ((position - cut) / ramp + 0.5).clamp(0, 1)


def _blend(first: Tensor, second: Tensor, weights: Tensor) -> Tensor:
    """Return `first` where the weight is 0, `second` where it is 1, and between them in proportion."""
    weights = weights.to(first.device)
    if first.dtype != torch.uint8:
        return torch.lerp(first, second, weights.to(first.dtype))
    return torch.lerp(first.float(), second.float(), weights).round_().to(torch.uint8)


def _part(batch: Batch, top: int, bottom: int, left: int, right: int) -> Batch:
    def cut(image: Tensor | None, scale: int) -> Tensor | None:
        return image if image is None else image[..., scale * top : scale * bottom, scale * left : scale * right]

    scale = batch.gt.shape[-1] // batch.lq.shape[-1] if batch.gt is not None else 1
    return Batch(batch.lq[..., top:bottom, left:right], cut(batch.gt, scale))


def self_ensemble(answer: Answer, batch: Batch) -> Tensor:
    """Return the mean output over the eight flips and turns of the image, each turned back (EDSR's "+").

    The mean is the same, flipped or turned, for the flipped or turned image.
    """
    total: Tensor | None = None
    for horizontal, vertical, transposed in product((False, True), repeat=3):
        turned = (_turned(image, horizontal, vertical, transposed) for image in (batch.lq, batch.gt))
        image = answer(Batch(*turned))  # type: ignore[arg-type]
        image = image.mT if transposed else image
        image = image.flip([d for d, flip in ((-1, horizontal), (-2, vertical)) if flip])
        total = image if total is None else total + image
    assert total is not None
    return total / 8


def _turned(image: Tensor | None, horizontal: bool, vertical: bool, transposed: bool) -> Tensor | None:
    if image is None:
        return None
    image = image.flip([d for d, flip in ((-1, horizontal), (-2, vertical)) if flip])
    return image.mT.contiguous() if transposed else image
