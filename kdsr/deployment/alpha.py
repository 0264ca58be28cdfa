"""Transparent images: what a network sees where nothing is visible."""

from __future__ import annotations

import cv2
import numpy as np


def spread_colours(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Give every pixel under alpha 0 the colour of the nearest visible one.

    Files hold arbitrary colours there, mostly black. A network reads these pixels too, and mixes them into the visible
    edge. The result is a ring that is visible on other backgrounds.

    Args:
        colours: (H, W, C).
        alpha: (H, W), 0 where nothing is visible.

    Returns:
        (H, W, C); `colours` itself where everything or nothing is visible.
    """
    hidden = alpha == 0
    if not hidden.any() or hidden.all():
        return colours
    _, labels = cv2.distanceTransformWithLabels(
        hidden.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    visible = np.flatnonzero(~hidden)
    nearest = np.empty(int(labels.max()) + 1, np.int64)  # label to the visible pixel that has it
    nearest[labels.ravel()[visible]] = visible
    spread = colours.copy()
    spread[hidden] = colours.reshape(-1, colours.shape[2])[nearest[labels[hidden]]]
    return spread
