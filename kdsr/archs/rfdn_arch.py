"""RFDN, RFDN-L and E-RFDN: like IMDN, with 1x1 convolutions for the kept features and skips for the rest."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from kdsr.archs.contrast_attention import ContrastAttention
from kdsr.archs.spatial_attention import MakeConv, SpatialAttention, refuse_small_images
from kdsr.errors import UserError, check_choice

Block = Literal['rfdb', 'fdc', 'srb', 'base', 'e_rfdb']
SLOPE = 0.05


class FeatureDistillationBlock(nn.Module):
    """RFDB, and FDC: the same without skips.

        d_i = act(conv1x1(r_{i-1}));  r_i = act(conv3x3(r_{i-1}) + r_{i-1})     i = 1..3, r_0 = x
        d_4 = act(conv3x3(r_3));      y = attention(conv1x1(concat[d_1, d_2, d_3, d_4]))

    Args:
        num_feat: c, channels.
        num_distilled: Channels of d_1, d_2 and d_3; d_4 has c // 2.
        identity: Add r_{i-1}.
        attention: Module after the fusion.
        conv: Makes the 3x3 convolutions.
        activation: act; LeakyReLU with slope 0.05 when None.

    Shape:
        input and output: (N, c, h, w).
    """

    def __init__(
        self,
        num_feat: int,
        num_distilled: int,
        identity: bool,
        attention: nn.Module,
        conv: MakeConv = nn.Conv2d,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.identity = identity
        self.distill = nn.ModuleList(nn.Conv2d(num_feat, num_distilled, 1) for _ in range(3))
        self.refine = nn.ModuleList(conv(num_feat, num_feat, 3, 1, 1) for _ in range(3))
        self.last = conv(num_feat, num_feat // 2, 3, 1, 1)
        self.fuse = nn.Conv2d(3 * num_distilled + num_feat // 2, num_feat, 1)
        self.attention = attention
        self.act = nn.LeakyReLU(SLOPE) if activation is None else activation

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's features."""
        distilled = []
        for distill, refine in zip(self.distill, self.refine):
            distilled.append(self.act(distill(x)))
            x = self.act(refine(x) + x if self.identity else refine(x))
        distilled.append(self.act(self.last(x)))
        return self.attention(self.fuse(torch.cat(distilled, 1)))


class PlainBlock(nn.Module):
    """The ablation blocks without distillation: SRB (with skips) and Base (without).

        r_i = act(conv3x3(r_{i-1}) + r_{i-1})  i = 1..3;   y = attention(act(conv3x3(r_3)))

    Args:
        num_feat: c, channels.
        identity: Add r_{i-1}.
        attention: Last module.

    Shape:
        input and output: (N, c, h, w).
    """

    def __init__(self, num_feat: int, identity: bool, attention: nn.Module) -> None:
        super().__init__()
        self.identity = identity
        self.refine = nn.ModuleList(nn.Conv2d(num_feat, num_feat, 3, 1, 1) for _ in range(3))
        self.last = nn.Conv2d(num_feat, num_feat, 3, 1, 1)
        self.attention = attention
        self.act = nn.LeakyReLU(SLOPE)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's features."""
        for refine in self.refine:
            x = self.act(refine(x) + x if self.identity else refine(x))
        return self.attention(self.act(self.last(x)))


def _build_block(block: Block, num_feat: int, num_distilled: int, reduction: int) -> nn.Module:
    attention = SpatialAttention(num_feat) if block == 'e_rfdb' else ContrastAttention(num_feat, reduction)
    identity = block not in ('base', 'fdc')
    if block in ('base', 'srb'):
        return PlainBlock(num_feat, identity, attention)
    return FeatureDistillationBlock(num_feat, num_distilled, identity, attention)


