"""Bicubic resizing of tensors with MATLAB's kernel: the parts that networks and views share."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from kdsr.distillation.precision import at_least_float32


def keys_cubic(distance: Tensor) -> Tensor:
    """Return Keys' cubic convolution kernel with a = -1/2 at a distance in samples."""
    d = distance.abs()
    near = 1.5 * d**3 - 2.5 * d**2 + 1
    far = -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    return torch.where(d < 1, near, torch.where(d < 2, far, torch.zeros_like(d)))


def downscaling_matrix(size: int, scale: int) -> Tensor:
    """Return MATLAB's antialiased bicubic downscaling of `size` samples as a matrix (size / scale, size), float64.

    The kernel is stretched by `scale` and every row sums to 1; beyond the border the samples are mirrored
    (b a | a b). `size` is a multiple of `scale`.
    """
    centre = scale * (torch.arange(size // scale, dtype=torch.float64) + 0.5) - 0.5
    position = torch.arange(-2 * scale, size + 2 * scale)
    weights = keys_cubic((centre[:, None] - position) / scale)
    weights /= weights.sum(1, keepdim=True)
    source = position % (2 * size)
    source = torch.where(source < size, source, 2 * size - 1 - source)
    return torch.zeros(size // scale, size, dtype=torch.float64).index_add_(1, source, weights)


@functools.lru_cache(maxsize=16)
def _cached_matrix(size: int, scale: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # a matrix first used in a validation must still serve the training
        return downscaling_matrix(size, scale).to(device, dtype)


def bicubic_downscale(images: Tensor, scale: int) -> Tensor:
    """Downscale as MATLAB's ``imresize(image, 1/scale, 'bicubic')`` does, without its rounding to 8 bits.

    Args:
        images: (..., H, W), any range; H and W are multiples of `scale`.
        scale: Integer from 1.

    Returns:
        (..., H/scale, W/scale), at least single precision; it may exceed the input's range a little at edges.
    """
    images = at_least_float32(images)
    rows, columns = (_cached_matrix(side, scale, images.dtype, images.device) for side in images.shape[-2:])
    with torch.autocast(images.device.type, enabled=False):
        return rows @ (images @ columns.T)
