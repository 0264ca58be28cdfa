"""Pairs of which EXIF turns one image only: do both show the scene the same way up?"""

from __future__ import annotations

import os
from collections.abc import Mapping

import cv2
import numpy as np

from kdsr.compat.dataset_files import decode_bgr, read_file
from kdsr.image_files.orientation import turn_upright

_PROBES = 16  # pairs that are decoded; where all of them agree, the others do too


def find_turned_pairs(gt_folder: str, lq_folder: str, names: Mapping[str, str]) -> list[str]:
    """Return the pairs whose images, upright, show the scene in different orientations.

    A GT image with an EXIF orientation and an LR image that was stored upright belong together; pixels tell them from
    an LR image that was made without regard to the orientation.

    Args:
        gt_folder: Of GT images.
        lq_folder: Of LR images.
        names: GT name to LR name, of pairs with different orientations in EXIF.

    Returns:
        GT names; unreadable pairs are left out.
    """
    chosen = list(names)[:: max(1, len(names) // _PROBES)]
    paths = {name: (os.path.join(gt_folder, name), os.path.join(lq_folder, lq)) for name, lq in names.items()}
    if not any(_are_turned_apart(*paths[name]) for name in chosen):
        return []
    return [name for name in names if _are_turned_apart(*paths[name])]


def _are_turned_apart(gt_path: str, lq_path: str) -> bool:
    try:
        gt, lq = (decode_bgr(read_file(path)) for path in (gt_path, lq_path))
    except (OSError, cv2.error):
        return False
    if gt is None or lq is None:
        return False
    distances = {}
    for orientation in range(1, 9):
        turned = turn_upright(gt, orientation)
        if _aspect_fits(turned.shape, lq.shape):
            small = cv2.resize(turned, (lq.shape[1], lq.shape[0]), interpolation=cv2.INTER_AREA)
            distances[orientation] = float(np.abs(small.astype(np.int16) - lq).mean())
    return bool(distances) and min(distances, key=distances.__getitem__) != 1


def _aspect_fits(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Say whether two sizes are of one aspect, within a pixel of rounding."""
    return abs(shape[0] * other[1] - shape[1] * other[0]) <= max(shape[0], shape[1])
