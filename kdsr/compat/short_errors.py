"""Functions of BasicSR that fail on what a user can cure, with an error that does not say how."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from basicsr.archs.vgg_arch import VGG_PRETRAIN_PATH, VGGFeatureExtractor
from basicsr.metrics import niqe as niqe_module

from kdsr.errors import UserError

basicsr_niqe = niqe_module.niqe
basicsr_init_vgg = VGGFeatureExtractor.__init__
NIQE_SIDE = 96  # pixels of a block; NIQE compares the statistics of whole blocks, so one has none
NIQE_BLOCKS = 'two blocks of 96x96 pixels, side by side or one above the other,'
VGG_URL = 'https://download.pytorch.org/models/vgg19-dcbb9e9d.pth'


def niqe(img: np.ndarray, *args: Any, **kwargs: Any) -> float:
    """Compute NIQE.

    Args:
        img: (h, w), the cropped image.
        args: See BasicSR.
        kwargs: See BasicSR.

    Raises:
        UserError: the image has less than two whole blocks, of which BasicSR ends with an error of NumPy.
    """
    height, width = img.shape[:2]
    if not has_niqe_blocks(height, width):
        raise UserError(
            f'calculate_niqe needs {NIQE_BLOCKS} in an image after `crop_border`, not {width}x{height} pixels. Use '
            'larger images, or leave this metric out.'
        )
    return basicsr_niqe(img, *args, **kwargs)


def has_niqe_blocks(height: int, width: int) -> bool:
    """Return whether an image of this size, without its border, is large enough for NIQE."""
    return (height // NIQE_SIDE) * (width // NIQE_SIDE) >= 2


def find_vgg19() -> str | None:
    """Return the file of VGG19's weights, in BasicSR's place or in PyTorch's cache; None where it is missing."""
    cached = os.path.join(torch.hub.get_dir(), 'checkpoints', os.path.basename(VGG_URL))
    return next((file for file in (VGG_PRETRAIN_PATH, cached) if os.path.isfile(file)), None)


def init_vgg(self: Any, *args: Any, **kwargs: Any) -> None:
    """Build the VGG of perceptual losses; BasicSR downloads its weights where they are not in their place.

    Raises:
        UserError: they cannot be downloaded. It names the place and the address.
    """
    try:
        basicsr_init_vgg(self, *args, **kwargs)
    except OSError as error:  # what urllib raises
        if find_vgg19() is not None:
            raise
        reason = getattr(error, 'reason', error)
        raise UserError(f'VGG19 cannot be downloaded ({reason}): {describe_vgg_place()}') from error


def describe_vgg_place() -> str:
    """Say where the file of VGG19 belongs, and where it comes from."""
    return (
        f'download {VGG_URL} (548 MB) elsewhere, and put it into {os.path.dirname(VGG_PRETRAIN_PATH)}/ of the '
        'folder in which you start kdsr.'
    )
