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


def add_border(image: np.ndarray, border: int, multiple: int, seamless: bool) -> np.ndarray:
    """Continue an image by `border` pixels on all sides, and right and below up to the next multiple.

    The image is mirrored, its outermost pixels twice (c b a | a b c), as LR images are made in the field; with
    `seamless` it is repeated, so that textures still fit to themselves. Without a border, what windows need is mirrored
    as SwinIR's authors do.

    Args:
        image: (H, W, C).
        border: In pixels.
        multiple: Of the sides of the result.
        seamless: The image is a texture that is laid side by side.
    """
    height, width = image.shape[:2]
    down, right = (border + -(side + 2 * border) % multiple for side in (height, width))
    if not border and not down and not right:
        return image
    if seamless:
        mode = 'wrap'
    elif border:
        mode = 'symmetric'
    else:
        mode = 'reflect' if down < height and right < width else 'edge'
    return np.pad(image, ((border, down), (border, right), (0, 0)), mode=mode)  # type: ignore[call-overload]
