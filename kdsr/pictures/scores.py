"""Run networks on image files and score the result as BasicSR's validation does."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import cv2
import numpy as np
import torch
from basicsr.metrics.metric_util import reorder_image, to_y_channel
from basicsr.utils import img2tensor, tensor2img
from torch import Tensor

from kdsr.errors import UserError


def read_image(path: str) -> np.ndarray:
    """Return an image file as (H, W, 3), uint8, BGR as in OpenCV and BasicSR.

    Raises:
        UserError: the file is missing or is no image.
    """
    image = cv2.imread(path, cv2.IMREAD_COLOR)
    if image is None:
        raise UserError(f'{path!r} is missing or is no image.')
    return image


def as_batch(image: np.ndarray) -> Tensor:
    """Return an image (h, w, 3), uint8, BGR, as (1, 3, h, w), RGB in [0, 1]."""
    return img2tensor(image.astype(np.float32) / 255, bgr2rgb=True, float32=True).unsqueeze(0)


@torch.no_grad()
def super_resolve(network: Callable[[Tensor], Tensor], image: np.ndarray) -> np.ndarray:
    """Return a network's rounded answer to one image.

    Args:
        network: Maps (1, 3, h, w), RGB in [0, 1], to (1, 3, S*h, S*w); in eval mode.
        image: (h, w, 3), uint8, BGR.

    Returns:
        (S*h, S*w, 3), uint8, BGR.
    """
    return tensor2img(network(as_batch(image)))


def score(image: np.ndarray, gt: np.ndarray, crop_border: int, y_channel: bool = True) -> tuple[float, float]:
    """Return PSNR in dB and SSIM, `crop_border` pixels of border left out.

    The numbers of BasicSR's `calculate_psnr` and `calculate_ssim` to 1e-6, in a third of the time: luminance is
    computed once for both, and SSIM's Gaussian window is applied to rows and columns in turn.

    Args:
        image: (H, W, 3), uint8, BGR, or (H, W), luminance.
        gt: The same; luminance may have fractions.
        crop_border: By custom the scale.
        y_channel: Score the Y channel (BT.601, 16..235) of colour images; else the mean over the three.
    """
    inside = slice(crop_border, -crop_border if crop_border else None)
    planes = [reorder_image(one)[inside, inside] for one in (image, gt)]
    if y_channel:
        planes = [to_y_channel(one) for one in planes]
    one, other = (plane.astype(np.float64) for plane in planes)
    error = float(np.mean((one - other) ** 2))
    similarity = np.mean([ssim_of_planes(one[..., c], other[..., c]) for c in range(one.shape[2])])
    return 10 * float(np.log10(255**2 / error)) if error else float('inf'), float(similarity)


@lru_cache(maxsize=1)
def _window() -> np.ndarray:
    return cv2.getGaussianKernel(11, 1.5)


def ssim_of_planes(one: np.ndarray, other: np.ndarray) -> float:
    """Return the mean structural similarity of two planes (H, W), 0..255, float64.

        SSIM = (2 m_a m_b + c1) (2 s_ab + c2) / ((m_a^2 + m_b^2 + c1) (s_a^2 + s_b^2 + c2))

    with means, variances and covariance in a Gaussian window of 11x11 (sigma 1.5), c1 = (0.01 * 255)^2 and
    c2 = (0.03 * 255)^2, averaged over all whole windows (Wang et al., 2004).
    """
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    blur = partial(cv2.sepFilter2D, ddepth=-1, kernelX=_window(), kernelY=_window())
    a, b, aa, bb, ab = (blur(plane)[5:-5, 5:-5] for plane in (one, other, one * one, other * other, one * other))
    products, squares = a * b, a * a + b * b
    maps = (2 * products + c1) * (2 * (ab - products) + c2) / ((squares + c1) * (aa + bb - squares + c2))
    return float(maps.mean())
