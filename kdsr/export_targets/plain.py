"""The same network in the few operations that every converter knows, from RGB to RGB."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdsr.archs.bicubic import BicubicUpsample
from kdsr.archs.contrast_attention import ContrastAttention
from kdsr.deployment.exportable import exportable
from kdsr.deployment.pixel_network import LUMA_WEIGHTS


class PlainBicubic(nn.Module):
    """`BicubicUpsample` without indices that are computed from the size: slices, a grouped convolution, a shuffle.

    Args:
        bicubic: Whose scale and kernel to take.
        channels: C.

    Shape:
        input: (N, C, h, w), h and w at least 2; output: (N, C, S*h, S*w).
    """

    def __init__(self, bicubic: BicubicUpsample, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.conv = nn.Conv2d(channels, channels * bicubic.upscale**2, 5, groups=channels, bias=False)
        self.conv.weight = nn.Parameter(bicubic.kernel.float().repeat(channels, 1, 1, 1))
        self.shuffle = nn.PixelShuffle(bicubic.upscale)

    def forward(self, x: Tensor) -> Tensor:
        """Return the upsampled image."""
        x = torch.cat([x[:, :, 1:2], x[:, :, :1], x, x[:, :, -1:], x[:, :, -2:-1]], 2)
        x = torch.cat([x[:, :, :, 1:2], x[:, :, :, :1], x, x[:, :, :, -1:], x[:, :, :, -2:-1]], 3)
        return self.shuffle(self.conv(x))


class PlainContrastAttention(nn.Module):
    """`ContrastAttention` with the standard deviation written out: for inference, where its gradient does not matter.

    Args:
        layer: Whose weights to take.
    """

    def __init__(self, layer: ContrastAttention) -> None:
        super().__init__()
        self.attention = layer.attention

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled map (N, C, h, w)."""
        mean = F.adaptive_avg_pool2d(x, 1)
        deviation = x - mean
        std = torch.sqrt(F.adaptive_avg_pool2d(deviation * deviation, 1))
        return x * self.attention(std + mean)


class RgbNetwork(nn.Module):
    """A network on luminance as one on RGB: what colours have beside Y is enlarged bicubically.

        d = rgb - luma(rgb),  luma = (Y - 16/255) * 255/219
        sr = bicubic(d) + luma(network(Y))

    Args:
        network: Maps Y of BT.601, (N, 1, h, w) in [16/255, 235/255], to the same S times as large.
        scale: S.

    Shape:
        input: (N, 3, h, w) in [0, 1]; output: (N, 3, S*h, S*w), not clamped.
    """

    def __init__(self, network: nn.Module, scale: int) -> None:
        super().__init__()
        self.network = network
        self.luma = nn.Conv2d(3, 1, 1, bias=False)
        self.luma.weight = nn.Parameter(torch.tensor(LUMA_WEIGHTS).view(1, 3, 1, 1) / 255)
        self.bicubic = PlainBicubic(BicubicUpsample(scale), 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return the enlarged image."""
        y = self.luma(x)
        large = (self.network(y + 16 / 255) * 255 - 16) / 219
        return self.bicubic(x - y * (255 / 219)) + large


def plain_network(network: nn.Module, multiple: int, scale: int, luminance: bool) -> nn.Module:
    """Return a copy of a network that converters of few operations understand.

    Args:
        network: Of BasicSR or kdsr.
        multiple: What the sides of its input must be multiples of.
        scale: S.
        luminance: It takes Y of BT.601; the copy takes RGB all the same.

    Returns:
        Maps (N, 3, h, w) RGB in [0, 1] to (N, 3, S*h, S*w), on the CPU, in eval mode, without gradients.
    """
    padded = exportable(network, multiple, scale)
    for parent in list(padded.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, BicubicUpsample):
                setattr(parent, name, PlainBicubic(child, 1 if luminance else 3))
            elif isinstance(child, ContrastAttention):
                setattr(parent, name, PlainContrastAttention(child))
    inner = padded if padded.multiple > 1 else padded.network
    return (RgbNetwork(inner, scale) if luminance else inner).eval().requires_grad_(False)
