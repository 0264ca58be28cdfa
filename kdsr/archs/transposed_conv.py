"""A transposed convolution that runs on a CPU as an equivalent convolution of the small image."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def subpixel_kernel(weight: Tensor, stride: int) -> Tensor:
    """Return the kernel of the convolution whose shuffled output equals the transposed convolution with `weight`.

        y[S*q + p] = sum_t x[q + t] w[p + k//2 - S*t]           every t that keeps the index inside the kernel

    Args:
        weight: (C_in, C_out, k, k) of the transposed convolution, k odd; its gradient flows through the result.
        stride: S.

    Returns:
        (C_out*S*S, C_in, K, K); its taps are t = -(k//2 // S), ..., (k//2 + S - 1) // S.
    """
    size = weight.shape[-1]
    before, after = _reach(size, stride)
    taps = before + 1 + after
    left = stride * after - size // 2
    right = stride * taps - size - left
    kernel = F.pad(weight, (left, right, left, right)).unflatten(3, (taps, stride)).unflatten(2, (taps, stride))
    return kernel.flip(2, 4).permute(1, 3, 5, 0, 2, 4).flatten(0, 2)


def _reach(size: int, stride: int) -> tuple[int, int]:
    """Return how many pixels of the small image a kernel covers before and after the centre; the second is not less."""
    return size // 2 // stride, (size // 2 + stride - 1) // stride


class EnlargingConvTranspose2d(nn.ConvTranspose2d):
    """Transposed convolution to exactly S times the size, with torch's weights.

    Torch's CPU kernel is slow for few output channels. On a CPU this module therefore runs a convolution with
    C_out*S^2 channels and a pixel shuffle. It rearranges the weights in every call, which costs almost nothing
    (benchmarks/results/fsrcnn_cpu.md). On other devices it runs torch's kernel.

    Args:
        in_channels: C_in.
        out_channels: C_out.
        kernel_size: k, odd.
        stride: S.

    Shape:
        input: (N, C_in, h, w), any size; output: (N, C_out, S*h, S*w).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, output_padding=stride - 1
        )

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return the upsampled map; `output_size` belongs to torch's signature and is not used."""
        if x.device.type != 'cpu':
            return super().forward(x)
        scale = self.stride[0]
        before, after = _reach(self.kernel_size[0], scale)
        bias = None if self.bias is None else self.bias.repeat_interleave(scale**2)
        y = F.conv2d(x, subpixel_kernel(self.weight, scale), bias, padding=after)
        return F.pixel_shuffle(y[..., after - before :, after - before :], scale)


def fast_layout(x: Tensor) -> Tensor:
    """Return `x` with channels last on a CPU, which convolves faster so; the values are the same."""
    return x.to(memory_format=torch.channels_last) if x.device.type == 'cpu' else x
