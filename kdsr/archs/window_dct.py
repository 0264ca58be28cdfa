"""What DCTSwin does inside a window: the cosine transform of its tokens, and the mask of its attention."""

from __future__ import annotations

import functools
import math

import torch
from basicsr.archs.swinir_arch import window_partition
from torch import Tensor, nn

from kdsr.distillation.dct import dct_matrix
from kdsr.distillation.precision import at_least_float32

MASKS = ('none', 'spatial', 'official')


class WindowDCT(nn.Module):
    """Two-dimensional DCT-II of the tokens of a window and its exact inverse, per channel.

    Both axes at once are one Kronecker matrix, so that a window is one matrix product.

    Args:
        window_size: w, tokens per side.
        norm: 'ortho', or 'none' for a factor of 2 per axis (the DC of an 8x8 window of ones is then 256).

    Shape:
        input and output: (windows, w*w, C), computed in single precision at least, returned in the input's.
    """

    matrix: Tensor
    inverse_matrix: Tensor

    def __init__(self, window_size: int, norm: str) -> None:
        super().__init__()
        one_axis = dct_matrix(window_size, norm)
        matrix = torch.kron(one_axis, one_axis)
        # Constants: a checkpoint needs neither of them.
        self.register_buffer('matrix', matrix.float(), persistent=False)
        self.register_buffer('inverse_matrix', torch.linalg.inv(matrix).float(), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the coefficients, frequency (ky, kx) at token ky * w + kx."""
        return self._product(self.matrix, tokens)

    def inverse(self, coefficients: Tensor) -> Tensor:
        """Return the tokens that have these coefficients."""
        return self._product(self.inverse_matrix, coefficients)

    @staticmethod
    def _product(matrix: Tensor, tokens: Tensor) -> Tensor:
        with torch.autocast(tokens.device.type, enabled=False):
            precise = at_least_float32(tokens)
            return (matrix.to(precise.dtype) @ precise).to(tokens.dtype)


@functools.lru_cache(maxsize=4)
def attention_mask(
    height: int, width: int, window_size: int, shift_size: int, kind: str, device: torch.device
) -> Tensor | None:
    """Return what is added to the attention logits: 0 where two tokens may see each other, -100 elsewhere.

    A cyclic shift brings together, in the last row and column of windows, tokens from opposite ends of the image;
    every origin has a label, and only tokens of one label see each other.

    Args:
        height: Of the token map, a multiple of `window_size`.
        width: Likewise.
        window_size: Tokens per side of a window.
        shift_size: Cyclic shift; 0 for a layer without.
        kind: 'none': no mask. 'spatial': as in Swin. 'official': as in the authors' code, where the label image goes
            through the DCT first. Nearly all labels then differ or agree by rounding alone; without a shift it cuts
            every DC coefficient off from the others.
        device: Where the mask is to lie. It is always computed on the CPU, for one result everywhere.

    Returns:
        (windows, window_size^2, window_size^2), or None where everything is open.
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
    """Return 0 for a position before the last window, 1 in the last window, 2 for one that the shift wrapped round."""
    if shift_size == 0:
        return torch.full((size,), 2.0)  # the authors' slices put the last label everywhere; 'official' depends on it
    position = torch.arange(size)
    return (position >= size - window_size).float() + (position >= size - shift_size).float()


def _fft_dct(rows: Tensor) -> Tensor:
    """Return the unnormalised DCT-II along the last axis by Makhoul's algorithm: even samples, odd ones reversed, FFT.

    Which coefficients come out as exactly zero depends on the algorithm, and 'official' masks depend on that.
    """
    size = rows.shape[-1]
    spectrum = torch.fft.fft(torch.cat([rows[..., ::2], rows[..., 1::2].flip(-1)], -1))
    angle = torch.arange(size, dtype=rows.dtype) * math.pi / (2 * size)
    return 2 * (spectrum.real * torch.cos(angle) + spectrum.imag * torch.sin(angle))
