"""Compare a network with bicubic upsampling on three photos: it shows a wrong range, mean colour or channel order."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from basicsr.utils.color_util import rgb2ycbcr_pt
from torch import Tensor
from torch.nn import functional as F

from kdsr.distillation.bicubic import bicubic_downscale
from kdsr.distillation.padding import run_padded
from kdsr.errors import UserError
from kdsr.metrics import psnr_of_error

SIDE = 40  # of a low-quality crop, in pixels
# Photo of scikit-image (a dependency of BasicSR), and the top left corner of the crop.
PHOTOS = {'astronaut.png': (0, 100), 'coffee.png': (40, 180), 'chelsea.png': (60, 120)}
EXCUSE = (
    'That is right only for a network trained with a GAN or for damaged images; otherwise the settings (`img_range`, '
    'scale, RGB or BGR) or the weights are wrong.'
)
BICUBIC_LIKE = 0.05  # dB that a network may lose to bicubic upsampling before a warning
KEPT = 20.0  # dB that a network of scale 1 must reach on a clean photo: denoising blurs it, but does not ruin it


@dataclass(frozen=True)
class Probe:
    """PSNR on the photos, over all pixels and channels, in dB.

    Attributes:
        psnr: Of the network.
        bicubic: Of MATLAB's bicubic upsampling; `KEPT` for a network that does not enlarge.
        scale: S.
    """

    psnr: float
    bicubic: float
    scale: int

    @property
    def loses(self) -> bool:
        """Whether the network is worse than bicubic upsampling; also where its output is not finite."""
        return not self.psnr >= self.bicubic - BICUBIC_LIKE

    def describe(self) -> str:
        """Return both numbers in words."""
        other = 'bicubic upsampling reaches' if self.scale > 1 else 'the photos themselves, which it must keep, need'
        return f'{self.psnr:.2f} dB on three photos, and {other} {self.bicubic:.2f} dB'


@torch.no_grad()
def probe(network: Callable[[Tensor], Tensor], scale: int, channels: int = 3, multiple: int = 1) -> Probe:
    """Run a network on three photos.

    Args:
        network: Maps (N, C, h, w) to (N, C, S*h, S*w), both in [0, 1], on the CPU.
        scale: S, from 1.
        channels: C: 3 for RGB, 1 for luminance.
        multiple: What the sides of its input must be multiples of.

    Raises:
        UserError: its image has another size, or the photos are missing.

    Example:
        >>> import torch
        >>> nearest = torch.nn.Upsample(scale_factor=2)
        >>> probe(nearest, scale=2).loses
        True
    """
    lq, gt = _pairs(scale)
    if channels == 1:
        lq, gt = (rgb2ycbcr_pt(images, y_only=True) for images in (lq, gt))
    sr = torch.cat([run_padded(network, image[None], multiple) for image in lq])  # ONNX files may take only one
    if sr.shape != gt.shape:
        raise UserError(f'the network makes {tuple(sr.shape[1:])} of {tuple(lq.shape[1:])}: it is none for x{scale}.')
    if scale == 1:
        return Probe(_psnr(sr, gt, scale), KEPT, scale)
    bicubic = F.interpolate(lq, scale_factor=scale, mode='bicubic', antialias=True)  # so it has MATLAB's kernel
    return Probe(_psnr(sr, gt, scale), _psnr(bicubic, gt, scale), scale)


def warn_if_worse(
    name: str, network: Callable[[Tensor], Tensor], scale: int, channels: int = 3, multiple: int = 1
) -> str | None:
    """Return a warning if a network is worse than bicubic upsampling on photos, else None; see :func:`probe`."""
    found = probe(network, scale, channels, multiple)
    return f'WARNING: {name} reaches {found.describe()}. {EXCUSE}' if found.loses else None


def _psnr(images: Tensor, gt: Tensor, border: int) -> float:
    error = (images.float().clamp(0, 1) - gt)[..., border:-border, border:-border].square().mean().item()
    return psnr_of_error(max(error, 1e-12), peak=1.0)


@functools.lru_cache(maxsize=8)
def _pairs(scale: int) -> tuple[Tensor, Tensor]:
    """Return (3, 3, h, w) and (3, 3, S*h, S*w), RGB in [0, 1]; the small ones are rounded to 8 bits."""
    gt = torch.stack([_read_crop(name, *corner, SIDE * scale) for name, corner in PHOTOS.items()])
    lq = (bicubic_downscale(gt, scale) * 255).round().clamp(0, 255) / 255 if scale > 1 else gt
    return lq, gt


def _read_crop(name: str, top: int, left: int, side: int) -> Tensor:
    package = importlib.util.find_spec('skimage')
    folders = package.submodule_search_locations if package else None
    file = os.path.join(folders[0], 'data', name) if folders else ''
    photo = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR) if os.path.isfile(file) else None
    if photo is None:
        raise UserError(f'the photo {name} of scikit-image is missing: pip install scikit-image')
    top, left = (min(start, length - side) for start, length in zip((top, left), photo.shape))
    if min(top, left) < 0:
        raise UserError(f'a network cannot be checked on photos at a scale above {min(photo.shape[:2]) // SIDE}.')
    crop = photo[top : top + side, left : left + side, ::-1].copy()
    return torch.from_numpy(crop).permute(2, 0, 1).float() / 255
