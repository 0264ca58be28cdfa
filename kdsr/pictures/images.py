"""Image files as OpenCV and BasicSR read them, and what a network makes of one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from basicsr.utils import img2tensor, tensor2img
from torch import Tensor

from kdsr.compat.dataset_files import decode_bgr, read_file
from kdsr.data.image_headers import read_header
from kdsr.errors import UserError
from kdsr.metrics import check_finite


def read_image(path: str) -> np.ndarray:
    """Return an image file as (H, W, 3), uint8, BGR as in OpenCV and BasicSR.

    Raises:
        UserError: the file is missing, not an image, truncated, or a pipe or device.
    """
    fault = read_header(path).fault
    if fault is not None:
        raise UserError(f'{path!r}: {fault}')
    image = decode_bgr(read_file(path))
    if image is None:
        raise UserError(f'{path!r} is not an image that OpenCV reads.')
    return image


def make_batch(image: np.ndarray) -> Tensor:
    """Return an image (h, w, 3), uint8, BGR, as (1, 3, h, w), RGB in [0, 1]."""
    return img2tensor(image.astype(np.float32) / 255, bgr2rgb=True, float32=True).unsqueeze(0)


@torch.no_grad()
def super_resolve(network: Callable[[Tensor], Tensor], image: np.ndarray) -> np.ndarray:
    """Run a network on one image and round its output to 8 bits.

    Args:
        network: Maps (1, 3, h, w), RGB in [0, 1], to (1, 3, S*h, S*w); in eval mode.
        image: (h, w, 3), uint8, BGR.

    Returns:
        (S*h, S*w, 3), uint8, BGR.

    Raises:
        NotFiniteError: the network gives values that are not finite.
    """
    return tensor2img(check_finite(network(make_batch(image)), 'the network'))
