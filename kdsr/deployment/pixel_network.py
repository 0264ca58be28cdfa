"""A network with everything round it in one graph: from pixels as files hold them to pixels as files hold them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdsr.archs.bicubic import BicubicUpsample

LUMA_WEIGHTS = (65.481, 128.553, 24.966)  # Y of BT.601, 16..235, of R, G, B in [0, 1]


@dataclass(frozen=True)
class Tail:
    """The shuffle that a network ends with: its output is that of `shuffle`, times `factor`."""

    shuffle: nn.PixelShuffle
    factor: float


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
        edges_are_cut: Two pixels at each edge are of no use to the caller, so that the bicubic enlargement need not
            mirror the image there.
        tail: What :func:`find_tail` found. The values are then made into pixels before they are shuffled, when they
            are in the layout of the last convolution, and a quarter of the bytes is moved.

    Shape:
        input: (N, h, w, channels); output: (N, S*h, S*w, channels) of the same type, in its range, and a mean of the
        network's values, a scalar that is not finite where any of them is not.
    """

    luma: Tensor
    kernels: Tensor

    def __init__(
        self,
        network: nn.Module,
        scale: int,
        *,
        luminance: bool = False,
        channels: int = 3,
        eight_bit: bool = True,
        edges_are_cut: bool = False,
        tail: Tail | None = None,
    ) -> None:
        super().__init__()
        self.network, self.scale, self.luminance = network, scale, luminance
        self.channels, self.eight_bit, self.edges_are_cut = channels, eight_bit, edges_are_cut
        needs_mirror = luminance and channels == 3 and not edges_are_cut
        self._tail = None if needs_mirror else tail
        self.bicubic = BicubicUpsample(scale)
        self.register_buffer('luma', torch.tensor(LUMA_WEIGHTS).view(1, 3, 1, 1) / 255, persistent=False)
        self.register_buffer('kernels', self.bicubic.kernel.repeat(3, 1, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the enlarged pixels, and a mean of the network's values."""
        image = pixels.permute(0, 3, 1, 2)
        if self.eight_bit:
            image = image.float() / 255
        if not self.luminance:
            values = self._run(image if self.channels == 3 else image.expand(-1, 3, -1, -1))
            values = values if self.channels == 3 else values.mean(1, keepdim=True)
        else:
            y = (image * self.luma).sum(1, keepdim=True) if self.channels == 3 else image * (219 / 255)
            values = (self._run(y + 16 / 255) * 255 - 16) / 219
            if self.channels == 3:
                values = self._enlarge_bicubically(image - y * (255 / 219)) + values
        if self._tail is None:  # else the layout of the last convolution is the fastest for all this
            values = values.permute(0, 2, 3, 1)
        mean = values.mean()
        values = values.clamp(0, 1)
        values = (values * 255).round().to(torch.uint8) if self.eight_bit else values
        return self._shuffle(values) if self._tail is not None else values, mean

    def _run(self, image: Tensor) -> Tensor:
        """Return (N, C, S*h, S*w), or before the shuffle (N, C, S*S, h, w)."""
        if self._tail is None:
            return self.network(image).float()
        before: list[Tensor] = []
        hook = self._tail.shuffle.register_forward_pre_hook(lambda module, inputs: before.append(inputs[0]))
        try:
            self.network(image)
        finally:
            hook.remove()
        return self._by_place(before[-1].float()) * self._tail.factor

    def _enlarge_bicubically(self, image: Tensor) -> Tensor:
        """Return (N, 3, S*h, S*w), or before the shuffle (N, 3, S*S, h, w)."""
        if not self.edges_are_cut:
            return self.bicubic(image)
        values = F.conv2d(image, self.kernels, padding=2, groups=3)
        return F.pixel_shuffle(values, self.scale) if self._tail is None else self._by_place(values)

    def _by_place(self, values: Tensor) -> Tensor:
        """Map (N, C*S*S, h, w) to (N, C, S*S, h, w), whatever N, h and w are when the graph runs."""
        n, _, height, width = values.shape
        return values.reshape(n, -1, self.scale**2, height, width)

    def _shuffle(self, values: Tensor) -> Tensor:
        """Map (N, C, S*S, h, w) to (N, S*h, S*w, C)."""
        scale, (n, channels, _, height, width) = self.scale, values.shape
        split = values.reshape(n, channels, scale, scale, height, width)
        return split.permute(0, 4, 2, 5, 3, 1).reshape(n, height * scale, width * scale, channels)


def find_tail(network: nn.Module, image: Tensor) -> Tail | None:
    """Return the shuffle that a network ends with; None where it ends with anything else.

    Args:
        network: Maps (N, C, h, w) to (N, C, S*h, S*w).
        image: What to run it on, noise.
    """
    outputs: list[tuple[nn.PixelShuffle, Tensor]] = []

    def remember(module: Any, inputs: Any, output: Tensor) -> None:
        outputs.append((module, output))

    shuffles = [module for module in network.modules() if isinstance(module, nn.PixelShuffle)]
    hooks = [module.register_forward_hook(remember) for module in shuffles]
    try:
        with torch.no_grad():
            large = network(image)
    finally:
        for hook in hooks:
            hook.remove()
    if not outputs or outputs[-1][1].shape != large.shape or not torch.isfinite(large).all():
        return None
    module, shuffled = outputs[-1]
    at = shuffled.abs().argmax()
    factor = float(large.flatten()[at] / shuffled.flatten()[at])
    same = torch.allclose(shuffled * factor, large, rtol=1e-5, atol=1e-6)
    return Tail(module, factor) if same and factor != 0 else None
