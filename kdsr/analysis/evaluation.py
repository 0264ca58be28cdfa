"""Run networks on image files and score the result as BasicSR's validation does."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from basicsr.metrics import calculate_psnr, calculate_ssim
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


@torch.no_grad()
def super_resolve(network: Callable[[Tensor], Tensor], image: np.ndarray) -> np.ndarray:
    """Return a network's rounded answer to one image.

    Args:
        network: Maps (1, 3, h, w), RGB in [0, 1], to (1, 3, S*h, S*w); in eval mode.
        image: (h, w, 3), uint8, BGR.

    Returns:
        (S*h, S*w, 3), uint8, BGR.
    """
    lq = img2tensor(image.astype(np.float32) / 255, bgr2rgb=True, float32=True)
    return tensor2img(network(lq.unsqueeze(0)))


def score(image: np.ndarray, gt: np.ndarray, crop_border: int) -> tuple[float, float]:
    """Return PSNR in dB and SSIM on the Y channel (BT.601, 16..235), `crop_border` pixels of border left out.

    Args:
        image: (H, W, 3), uint8, BGR.
        gt: The same.
        crop_border: By custom the scale.
    """
    options = {'crop_border': crop_border, 'test_y_channel': True}
    return float(calculate_psnr(image, gt, **options)), float(calculate_ssim(image, gt, **options))
