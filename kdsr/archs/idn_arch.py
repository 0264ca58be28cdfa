"""IDN: blocks that keep a part of their features and process the rest further."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from kdsr.archs.bicubic import BicubicUpsample
from kdsr.archs.transposed_conv import EnlargingConvTranspose2d, fast_layout
from kdsr.errors import UserError, check_choice

Upsampler = Literal['pixelshuffle', 'deconv']
GROUPS = 4


def _conv_act(num_in: int, num_out: int, kernel_size: int = 3, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(num_in, num_out, kernel_size, padding=kernel_size // 2, groups=groups)
    return nn.Sequential(conv, nn.LeakyReLU(0.05))


class InformationDistillationBlock(nn.Module):
    """Enhancement and compression unit.

        a, b = split(upper(x));  y = conv1x1(concat[x, a] + lower(b))     a: d channels, b: the rest

    Args:
        num_feat: C, channels.
        num_kept: d, channels that skip the lower half. Both are multiples of 4: every second convolution has 4 groups.

    Shape:
        input and output: (N, C, h, w).
    """

    def __init__(self, num_feat: int, num_kept: int) -> None:
        super().__init__()
        self.split = [num_kept, num_feat - num_kept]
        narrow, wide = num_feat - num_kept, num_feat + num_kept
        self.upper = nn.Sequential(
            _conv_act(num_feat, narrow),
            _conv_act(narrow, narrow - num_kept, groups=GROUPS),
            _conv_act(narrow - num_kept, num_feat),
        )
        self.lower = nn.Sequential(
            _conv_act(narrow, num_feat), _conv_act(num_feat, narrow, groups=GROUPS), _conv_act(narrow, wide)
        )
        self.compress = _conv_act(wide, num_feat, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's features."""
        kept, rest = self.upper(x).split(self.split, 1)
        return self.compress(torch.cat([x, kept], 1) + self.lower(rest))


@ARCH_REGISTRY.register()
class IDN(nn.Module):
    """Information distillation network [1].

        y = bicubic_S(x) + upsample_S(blocks(conv(conv(x))))

    Two versions were published. `upsampler` 'pixelshuffle' is the authors' later RGB version: conv3x3, conv3x3 to
    3*S^2 channels, shuffle. 'deconv' with one channel is the version of the paper: one transposed 17x17 convolution.

    Published parameters: 579,276 / 587,931 / 600,048 at x2 / x3 / x4; 552,769 (553K) for 'deconv' on luminance.

    Args:
        upscale: S.
        num_in_ch: Channels of input and output; 1 for luminance.
        num_feat: C, 64.
        num_kept: d, 16, channels that a block keeps.
        num_block: Number of blocks.
        upsampler: 'pixelshuffle' or 'deconv'.
        img_range: The convolutions work on images in [0, img_range]; 255 in the authors' RGB version.

    Shape:
        input: (N, num_in_ch, h, w), in [0, 1], any size; output: (N, num_in_ch, S*h, S*w).

    Raises:
        UserError: unknown `upsampler`, or numbers of channels that do not fit together.

    References:
        [1] Hui, Wang, Gao. Fast and Accurate Single Image Super-Resolution via Information Distillation Network. CVPR
            2018. https://arxiv.org/abs/1803.09454

    Example:
        >>> import kdsr, torch
        >>> network = kdsr.archs.IDN(upscale=2)
        >>> network(torch.rand(1, 3, 12, 10)).shape
        torch.Size([1, 3, 24, 20])
    """

    def __init__(
        self,
        upscale: int = 4,
        num_in_ch: int = 3,
        num_feat: int = 64,
        num_kept: int = 16,
        num_block: int = 4,
        upsampler: Upsampler = 'pixelshuffle',
        img_range: float = 255.0,
    ) -> None:
        super().__init__()
        check_choice('upsampler', upsampler, get_args(Upsampler))
        if num_feat % GROUPS or num_kept % GROUPS or not 0 < 2 * num_kept < num_feat:
            raise UserError(
                f'`num_feat` {num_feat} and `num_kept` {num_kept} must be multiples of {GROUPS}, and '
                '2 * `num_kept` must be less than `num_feat`.'
            )
        self.upscale, self.img_range = upscale, img_range
        self.bicubic = BicubicUpsample(upscale)
        self.conv_first = nn.Sequential(_conv_act(num_in_ch, num_feat), _conv_act(num_feat, num_feat))
        self.body = nn.Sequential(*[InformationDistillationBlock(num_feat, num_kept) for _ in range(num_block)])
        self.upsample: nn.Module
        if upsampler == 'deconv':
            self.upsample = EnlargingConvTranspose2d(num_feat, num_in_ch, 17, upscale)
        else:
            self.upsample = nn.Sequential(
                nn.Conv2d(num_feat, num_feat, 3, 1, 1),
                nn.Conv2d(num_feat, num_in_ch * upscale**2, 3, 1, 1),
                nn.PixelShuffle(upscale),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return the super-resolved image (N, num_in_ch, S*h, S*w)."""
        correction = self.upsample(self.body(self.conv_first(fast_layout(x * self.img_range))))
        return self.bicubic(x) + correction / self.img_range
