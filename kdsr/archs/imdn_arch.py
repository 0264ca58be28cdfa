"""IMDN: blocks that keep a quarter of their features after each of three convolutions."""

from __future__ import annotations

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from kdsr.archs.contrast_attention import ContrastAttention
from kdsr.errors import UserError


class MultiDistillationBlock(nn.Module):
    """Information multi-distillation block.

        k1, r1 = split(act(conv3x3(x)));  k2, r2 = split(act(conv3x3(r1)));  k3, r3 = split(act(conv3x3(r2)))
        k4 = conv3x3(r3);                 y = x + conv1x1(attention(concat[k1, k2, k3, k4]))

    Each k has a quarter of the channels, each r the rest; act is LeakyReLU with slope 0.05.

    Args:
        num_feat: C, channels, a multiple of 4.
        reduction: Channel reduction of the attention.

    Shape:
        input and output: (N, C, h, w).
    """

    def __init__(self, num_feat: int, reduction: int) -> None:
        super().__init__()
        kept = num_feat // 4
        rest = num_feat - kept
        self.split = [kept, rest]
        self.refine = nn.ModuleList(nn.Conv2d(c, num_feat, 3, 1, 1) for c in (num_feat, rest, rest))
        self.last = nn.Conv2d(rest, kept, 3, 1, 1)
        self.attention = ContrastAttention(4 * kept, reduction)
        self.fuse = nn.Conv2d(4 * kept, num_feat, 1)
        self.act = nn.LeakyReLU(0.05)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's features."""
        rest, kept = x, []
        for conv in self.refine:
            part, rest = self.act(conv(rest)).split(self.split, 1)
            kept.append(part)
        kept.append(self.last(rest))
        return x + self.fuse(self.attention(torch.cat(kept, 1)))


@ARCH_REGISTRY.register()
class IMDN(nn.Module):
    """Information multi-distillation network [1].

        f = conv(x);  b_i = block(b_{i-1}), b_0 = f
        y = shuffle_S(conv(f + conv(act(conv1x1(concat[b_1, ..., b_n])))))

    Published parameters: 694,404 / 703,059 / 715,176 at x2 / x3 / x4.

    Args:
        upscale: S.
        num_in_ch: Channels of the input, RGB.
        num_out_ch: Channels of the output.
        num_feat: C, 64, a multiple of 4.
        num_block: n.
        cca_reduction: Channel reduction of the contrast-aware attention.
        img_range: The network works internally on images in [0, img_range]; the published weights need 1.

    Shape:
        input: (N, num_in_ch, h, w), in [0, 1], any size; output: (N, num_out_ch, S*h, S*w).

    Raises:
        UserError: `num_feat` is not a multiple of 4, or `cca_reduction` does not fit.

    References:
        [1] Hui, Gao, Yang, Wang. Lightweight Image Super-Resolution with Information Multi-distillation Network. ACM
            MM 2019. https://arxiv.org/abs/1909.11856

    Example:
        >>> import kdsr, torch
        >>> network = kdsr.archs.IMDN(upscale=2)
        >>> network(torch.rand(1, 3, 12, 10)).shape
        torch.Size([1, 3, 24, 20])
    """

    def __init__(
        self,
        upscale: int = 4,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 64,
        num_block: int = 6,
        cca_reduction: int = 16,
        img_range: float = 1.0,
    ) -> None:
        super().__init__()
        if num_feat < 4 or num_feat % 4:
            raise UserError(f'`num_feat` must be a multiple of 4, not {num_feat}.')
        self.upscale, self.img_range = upscale, img_range
        self.conv_first = nn.Conv2d(num_in_ch, num_feat, 3, 1, 1)
        self.body = nn.ModuleList(MultiDistillationBlock(num_feat, cca_reduction) for _ in range(num_block))
        self.fuse = nn.Sequential(nn.Conv2d(num_feat * num_block, num_feat, 1), nn.LeakyReLU(0.05))
        self.conv_after_body = nn.Conv2d(num_feat, num_feat, 3, 1, 1)
        self.upsample = nn.Sequential(nn.Conv2d(num_feat, num_out_ch * upscale**2, 3, 1, 1), nn.PixelShuffle(upscale))

    def forward(self, x: Tensor) -> Tensor:
        """Return the super-resolved image (N, num_out_ch, S*h, S*w)."""
        first = block_out = self.conv_first(x * self.img_range)
        outputs = []
        for block in self.body:
            block_out = block(block_out)
            outputs.append(block_out)
        trunk = self.conv_after_body(self.fuse(torch.cat(outputs, 1))) + first
        return self.upsample(trunk) / self.img_range
