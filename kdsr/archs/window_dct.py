"""Inside a window of DCTSwin: the cosine transform of the tokens, and the mask of the attention."""

from __future__ import annotations

import functools
import math
from typing import Literal, get_args

import torch
from basicsr.archs.swinir_arch import window_partition
from torch import Tensor, nn

from kdsr.distillation.dct import dct_matrix
from kdsr.distillation.precision import at_least_float32

Mask = Literal['none', 'spatial', 'official']
MASKS: tuple[Mask, ...] = get_args(Mask)


class WindowDCT(nn.Module):
    """Two-dimensional DCT-II of the tokens of a window and its exact inverse, per channel.

    One Kronecker matrix transforms both axes, so that a window costs one matrix product.

    Args:
        window_size: w, tokens per side.
        norm: 'ortho', or 'none' for a factor of 2 per axis (the DC of an 8x8 window of ones is then 256).

    Shape:
        input and output: (windows, w*w, C), computed in at least single precision, returned in that of the input.
    """

    matrix: Tensor
    inverse_matrix: Tensor

    def __init__(self, window_size: int, norm: str) -> None:
        super().__init__()
        one_axis = dct_matrix(window_size, norm)
        matrix = torch.kron(one_axis, one_axis)
        # constants, so a checkpoint does not contain them
        self.register_buffer('matrix', matrix.float(), persistent=False)
        self.register_buffer('inverse_matrix', torch.linalg.inv(matrix).float(), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the coefficients; token ky * w + kx is frequency (ky, kx)."""
        return self._product(self.matrix, tokens)

    def inverse(self, coefficients: Tensor) -> Tensor:
        """Return the tokens with these coefficients."""
        return self._product(self.inverse_matrix, coefficients)

    @staticmethod
    def _product(matrix: Tensor, tokens: Tensor) -> Tensor:
        with torch.autocast(tokens.device.type, enabled=False):
            precise = at_least_float32(tokens)
            return (matrix.to(precise.dtype) @ precise).to(tokens.dtype)


@functools.lru_cache(maxsize=4)
def attention_mask(
    height: int, width: int, window_size: int, shift_size: int, kind: Mask, device: torch.device
) -> Tensor | None:
    """Return the mask that is added to the attention logits: 0 if a token may attend to another, else -100.

    After a cyclic shift the last row and column of windows contain tokens from opposite ends of the image. Every origin
    has a label, and tokens attend only to tokens of the same label.

    Args:
        height: Of the token map, a multiple of `window_size`.
        width: Likewise.
        window_size: Tokens per side of a window.
        shift_size: Cyclic shift; 0 for a layer without one.
        kind: 'none': no mask. 'spatial': as in Swin. 'official': as in the authors' code, which transforms the label
            image by the DCT first. Then only rounding decides whether most labels are equal; without a shift it
            separates every DC coefficient from the others.
        device: Device of the mask. The CPU always computes it, so that the result is the same on all devices.

    Returns:
        (windows, window_size^2, window_size^2), or None if nothing is masked.
    """
    if kind == 'none' or (kind == 'spatial' and shift_size == 0):
        return None
    rows, columns = _origin(height, window_size, shift_size), _origin(width, window_size, shift_size)
    labels = window_partition((3 * rows[:, None] + columns)[None, :, :, None], window_size)[..., 0]
    if kind == 'official':
        labels = _fft_dct(_fft_dct(labels).transpose(-1, -2)).transpose(-1, -2)
    labels = labels.flatten(1)
    closed = labels[:, None, :] != labels[:, :, None]
    return torch.zeros(closed.shape).masked_fill_(closed, -100.0).to(device)


def _origin(size: int, window_size: int, shift_size: int) -> Tensor:
    """Return 0 for positions before the last window, 1 in the last window, 2 for positions that the shift wrapped."""
    if shift_size == 0:
        return torch.full((size,), 2.0)  # as in the authors' code; 'official' depends on it
    position = torch.arange(size)
    return (position >= size - window_size).float() + (position >= size - shift_size).float()


def _fft_dct(rows: Tensor) -> Tensor:
    """Return the unnormalised DCT-II along the last axis by Makhoul's algorithm: even samples, reversed odd ones, FFT.

    The algorithm decides which coefficients are exactly zero, and 'official' masks depend on that.
    """
    size = rows.shape[-1]
    spectrum = torch.fft.fft(torch.cat([rows[..., ::2], rows[..., 1::2].flip(-1)], -1))
    angle = torch.arange(size, dtype=rows.dtype) * math.pi / (2 * size)
    return 2 * (spectrum.real * torch.cos(angle) + spectrum.imag * torch.sin(angle))
