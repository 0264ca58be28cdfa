"""What is put around an image before the network, and cut off after it."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

BORDER = 4  # pixels; more changed no picture of Set5 and Set14 (benchmarks/results/borders_cpu.md)
_HARMLESS = 2 / 255
_SIDE = 48


def needed_border(network: nn.Module, *, luminance: bool, multiple: int, device: torch.device) -> int:
    """Return how wide the border must be that keeps a network from drawing a frame around the image: 0 or 4.

    Most networks pad with zeros, and some show it: a flat white image gets a frame that is up to 37 levels darker. A
    network that changes a flat image at its edge by more than 2 levels of 255 gets a border. The others get none:
    their own guess at what lies beyond the image is as good or better on photos.

    Args:
        network: Maps (N, C, h, w) in [0, 1] to (N, C, S*h, S*w).
        luminance: C is 1, Y of BT.601; otherwise 3.
        multiple: What the sides must be multiples of; the border is one too.
        device: Of the network.
    """
    side = -(-_SIDE // multiple) * multiple
    white = 235 / 255 if luminance else 1.0
    levels = torch.tensor([white, white / 2], device=device).view(2, 1, 1, 1)
    with torch.inference_mode():
        large = network(levels.expand(2, 1 if luminance else 3, side, side).contiguous()).clamp(0, 1).float()
    middle = large[..., large.shape[2] // 2, large.shape[3] // 2][..., None, None]
    frame = float((large - middle).abs().max())
    return -(-BORDER // multiple) * multiple if frame > _HARMLESS else 0


class BorderedImage:
    """An image that is continued on all sides, without a copy of it: the network's input, of which tiles are cut.

    The image is mirrored, its outermost pixels twice (c b a | a b c), as LR images are made in the field; with
    `seamless` it is repeated, so that textures still fit to themselves. Without a border, what windows need is mirrored
    as SwinIR's authors do.

    Args:
        image: (H, W, C).
        border: In pixels, on all sides; below and on the right it reaches to the next multiple.
        multiple: Of the sides of the result.
        seamless: The image is a texture that is laid side by side.

    Attributes:
        height: Of the continued image.
        width: Likewise.
    """

    def __init__(self, image: np.ndarray, border: int, multiple: int, seamless: bool) -> None:
        height, width = image.shape[:2]
        down, right = (border + -(side + 2 * border) % multiple for side in (height, width))
        if seamless:
            mode = 'wrap'
        elif border:
            mode = 'symmetric'
        else:
            mode = 'reflect' if down < height and right < width else 'edge'
        self._image = image
        self._rows = np.pad(np.arange(height), (border, down), mode=mode)  # type: ignore[call-overload]
        self._columns = np.pad(np.arange(width), (border, right), mode=mode)  # type: ignore[call-overload]
        self.height, self.width = len(self._rows), len(self._columns)

    def cut(self, rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
        """Return the part between two rows and two columns, (rows, columns, C); the second ones are left out."""
        across, down = self._columns[slice(*columns)], self._rows[slice(*rows)]
        part = self._image[down[0] : down[-1] + 1] if _is_run(down) else self._image[down]
        return part[:, across[0] : across[-1] + 1] if _is_run(across) else part.take(across, axis=1)


def _is_run(indices: np.ndarray) -> bool:
    """Say whether indices are those of a slice, which is no copy."""
    return bool((np.diff(indices) == 1).all())
