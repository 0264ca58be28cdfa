"""Bicubic upsampling inside a network, for VDSR and IDN."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdsr.distillation.bicubic import keys_cubic
from kdsr.distillation.precision import at_least_float32
from kdsr.errors import UserError


class BicubicUpsample(nn.Module):
    """Upsample like MATLAB's `imresize(x, S, 'bicubic')`, without its rounding to 8 bits.

    Torch's bicubic has another kernel (a = -0.75) and another border; the published networks were not trained with it.
    For an integer S the position of an output pixel between its neighbours repeats every S pixels. So the upsampling
    is one 5x5 convolution with S^2 outputs, and a pixel shuffle:

        y[S*i + p] = sum_{k=-2..2} K((p + 1/2) / S - 1/2 - k) x[i + k],   K: Keys' cubic with a = -1/2

    Args:
        upscale: S, any integer from 1.

    Shape:
        input: (N, C, h, w), any size and range; output: (N, C, S*h, S*w), computed in at least single precision and
        returned in the precision of the input. The border is mirrored (b a | a b), as in MATLAB.

    Raises:
        UserError: `upscale` is below 1.
    """

    kernel: Tensor

    def __init__(self, upscale: int) -> None:
        super().__init__()
        if upscale < 1:
            raise UserError(f'`upscale` must be at least 1, not {upscale}.')
        self.upscale = upscale
        phases = (torch.arange(upscale, dtype=torch.float64) + 0.5) / upscale - 0.5
        line = keys_cubic(phases[:, None] - torch.arange(-2, 3))
        kernel = torch.einsum('pk,ql->pqkl', line, line).reshape(upscale**2, 1, 5, 5)
        self.register_buffer('kernel', kernel.float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the upsampled image."""
        channels = x.shape[1]
        with torch.autocast(x.device.type, enabled=False):
            planes = _mirror(_mirror(at_least_float32(x), 2), 3).flatten(0, 1).unsqueeze(1)
            enlarged = F.pixel_shuffle(F.conv2d(planes, self.kernel.to(planes.dtype)), self.upscale)
        return enlarged.squeeze(1).unflatten(0, (-1, channels)).to(x.dtype)


def _mirror(x: Tensor, dim: int) -> Tensor:
    """Extend `x` by two mirrored pixels at both ends; unlike torch's 'reflect', the outermost pixel is repeated."""
    size = x.shape[dim]
    index = torch.arange(-2, size + 2, device=x.device)
    index = torch.where(index < 0, -1 - index, index)
    index = torch.where(index >= size, 2 * size - 1 - index, index)
    return x.index_select(dim, index.clamp(0, size - 1))
