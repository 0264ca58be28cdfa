"""MATLAB's bicubic `imresize` on 8-bit images, to the last bit: the degradation that super-resolution papers use.

The bicubic of other libraries differs (a = -0.75 in OpenCV, no antialiasing in OpenCV and torch by default). Networks
that are trained or tested with it cannot be compared with published ones.
"""

from __future__ import annotations

import numpy as np

_BLOCK = 8  # output rows at a time: the float64 intermediates stay in the cache


def imresize_bicubic(image: np.ndarray, scale: int) -> np.ndarray:
    """Downscale like MATLAB's ``imresize(image, 1/scale, 'bicubic')``.

    MATLAB resizes the height first, rounds to 8 bits (halves up), and then resizes the width.

    Args:
        image: (H, W) or (H, W, C) uint8, channels in any order.
        scale: Factor >= 1 to shrink by.

    Returns:
        (ceil(H / scale), ceil(W / scale)) or (..., C) uint8, C-contiguous.

    Raises:
        TypeError: `image` is not uint8, or `scale` is not an integer.
        ValueError: `image` is empty or has another number of dimensions, or `scale` < 1.
    """
    _check(image, scale)
    height, width = -(-image.shape[0] // scale), -(-image.shape[1] // scale)
    return _resize(image, height, width, 1.0 / scale)


def upsample_bicubic(image: np.ndarray, scale: int) -> np.ndarray:
    """Upscale like MATLAB's ``imresize(image, scale, 'bicubic')``.

    Args:
        image: (H, W) or (H, W, C) uint8, channels in any order.
        scale: Factor >= 1 to enlarge by.

    Returns:
        (H * scale, W * scale) or (..., C) uint8, C-contiguous.

    Raises:
        TypeError: `image` is not uint8, or `scale` is not an integer.
        ValueError: `image` is empty or has another number of dimensions, or `scale` < 1.
    """
    _check(image, scale)
    return _resize(image, image.shape[0] * scale, image.shape[1] * scale, float(scale))


def _check(image: np.ndarray, scale: int) -> None:
    if image.dtype != np.uint8:
        raise TypeError(f'The image must be uint8, as MATLAB rounds between the two passes; got {image.dtype}.')
    if image.ndim not in (2, 3) or image.size == 0:
        raise ValueError(f'The image must be (H, W) or (H, W, C) and not empty; got the shape {image.shape}.')
    if not isinstance(scale, (int, np.integer)):
        raise TypeError(f'The scale must be an integer; got {scale!r}.')
    if scale < 1:
        raise ValueError(f'The scale must be at least 1; got {scale}.')


def _resize(image: np.ndarray, height: int, width: int, scale: float) -> np.ndarray:
    tall = _resize_rows(image, height, scale)
    return np.ascontiguousarray(_resize_rows(tall.swapaxes(0, 1), width, scale).swapaxes(0, 1))


def _resize_rows(image: np.ndarray, out_rows: int, scale: float) -> np.ndarray:
    """Resize the first axis of uint8 (H, ...) to `out_rows`, rounded halves up and clipped to uint8."""
    weights, taps = _weights(image.shape[0], out_rows, scale)
    flat = np.ascontiguousarray(image).reshape(image.shape[0], -1)
    result = np.empty((out_rows, flat.shape[1]), np.uint8)
    for start in range(0, out_rows, _BLOCK):
        block = slice(start, min(start + _BLOCK, out_rows))
        total = np.zeros((block.stop - start, flat.shape[1]))
        # The order of the sum is free: at scales 2 and 4 it is exact, and at scale 3, with all weights multiples of
        # 1/81, no total lies near a half.
        for tap in range(taps.shape[1]):
            total += weights[block, tap, None] * flat[taps[block, tap]]
        result[block] = np.clip(np.floor(total + 0.5), 0, 255)
    return result.reshape(out_rows, *image.shape[1:])


def _weights(size: int, out_size: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Return (out_size, taps) float64 weights and the source positions in 0..size-1 that they stand for."""
    squeeze = min(scale, 1.0)  # antialiasing: the kernel is widened when the image shrinks
    support = 4.0 / squeeze
    # 1-based positions, as in MATLAB, so that the roundings agree too
    centre = np.arange(1, out_size + 1) / scale + 0.5 * (1.0 - 1.0 / scale)
    position = np.floor(centre - support / 2)[:, None] + np.arange(int(np.ceil(support)) + 2)
    weights = squeeze * _cubic(squeeze * (centre[:, None] - position))
    weights /= weights.sum(axis=1, keepdims=True)
    mirrored = np.concatenate([np.arange(size), np.arange(size)[::-1]])
    taps = mirrored[(position.astype(np.int64) - 1) % (2 * size)]
    used = (weights != 0).any(axis=0)
    return weights[:, used], taps[:, used]


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic with a = -0.5."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1.0
    far = -0.5 * x**3 + 2.5 * x**2 - 4.0 * x + 2.0
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))
