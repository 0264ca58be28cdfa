"""BasicSR's random crops and flips, drawn before anything is copied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from basicsr.data.transforms import augment, paired_random_crop


def random_crops(views: Mapping[str, np.ndarray], opt: Mapping[str, Any], key: str) -> dict[str, np.ndarray]:
    """Crop images at one place and turn them alike, drawing from `random` as BasicSR's PairedImageDataset does.

    Args:
        views: (C, h, w), the first of low resolution, the others `opt['scale']` times as large; nothing but the crop
            is read.
        opt: Of the dataset: `gt_size`, `scale`, `use_hflip`, `use_rot`.
        key: Of the images, for BasicSR's messages.

    Returns:
        Copies, uint8, under the same names.
    """
    lq, *targets = (view.transpose(1, 2, 0) for view in views.values())
    targets, lq = paired_random_crop(targets, lq, opt['gt_size'], opt['scale'], key)
    crops = [lq, *targets] if isinstance(targets, list) else [lq, targets]
    _, flips = augment([], opt['use_hflip'], opt['use_rot'], return_status=True)
    return {name: copy_flipped(crop.transpose(2, 0, 1), *flips) for name, crop in zip(views, crops)}


def copy_flipped(view: np.ndarray, hflip: bool, vflip: bool, rot90: bool) -> np.ndarray:
    """Copy (C, h, w) uint8, mirrored left-right, then top-down, then transposed, as BasicSR's `augment` does."""
    channels, height, width = view.shape
    copy = np.empty((channels, width, height) if rot90 else view.shape, np.uint8)
    axis = {(True, False): 1, (False, True): 0, (True, True): -1}.get((bool(hflip), bool(vflip)))
    for plane, place in zip(view, copy):  # OpenCV is three times as fast on planes as NumPy
        if axis is not None:
            plane = cv2.flip(plane, axis, None if rot90 else place)
        if rot90:
            cv2.transpose(plane, place)
        elif axis is None:
            place[...] = plane
    return copy
