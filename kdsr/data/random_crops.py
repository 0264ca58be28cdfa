"""BasicSR's random crops and flips, drawn before pixels are copied."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from basicsr.data.transforms import augment, paired_random_crop


def crop_randomly(views: Mapping[str, np.ndarray], opt: Mapping[str, Any], key: str) -> dict[str, np.ndarray]:
    """Crop images at one place and flip them alike, with the random numbers of BasicSR's PairedImageDataset.

    Args:
        views: (C, h, w). The first has low resolution; each other one has its size, or `opt['scale']` times its size.
            Only the crop is read.
        opt: Of the dataset: `gt_size`, `scale`, `use_hflip`, `use_rot`.
        key: Name of the images, for BasicSR's messages.

    Returns:
        Copies under the same names.
    """
    lq, *others = views
    small = [lq, *(n for n in others if opt['scale'] > 1 and views[n].shape[1] == views[lq].shape[1])]
    large = [n for n in others if n not in small]
    planes_last = ([views[n].transpose(1, 2, 0) for n in names] for names in (large, small))
    cropped = paired_random_crop(*planes_last, opt['gt_size'], opt['scale'], key)
    crops = dict(zip((*large, *small), itertools.chain(*(c if isinstance(c, list) else [c] for c in cropped))))
    _, flips = augment([], opt['use_hflip'], opt['use_rot'], return_status=True)
    return {name: copy_flipped(crops[name].transpose(2, 0, 1), *flips) for name in views}


def copy_flipped(view: np.ndarray, hflip: bool, vflip: bool, rot90: bool) -> np.ndarray:
    """Copy (C, h, w), mirrored left-right, then top-down, then transposed, as BasicSR's `augment` does."""
    channels, height, width = view.shape
    copy = np.empty((channels, width, height) if rot90 else view.shape, view.dtype)
    axis = {(True, False): 1, (False, True): 0, (True, True): -1}.get((bool(hflip), bool(vflip)))
    for plane, place in zip(view, copy):  # OpenCV is three times as fast on planes as NumPy
        if axis is not None:
            plane = cv2.flip(plane, axis, None if rot90 else place)
        if rot90:
            cv2.transpose(plane, place)
        elif axis is None:
            place[...] = plane
    return copy
