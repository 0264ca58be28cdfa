"""Does an exported file give what the network gives? On images of several sizes, to the last bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kdsr.errors import UserError

TOLERANCE = 1e-4  # of a range of 1: a fortieth of a step of 8 bits
SIZES = ((1, 23, 26), (1, 32, 32), (1, 64, 48), (3, 17, 40), (1, 81, 95))  # (N, h, w): odd, square, windows and not


@dataclass(frozen=True)
class Difference:
    """How far an exported network is from its original on one image.

    Attributes:
        what: The image, and its size.
        largest: Of all absolute differences, images in [0, 1].
    """

    what: str
    largest: float


def random_images(channels: int, size: tuple[int, int] | None) -> list[tuple[str, Tensor]]:
    """Return noise (N, C, h, w) in several sizes and batches, or in the only size that the file takes."""
    generator = torch.Generator().manual_seed(1)
    shapes = SIZES if size is None else ((1, *size),)
    return [
        (f'noise {n}x{h}x{w}', torch.rand((n, channels, h, w), generator=generator, dtype=torch.float32))
        for n, h, w in shapes
    ]


def verify(
    file: str,
    exported: Callable[[Tensor], Tensor],
    original: Callable[[Tensor], Tensor],
    images: Sequence[tuple[str, Tensor]],
    tolerance: float = TOLERANCE,
) -> list[Difference]:
    """Compare an exported network with its original.

    Args:
        file: For messages.
        exported: Maps (N, C, h, w) to (N, C, S*h, S*w).
        original: Likewise.
        images: Name and image.
        tolerance: The largest absolute difference that is accepted.

    Raises:
        UserError: the exported network refuses an image, or its answer has another size or differs by more.
    """
    found = []
    for what, image in images:
        with torch.no_grad():
            expected = original(image)
            try:
                given = exported(image)
            except Exception as error:  # a runtime's own errors, all of which mean the same here
                first = str(error).strip().split('\n')[0]
                raise UserError(
                    f'{file}: the exported network fails on {what}, where PyTorch does not ({first}). '
                    'Export it for the one size that you need: --size HEIGHT WIDTH.'
                ) from error
        if given.shape != expected.shape:
            raise UserError(f'{file}: on {what} it gives {tuple(given.shape)}, PyTorch {tuple(expected.shape)}.')
        largest = float((given - expected).abs().max())
        if not largest <= tolerance or math.isnan(largest):
            raise UserError(
                f'{file}: on {what} it differs from PyTorch by {largest:.1e}, more than {tolerance:.0e}. The file was '
                'not written. Export for the one size that you need: --size HEIGHT WIDTH.'
            )
        found.append(Difference(what, largest))
    return found
