"""Images as streams of rows, so that no large image has to be in memory as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

RowBlocks = Iterable[np.ndarray]  # blocks (rows, W) or (rows, W, C), any number of rows, from top to bottom


def in_blocks(rows: RowBlocks, height: int) -> Iterator[np.ndarray]:
    """Cut a stream into blocks of `height` rows; only the last one may be lower.

    Args:
        rows: Blocks of any heights.
        height: At least 1.
    """
    waiting: list[np.ndarray] = []
    count = 0
    for block in rows:
        while count + len(block) >= height:
            needed = height - count
            yield np.concatenate([*waiting, block[:needed]]) if waiting else block[:needed]
            block, waiting, count = block[needed:], [], 0
        if len(block):
            waiting.append(block)
            count += len(block)
    if waiting:
        yield np.concatenate(waiting)


def to_8_bits(rows: RowBlocks) -> Iterator[np.ndarray]:
    """Round 16-bit rows to 8 bits; leave 8-bit rows as they are."""
    for block in rows:
        yield ((block.astype(np.uint32) + 128) // 257).astype(np.uint8) if block.dtype == np.uint16 else block
