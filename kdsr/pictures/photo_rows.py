"""Photos of a crop comparison: the images of each method, and the box in which they differ most."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

BICUBIC = 'bicubic'


@dataclass(frozen=True)
class Box:
    """A rectangle in a photo, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, image: np.ndarray) -> np.ndarray:
        """Crop an image."""
        return image[self.top : self.top + self.height, self.left : self.left + self.width]


@dataclass(frozen=True)
class Row:
    """One photo of a comparison.

    Attributes:
        title: Name of the photo.
        gt: (H, W, 3), uint8, BGR.
        methods: Name to image, all of the size of `gt`, in the order of the columns.
        captions: Name to the text beneath its crop; when empty, PSNR and SSIM of the crop.
        box: The crop; None for the place where the methods differ most.
        references: Methods that are drawn but not compared: bicubic, teachers.
    """

    title: str
    gt: np.ndarray
    methods: Mapping[str, np.ndarray]
    captions: Mapping[str, str] = field(default_factory=dict)
    box: Box | None = None
    references: frozenset[str] = frozenset({BICUBIC})

    def compared(self) -> list[str]:
        """Return the names of the methods without references, or all names where there are only references."""
        return [name for name in self.methods if name not in self.references] or list(self.methods)


def find_box(row: Row, size: int) -> tuple[int, int]:
    """Return (top, left) of the square of `size` pixels in which the methods differ most."""
    top, left, _ = _find_differences(row, size)
    return top, left


def _find_differences(row: Row, size: int) -> tuple[int, int, float]:
    """Return top, left and the mean spread of the methods there; a single method is compared with the ground truth."""
    images = [row.methods[name] for name in row.compared()]
    images += [row.gt] if len(images) == 1 else []
    spread = np.stack([image.astype(np.float32) for image in images]).std(axis=0).mean(axis=2)
    means = cv2.boxFilter(spread, -1, (size, size), anchor=(0, 0))
    h, w = spread.shape
    valid = means[: max(1, h - size + 1), : max(1, w - size + 1)]
    top, left = np.unravel_index(int(valid.argmax()), valid.shape)
    return int(top), int(left), float(valid.max())


def choose_rows_by_difference(rows: Iterable[Row], count: int, size: int) -> list[Row]:
    """Return the `count` photos with the largest differences between methods, with their boxes, largest first.

    Args:
        rows: Photos; they are read one at a time, and only `count` are kept in memory.
        count: How many to keep.
        size: Side of the boxes; smaller in smaller photos.
    """
    kept: list[tuple[float, int, Row]] = []
    for number, row in enumerate(rows):
        side = min(size, *row.gt.shape[:2])
        top, left, spread = _find_differences(row, side)
        entry = (spread, -number, replace(row, box=Box(top, left, side, side)))
        (heapq.heappushpop if len(kept) >= count else heapq.heappush)(kept, entry)
    return [row for _, _, row in sorted(kept, key=lambda entry: entry[:2], reverse=True)]


def choose_box(row: Row, size: int) -> Row:
    """Return a row with a box: its own, or the square of `size` pixels in which the methods differ most."""
    if row.box is not None:
        return row
    side = min(size, *row.gt.shape[:2])
    return replace(row, box=Box(*find_box(row, side), side, side))
