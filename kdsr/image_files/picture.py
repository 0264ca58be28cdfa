"""An image in memory, as it was read from a file."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from kdsr.image_files.formats import PixelLayout
from kdsr.image_files.metadata import Metadata


@dataclass(frozen=True)
class Picture:
    """An image, upright.

    Attributes:
        pixels: (H, W) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB or (H, W, 4) RGBA; uint8 or uint16. Alpha is
            unassociated: not multiplied into the colours.
        metadata: What else the file holds.
        format_name: Pillow's name of the file's format; '' if it was no file.
        warnings: What could not be read, without which the image is still right.
    """

    pixels: np.ndarray
    metadata: Metadata = field(default_factory=Metadata)
    format_name: str = ''
    warnings: tuple[str, ...] = ()

    @property
    def layout(self) -> PixelLayout:
        """Size and type."""
        return layout_of(self.pixels)


def layout_of(pixels: np.ndarray) -> PixelLayout:
    """Return the size and type of (H, W) or (H, W, C), uint8 or uint16."""
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    return PixelLayout(pixels.shape[0], pixels.shape[1], channels, pixels.dtype == np.uint16)
