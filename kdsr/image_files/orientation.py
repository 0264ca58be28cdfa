"""EXIF's orientation of an image: how it must be turned to be upright."""

from __future__ import annotations

import numpy as np

# orientation: rows and columns exchanged, then flipped top-down, then left-right
_TURNS = {
    1: (False, False, False), 2: (False, False, True), 3: (False, True, True), 4: (False, True, False),
    5: (True, False, False), 6: (True, False, True), 7: (True, True, True), 8: (True, True, False),
}  # fmt: skip


def turn_upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an image as its EXIF orientation says.

    Args:
        image: (H, W) or (H, W, C), as it is stored.
        orientation: 1 to 8; 1 changes nothing.

    Returns:
        A view, (H, W, ...) or (W, H, ...).
    """
    transposed, down, across = _TURNS[orientation]
    turned = image.swapaxes(0, 1) if transposed else image
    return turned[:: -1 if down else 1, :: -1 if across else 1]
