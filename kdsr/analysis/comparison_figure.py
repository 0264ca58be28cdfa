"""Crop comparisons as the papers print them: where in the photo, and what each method makes of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import matplotlib as mpl
import numpy as np

mpl.use('Agg')
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle


@dataclass(frozen=True)
class Row:
    """One photo of a comparison.

    Attributes:
        title: Name of the photo.
        gt: (H, W, 3), uint8, BGR.
        methods: Name to image, all of the size of `gt`, in the order in which they are shown.
        captions: Name to the line beneath its crop; the ground truth's name is 'GT'.
    """

    title: str
    gt: np.ndarray
    methods: Mapping[str, np.ndarray]
    captions: Mapping[str, str]


def most_telling_box(row: Row, size: int) -> tuple[int, int]:
    """Return (top, left) of the square of `size` pixels in which the methods differ most from each other."""
    spread = np.stack([m.astype(np.float32) for m in row.methods.values()]).std(axis=0).mean(axis=2)
    means = cv2.boxFilter(spread, -1, (size, size), anchor=(0, 0))
    h, w = spread.shape
    valid = means[: max(1, h - size + 1), : max(1, w - size + 1)]
    top, left = np.unravel_index(int(valid.argmax()), valid.shape)
    return int(top), int(left)


def crop_comparison(rows: list[Row], path: str, size: int = 96) -> None:
    """Draw one line per photo: the photo with a box, then the box in the ground truth and in every method.

    Args:
        rows: The photos; all with the same methods.
        path: PNG file to write; its folder is created.
        size: Side of the box in pixels; it is put where the methods differ most.
    """
    columns = 2 + len(rows[0].methods)
    figure, axes = plt.subplots(
        len(rows), columns, figsize=(2.5 * columns, 2.95 * len(rows)), squeeze=False, layout='constrained'
    )
    for line, row in zip(axes, rows):
        top, left = most_telling_box(row, size)
        _show(line[0], row.gt, row.title, 'right: PSNR / SSIM of the whole photo')
        line[0].add_patch(Rectangle((left, top), size, size, fill=False, edgecolor='red', linewidth=1.5))
        for axis, (name, image) in zip(line[1:], {'GT': row.gt, **row.methods}.items()):
            _show(axis, image[top : top + size, left : left + size], name, row.captions.get(name, ''))
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _show(axis: plt.Axes, image: np.ndarray, title: str, caption: str) -> None:
    axis.imshow(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), interpolation='nearest')
    axis.set_title(title, fontsize=10)
    axis.set_xlabel(caption, fontsize=9)
    axis.set_xticks([])
    axis.set_yticks([])
