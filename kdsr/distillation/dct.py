"""The discrete cosine transform as a matrix product: exact, differentiable, and faster here than by FFT."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from kdsr.errors import check_choice

DCT_NORMS = ('ortho', 'none')


def dct_matrix(size: int, norm: str = 'ortho') -> Tensor:
    """Return the DCT-II of `size` samples as a matrix (size, size) in double precision; row k is frequency k.

    'none' is ``2 * sum_n x[n] cos(pi k (2n + 1) / (2 size))``, the FFT libraries' unnormalised form; 'ortho' is that
    with rows scaled to length 1, so that the transpose is the inverse.

    Raises:
        ValueError: unknown `norm`.
    """
    check_choice('norm', norm, DCT_NORMS)
    position = torch.arange(size, dtype=torch.float64)
    matrix = 2 * torch.cos(math.pi / (2 * size) * position[:, None] * (2 * position + 1))
    if norm == 'ortho':
        matrix *= 1 / math.sqrt(2 * size)
        matrix[0] *= math.sqrt(0.5)
    return matrix


@functools.lru_cache(maxsize=16)
def _cached_matrix(size: int, norm: str, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # a matrix first used in a validation must still serve the training
        return dct_matrix(size, norm).to(device, dtype)


def dct2(images: Tensor, norm: str = 'ortho') -> Tensor:
    """Return the two-dimensional DCT-II of every channel.

    Args:
        images: (..., H, W), single or double precision.
        norm: 'ortho', or 'none' for a factor of 2 per axis.

    Returns:
        (..., H, W); entry (0, 0) belongs to the mean.
    """
    rows = _cached_matrix(images.shape[-2], norm, images.dtype, images.device)
    columns = _cached_matrix(images.shape[-1], norm, images.dtype, images.device)
    with torch.autocast(images.device.type, enabled=False):
        return rows @ (images @ columns.T)
