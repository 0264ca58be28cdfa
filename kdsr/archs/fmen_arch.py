"""FMEN: pairs of convolutions, each followed by a mask of high frequencies."""

from __future__ import annotations

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from kdsr.errors import UserError

SLOPE = 0.1
NARROWER = 4  # channels that the first mask has less


def _build_pair(num_feat: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(num_feat, num_feat, 3, 1, 1), nn.LeakyReLU(SLOPE), nn.Conv2d(num_feat, num_feat, 3, 1, 1)
    )


class FrequencyMask(nn.Module):
    """High-frequency attention block (HFAB).

        y = x * sigmoid(conv3x3(act(pairs(act(conv3x3(x))))))

    A pair is conv3x3, act, conv3x3; act is LeakyReLU with slope 0.1.

    Args:
        num_feat: C, channels.
        num_mask: Channels inside.
        num_pair: Pairs.

    Shape:
        input and output: (N, C, h, w).
    """

    def __init__(self, num_feat: int, num_mask: int, num_pair: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(num_feat, num_mask, 3, 1, 1)
        self.pairs = nn.Sequential(*[_build_pair(num_mask) for _ in range(num_pair)])
        self.leave = nn.Conv2d(num_mask, num_feat, 3, 1, 1)
        self.act = nn.LeakyReLU(SLOPE)

    def forward(self, x: Tensor) -> Tensor:
        """Return the masked map."""
        return x * torch.sigmoid(self.leave(self.act(self.pairs(self.act(self.enter(x))))))


@ARCH_REGISTRY.register()
class FMEN(nn.Module):
    """Fast and memory-efficient network [1], with its blocks merged into plain convolutions.

        f = conv(x);  b_0 = mask_0(conv(f));  b_i = mask_i(conv(act(conv(b_{i-1}))))     i = 1..n
        y = shuffle_S(conv(f + conv(b_n)))

    The authors train parallel branches for each 3x3 convolution and merge them afterwards. This is the merged network;
    it can be trained as it is.

    Parameters of the released file of NTIRE 2022 (the default) at x4: 341,066.

    Args:
        upscale: S.
        num_in_ch: Channels of the input, RGB.
        num_out_ch: Channels of the output.
        num_feat: C.
        num_block: n, 4.
        num_mask: Channels inside the masks, at least 5; the first has 4 less.
        num_pair: Pairs of convolutions in mask_0; all others have one.
        img_range: The network works internally on images in [0, img_range]; the published weights need 255.

    Shape:
        input: (N, num_in_ch, h, w), in [0, 1], any size; output: (N, num_out_ch, S*h, S*w).

    Raises:
        UserError: `num_mask` is below 5.

    References:
        [1] Du, Liu, Liu, Tang, Wu, Fu. Fast and Memory-Efficient Network Towards Efficient Image Super-Resolution. CVPR
            Workshops 2022. https://arxiv.org/abs/2204.08397

    Example:
        >>> import kdsr, torch
        >>> network = kdsr.archs.FMEN(upscale=2)
        >>> network(torch.rand(1, 3, 12, 10)).shape
        torch.Size([1, 3, 24, 20])
    """

    def __init__(
        self,
        upscale: int = 4,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 50,
        num_block: int = 4,
        num_mask: int = 16,
        num_pair: int = 2,
        img_range: float = 255.0,
    ) -> None:
        super().__init__()
        if num_mask <= NARROWER:
            raise UserError(f'`num_mask` must be above {NARROWER}, not {num_mask}.')
        self.upscale, self.img_range = upscale, img_range
        self.conv_first = nn.Conv2d(num_in_ch, num_feat, 3, 1, 1)
        start = nn.Sequential(
            nn.Conv2d(num_feat, num_feat, 3, 1, 1), FrequencyMask(num_feat, num_mask - NARROWER, num_pair)
        )
        blocks = [nn.Sequential(_build_pair(num_feat), FrequencyMask(num_feat, num_mask, 1)) for _ in range(num_block)]
        self.body = nn.Sequential(start, *blocks)
        self.conv_after_body = nn.Conv2d(num_feat, num_feat, 3, 1, 1)
        self.upsample = nn.Sequential(nn.Conv2d(num_feat, num_out_ch * upscale**2, 3, 1, 1), nn.PixelShuffle(upscale))

    def forward(self, x: Tensor) -> Tensor:
        """Return the super-resolved image (N, num_out_ch, S*h, S*w)."""
        first = self.conv_first(x * self.img_range)
        return self.upsample(self.conv_after_body(self.body(first)) + first) / self.img_range
