"""A network with everything round it in one graph: from pixels as files hold them to pixels as files hold them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kdsr.archs.bicubic import BicubicUpsample

_LUMA = (65.481, 128.553, 24.966)  # Y of BT.601, 16..235, of R, G, B in [0, 1]


class PixelNetwork(nn.Module):
    """Maps pixels to pixels, so that a runtime fuses conversion, network and conversion back.

    With `luminance`, Y goes through the network, and what colours have beside Y is enlarged bicubically:

        d = rgb - luma(rgb),   luma = (Y - 16) / 219
        sr = bicubic(d) + luma(network(Y))

    Y of `bicubic(d)` is 0, so that this equals a conversion to Y, Cb, Cr and back with bicubic Cb and Cr.

    Args:
        network: Maps (N, C, h, w) in [0, 1] to (N, C, S*h, S*w).
        scale: S.
        luminance: C is 1, Y of BT.601 (16/255..235/255); otherwise 3, RGB.
        channels: Of the pixels: 1 (grey) or 3 (RGB). A grey image goes through an RGB network three times over; its
            result is their mean.
        eight_bit: The pixels are uint8; otherwise floating point in [0, 1].

    Shape:
        input: (N, h, w, channels); output: (N, S*h, S*w, channels) of the same type, in its range, and the mean of what
        the network gave, a scalar that is not finite where any value is not.
    """

    luma: Tensor

    def __init__(
        self, network: nn.Module, scale: int, *, luminance: bool = False, channels: int = 3, eight_bit: bool = True
    ) -> None:
        super().__init__()
        self.network, self.luminance, self.channels, self.eight_bit = network, luminance, channels, eight_bit
        self.bicubic = BicubicUpsample(scale)
        self.register_buffer('luma', torch.tensor(_LUMA).view(1, 3, 1, 1) / 255, persistent=False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the enlarged pixels, and the mean of the network's values."""
        image = pixels.permute(0, 3, 1, 2)
        if self.eight_bit:
            image = image.float() / 255
        if self.luminance:
            y = (image * self.luma).sum(1, keepdim=True) if self.channels == 3 else image * (219 / 255)
            raw = self.network(y + 16 / 255).float()
            large = (raw * 255 - 16) / 219
            if self.channels == 3:
                large = self.bicubic(image - y * (255 / 219)) + large
        else:
            raw = self.network(image if self.channels == 3 else image.expand(-1, 3, -1, -1)).float()
            large = raw if self.channels == 3 else raw.mean(1, keepdim=True)
        large = large.clamp(0, 1)
        if self.eight_bit:
            large = (large * 255).round().to(torch.uint8)
        return large.permute(0, 2, 3, 1), raw.mean()
