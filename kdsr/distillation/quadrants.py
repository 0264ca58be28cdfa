"""Test networks with global attention on images that are too large for them: a quarter at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def run_in_quadrants(network: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """Run `network` on the four quarters of an image, one after the other, and put the results together.

    The quarters do not overlap (LSFD's testing of SAN); they meet at floor(h/2), floor(w/2). A side of one pixel is
    not divided.

    Args:
        network: Maps (N, C, h, w) to (N, C', S*h, S*w), for any h and w.
        image: (N, C, h, w).

    Returns:
        (N, C', S*h, S*w).
    """
    return torch.cat(
        [torch.cat([network(quarter) for quarter in _halves(half, dim=3)], dim=3) for half in _halves(image, dim=2)],
        dim=2,
    )


def _halves(image: Tensor, dim: int) -> list[Tensor]:
    middle = image.shape[dim] // 2
    return [part for part in image.tensor_split([middle], dim) if part.shape[dim]]