@ARCH_REGISTRY.register()
class RFDN(nn.Module):
    """Residual feature distillation network [1].

        f = conv(x);  b_i = block(b_{i-1}), b_0 = f
        y = shuffle_S(conv(f + conv(act(conv1x1(concat[b_1, ..., b_n])))))

    Published parameters at x2 / x3 / x4: RFDN (the default) 534,036 / 540,531 / 549,624; RFDN-L (`num_feat` 52)
    625,962 / 632,997 / 642,846; E-RFDN (`num_feat` 50, `num_block` 4, `block` 'e_rfdb') 433,448 at x4.

    Departs from the paper: it does not say whether the blocks of its ablation study have a skip around them; here they
    have none by default. The released code ignores its `distillation_rate`.

    Args:
        upscale: S.
        num_in_ch: Channels of the input, RGB.
        num_out_ch: Channels of the output.
        num_feat: c, 48; 52 for RFDN-L and the paper's Table 1, 50 for E-RFDN.
        num_block: n, 6; 4 for E-RFDN.
        block: 'rfdb'; 'fdc': the same without skips; 'srb': skips without distillation; 'base': neither; 'e_rfdb': the
            spatial attention of E-RFDN instead of the channel attention.
        distillation_rate: Width of the three 1x1 convolutions of a block over `num_feat`; the fourth part always has
            half of the channels.
        cca_reduction: Channel reduction of the attention: 4, or 16 for the paper's Tables 1 and 2.
        block_skip: Add a block's input to its output.
        img_range: The network works internally on images in [0, img_range]; E-RFDN's published weights need 255.

    Shape:
        input: (N, num_in_ch, h, w), in [0, 1], any size (with 'e_rfdb' at least 15x15); output:
        (N, num_out_ch, S*h, S*w).

    Raises:
        UserError: unknown `block`, a `distillation_rate` outside (0, 1], less than 4 channels, or an image that is too
            small.

    References:
        [1] Liu, Tang, Wu. Residual Feature Distillation Network for Lightweight Image Super-Resolution. AIM 2020.
            https://arxiv.org/abs/2009.11551

    Example:
        >>> import kdsr, torch
        >>> network = kdsr.archs.RFDN(upscale=2)
        >>> network(torch.rand(1, 3, 12, 10)).shape
        torch.Size([1, 3, 24, 20])
    """

    def __init__(
        self,
        upscale: int = 4,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 48,
        num_block: int = 6,
        block: Block = 'rfdb',
        distillation_rate: float = 0.5,
        cca_reduction: int = 4,
        block_skip: bool = False,
        img_range: float = 255.0,
    ) -> None:
        super().__init__()
        check_choice('block', block, get_args(Block))
        if num_feat < 4:
            raise UserError(f'`num_feat` must be at least 4, not {num_feat}.')
        if not 0 < distillation_rate <= 1:
            raise UserError(f'`distillation_rate` must be above 0 and at most 1, not {distillation_rate}.')
        self.upscale, self.img_range = upscale, img_range
        self.block_skip = block_skip
        self.pools = block == 'e_rfdb'
        num_distilled = max(1, round(num_feat * distillation_rate))
        self.conv_first = nn.Conv2d(num_in_ch, num_feat, 3, 1, 1)
        self.body = nn.ModuleList(_build_block(block, num_feat, num_distilled, cca_reduction) for _ in range(num_block))
        self.fuse = nn.Sequential(nn.Conv2d(num_feat * num_block, num_feat, 1), nn.LeakyReLU(SLOPE))
        self.conv_after_body = nn.Conv2d(num_feat, num_feat, 3, 1, 1)
        self.upsample = nn.Sequential(nn.Conv2d(num_feat, num_out_ch * upscale**2, 3, 1, 1), nn.PixelShuffle(upscale))

    def forward(self, x: Tensor) -> Tensor:
        """Return the super-resolved image (N, num_out_ch, S*h, S*w)."""
        if self.pools:
            refuse_small_images(x, "RFDN with `block` 'e_rfdb'")
        first = block_out = self.conv_first(x * self.img_range)
        outputs = []
        for block in self.body:
            block_out = block(block_out) + block_out if self.block_skip else block(block_out)
            outputs.append(block_out)
        trunk = self.conv_after_body(self.fuse(torch.cat(outputs, 1))) + first
        return self.upsample(trunk) / self.img_range
