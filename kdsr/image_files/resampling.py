"""Resize a stream of rows to any size, without the whole image in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from PIL import Image

from kdsr.image_files.formats import PixelLayout
from kdsr.image_files.rows import RowBlocks

_LOBES = 3  # of Lanczos' kernel
_BLOCK = 64  # rows of the result at a time


def resample_rows(rows: RowBlocks, layout: PixelLayout, height: int, width: int) -> Iterator[np.ndarray]:
    """Resize an image with Pillow's antialiased Lanczos filter.

    Args:
        rows: Blocks (rows, W, C), uint8 or uint16.
        layout: Of the image before.
        height: Of the result.
        width: Of the result.

    Yields:
        (rows, width, C) of the same type; together `height` rows.
    """
    ratio = layout.height / height
    support = math.ceil(_LOBES * max(ratio, 1.0)) + 1
    source = iter(rows)
    held, first = np.empty((0, layout.width, layout.channels)), 0
    for start in range(0, height, _BLOCK):
        end = min(start + _BLOCK, height)
        low = max(0, math.floor(start * ratio) - support)
        high = min(layout.height, math.ceil(end * ratio) + support)
        held, first = held[max(0, low - first) :], max(first, low)
        blocks = [held] if len(held) else []
        count = len(held)
        while first + count < high:
            block = next(source).reshape(-1, layout.width, layout.channels)
            blocks.append(block)
            count += len(block)
        held = np.concatenate(blocks)
        box = (0, start * ratio - first, layout.width, end * ratio - first)
        yield _resize(held[: high - first], box, end - start, width)


def _resize(pixels: np.ndarray, box: tuple[float, float, float, float], height: int, width: int) -> np.ndarray:
    """Resize each channel alone: Pillow would multiply alpha into the colours, and has no 16-bit colours."""
    deep = pixels.dtype == np.uint16
    planes = []
    for channel in range(pixels.shape[2]):
        plane = np.ascontiguousarray(pixels[..., channel])
        image = Image.fromarray(plane.astype(np.float32) if deep else plane)
        resized = np.asarray(image.resize((width, height), Image.Resampling.LANCZOS, box=box))
        planes.append(np.clip(np.rint(resized), 0, 65535).astype(np.uint16) if deep else resized)
    return np.stack(planes, axis=2)
