"""Photos of a crop comparison: the images of each method, and the part of the photo that tells them apart."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

BICUBIC = 'bicubic'


@dataclass(frozen=True)
class Box:
    """A part of a photo, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, image: np.ndarray) -> np.ndarray:
        """Return the part of an image."""
        return image[self.top : self.top + self.height, self.left : self.left + self.width]


@dataclass(frozen=True)
class Row:
    """One photo of a comparison.

    Attributes:
        title: Name of the photo.
        gt: (H, W, 3), uint8, BGR.
        methods: Name to image, all of the size of `gt`, in the order in which they are shown.
        captions: Name to the line beneath its crop; where empty, PSNR and SSIM of the crop.
        box: What is enlarged; None to look for where the methods differ most.
        references: Methods that are shown, but not compared: bicubic, teachers.
    """

    title: str
    gt: np.ndarray
    methods: Mapping[str, np.ndarray]
    captions: Mapping[str, str] = field(default_factory=dict)
    box: Box | None = None
    references: frozenset[str] = frozenset({BICUBIC})

    def compared(self) -> list[str]:
        """Return the names of the methods that are no references; of all where there are only those."""
        return [name for name in self.methods if name not in self.references] or list(self.methods)


def most_telling_box(row: Row, size: int) -> tuple[int, int]:
    """Return (top, left) of the square of `size` pixels in which the methods differ most from each other."""
    top, left, _ = _most_telling(row, size)
    return top, left


def _most_telling(row: Row, size: int) -> tuple[int, int, float]:
    """Return top, left and the mean spread of the methods there; of one method, its distance from the truth."""
    images = [row.methods[name] for name in row.compared()]
    images += [row.gt] if len(images) == 1 else []
    spread = np.stack([image.astype(np.float32) for image in images]).std(axis=0).mean(axis=2)
    means = cv2.boxFilter(spread, -1, (size, size), anchor=(0, 0))
    h, w = spread.shape
    valid = means[: max(1, h - size + 1), : max(1, w - size + 1)]
    top, left = np.unravel_index(int(valid.argmax()), valid.shape)
    return int(top), int(left), float(valid.max())


def most_telling_rows(rows: Iterable[Row], count: int, size: int) -> list[Row]:
    """Return the `count` photos with the squares in which the methods differ most, boxes set, the first one first.

    Args:
        rows: Photos, one at a time in memory.
        count: How many to keep.
        size: Side of the squares; smaller in smaller photos.
    """
    kept: list[tuple[float, int, Row]] = []
    for number, row in enumerate(rows):
        side = min(size, *row.gt.shape[:2])
        top, left, spread = _most_telling(row, side)
        entry = (spread, -number, replace(row, box=Box(top, left, side, side)))
        (heapq.heappushpop if len(kept) >= count else heapq.heappush)(kept, entry)
    return [row for _, _, row in sorted(kept, key=lambda entry: entry[:2], reverse=True)]


def boxed(row: Row, size: int) -> Row:
    """Return a row with a box: its own, or the most telling square of `size` pixels."""
    if row.box is not None:
        return row
    side = min(size, *row.gt.shape[:2])
    return replace(row, box=Box(*most_telling_box(row, side), side, side))
