"""PAN: blocks of two branches, one of them masked pixel by pixel; so is the upsampler."""

from __future__ import annotations

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from kdsr.errors import UserError

STEPS = {2: (2,), 3: (3,), 4: (2, 2)}  # of the upsampler, by scale
SLOPE = 0.2


class SelfCalibratedBlock(nn.Module):
    """Self-calibrated block with pixel attention (SCPA).

        a = act(conv1x1(x));   b = act(conv1x1(x))                        half of the channels each
        a' = act(conv3x3(a));  b' = act(conv3x3(conv3x3(b) * sigmoid(conv1x1(b))))
        y = x + conv1x1(concat[a', b'])

    Only the convolution inside the sigmoid has a bias.

    Args:
        num_feat: C, an even number.

    Shape:
        input and output: (N, C, h, w).
    """

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        half = num_feat // 2
        self.enter = nn.ModuleList(nn.Conv2d(num_feat, half, 1, bias=False) for _ in range(2))
        self.plain = nn.Conv2d(half, half, 3, 1, 1, bias=False)
        self.mask = nn.Conv2d(half, half, 1)
        self.masked = nn.ModuleList(nn.Conv2d(half, half, 3, 1, 1, bias=False) for _ in range(2))
        self.fuse = nn.Conv2d(2 * half, num_feat, 1, bias=False)
        self.act = nn.LeakyReLU(SLOPE)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's features."""
        plain, masked = (self.act(conv(x)) for conv in self.enter)
        plain = self.act(self.plain(plain))
        masked = self.act(self.masked[1](self.masked[0](masked) * torch.sigmoid(self.mask(masked))))
        return x + self.fuse(torch.cat([plain, masked], 1))


class MaskedStep(nn.Module):
    """One step of the upsampler.

        u = conv3x3(nearest_s(x));   y = act(conv3x3(act(u * sigmoid(conv1x1(u)))))

    Args:
        num_in: C, channels of the input.
        num_feat: C', channels of the output.
        step: s.

    Shape:
        input: (N, C, h, w); output: (N, C', s*h, s*w).
    """

    def __init__(self, num_in: int, num_feat: int, step: int) -> None:
        super().__init__()
        self.step = step
        self.conv = nn.Conv2d(num_in, num_feat, 3, 1, 1)
        self.mask = nn.Conv2d(num_feat, num_feat, 1)
        self.refine = nn.Conv2d(num_feat, num_feat, 3, 1, 1)
        self.act = nn.LeakyReLU(SLOPE)

    def forward(self, x: Tensor) -> Tensor:
        """Return the larger map."""
        x = self.conv(F.interpolate(x, scale_factor=self.step, mode='nearest'))
        return self.act(self.refine(self.act(x * torch.sigmoid(self.mask(x)))))


@ARCH_REGISTRY.register()
class PAN(nn.Module):
    """Pixel attention network [1].

        f = conv(x);  y = conv(upsample_S(f + conv(body(f)))) + bilinear_S(x)

    Published parameters: 261,403 at x2 and x3, 272,419 at x4.

    Args:
        upscale: S: 2, 3 or 4.
        num_in_ch: Channels of input and output, RGB.
        num_feat: Channels of the body, an even number.
        num_block: Blocks of the body.
        num_upsample_feat: Channels of the upsampler.
        img_range: The network works internally on images in [0, img_range]; the published weights need 1.

    Shape:
        input: (N, num_in_ch, h, w), in [0, 1], any size; output: (N, num_in_ch, S*h, S*w).

    Raises:
        UserError: another `upscale`, or an odd `num_feat`.

    References:
        [1] Zhao, Kong, He, Qiao, Dong. Efficient Image Super-Resolution Using Pixel Attention. ECCV Workshops 2020.
            https://arxiv.org/abs/2010.01073

    Example:
        >>> import kdsr, torch
        >>> network = kdsr.archs.PAN(upscale=2)
        >>> network(torch.rand(1, 3, 12, 10)).shape
        torch.Size([1, 3, 24, 20])
    """

    def __init__(
        self,
        upscale: int = 4,
        num_in_ch: int = 3,
        num_feat: int = 40,
        num_block: int = 16,
        num_upsample_feat: int = 24,
        img_range: float = 1.0,
    ) -> None:
        super().__init__()
        if upscale not in STEPS:
            raise UserError(f'`upscale` of PAN must be 2, 3 or 4, not {upscale}.')
        if num_feat < 2 or num_feat % 2:
            raise UserError(f'`num_feat` must be an even number, not {num_feat}.')
        self.upscale, self.img_range = upscale, img_range
        self.conv_first = nn.Conv2d(num_in_ch, num_feat, 3, 1, 1)
        self.body = nn.Sequential(*[SelfCalibratedBlock(num_feat) for _ in range(num_block)])
        self.conv_after_body = nn.Conv2d(num_feat, num_feat, 3, 1, 1)
        widths = (num_feat, num_upsample_feat)
        steps = enumerate(STEPS[upscale])
        self.upsample = nn.Sequential(*[MaskedStep(widths[min(i, 1)], num_upsample_feat, step) for i, step in steps])
        self.conv_last = nn.Conv2d(num_upsample_feat, num_in_ch, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the super-resolved image (N, num_in_ch, S*h, S*w)."""
        first = self.conv_first(x * self.img_range)
        residual = self.conv_last(self.upsample(first + self.conv_after_body(self.body(first))))
        enlarged = F.interpolate(x, scale_factor=self.upscale, mode='bilinear', align_corners=False)
        return enlarged + residual / self.img_range
