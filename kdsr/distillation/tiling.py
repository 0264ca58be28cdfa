"""Run networks on whole images: in tiles where they are large, and as the mean over the eight orientations."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, product
from typing import NamedTuple

import torch
from torch import Tensor

from kdsr.distillation.outputs import Batch

Answer = Callable[[Batch], Tensor]


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
        overlap: In low-resolution pixels, at most half of `tile`.
        multiple: Window of the networks.

    Returns:
        (N, C', S*h, S*w).
    """
    rows, columns = (tile_spans(side, tile, overlap, multiple) for side in batch.lq.shape[-2:])
    if len(rows) == len(columns) == 1:
        return answer(batch)
    whole: Tensor | None = None
    for row, column in product(range(len(rows)), range(len(columns))):
        (top, bottom), (left, right) = rows[row].seen, columns[column].seen
        part = answer(_part(batch, top, bottom, left, right))
        scale = part.shape[-1] // (right - left)
        if whole is None:
            whole = part.new_zeros((*part.shape[:-2], *(scale * side for side in batch.lq.shape[-2:])))
            down, across = (
                blending_weights(spans, side, overlap, scale).to(part)
                for spans, side in zip((rows, columns), batch.lq.shape[-2:])
            )
        y, x = slice(scale * top, scale * bottom), slice(scale * left, scale * right)
        whole[..., y, x] += part * (down[row, y, None] * across[column, x])
    assert whole is not None
    return whole


class Span(NamedTuple):
    """One tile on an axis: the pixels it produces, and the pixels it reads, in low-resolution pixels."""

    part: tuple[int, int]
    seen: tuple[int, int]


def tile_spans(side: int, tile: int, overlap: int, multiple: int) -> list[Span]:
    """Cut a side into about equal parts of at most `tile` pixels, rounded to multiples."""
    count = -(-side // tile)
    cuts = sorted({0, side, *(side * k // count // multiple * multiple for k in range(1, count))})
    return [
        Span(
            (start, end),
            (max(0, start - overlap) // multiple * multiple, min(side, -(-(end + overlap) // multiple) * multiple)),
        )
        for start, end in pairwise(cuts)
    ]


def blending_weights(spans: list[Span], side: int, overlap: int, scale: int) -> Tensor:
    """Return the weight of each tile at every high-resolution pixel of an axis: (tiles, S*side), sum 1."""
    position = (torch.arange(scale * side, dtype=torch.float64) + 0.5) / scale
    ramp = max(overlap, 1e-6)
    weights = torch.stack(
        [
            torch.minimum(
                (position - start) / ramp + 0.5 if start > 0 else torch.ones_like(position),
                (end - position) / ramp + 0.5 if end < side else torch.ones_like(position),
            ).clamp(0, 1)
            for (start, end), _ in spans
        ]
    )
    return weights / weights.sum(dim=0)


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
