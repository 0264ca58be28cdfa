"""RLFN: residual blocks of three convolutions with spatial attention; no feature distillation."""

from __future__ import annotations

from itertools import pairwise

from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from kdsr.archs.spatial_attention import SpatialAttention, refuse_small_images

SLOPE = 0.05


class ResidualLocalBlock(nn.Module):
    """Residual local feature block (RLFB).

        r = act(conv3x3(act(conv3x3(act(conv3x3(x))))));   y = attention(conv1x1(x + r))

    Args:
        num_feat: C, channels.
        num_mid: Channels between the convolutions.
        num_attention: Channels inside the attention.

    Shape:
        input and output: (N, C, h, w).
    """

    def __init__(self, num_feat: int, num_mid: int, num_attention: int) -> None:
        super().__init__()
        widths = (num_feat, num_mid, num_mid, num_feat)
        self.refine = nn.ModuleList(nn.Conv2d(a, b, 3, 1, 1) for a, b in pairwise(widths))
        self.fuse = nn.Conv2d(num_feat, num_feat, 1)
        self.attention = SpatialAttention(num_feat, num_attention, deep=False)
        self.act = nn.LeakyReLU(SLOPE)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's features."""
        refined = x
        for conv in self.refine:
            refined = self.act(conv(refined))
        return self.attention(self.fuse(x + refined))


@ARCH_REGISTRY.register()
class RLFN(nn.Module):
    """Residual local feature network [1].

        f = conv(x);  y = shuffle_S(conv(f + conv(block_n(... block_1(f)))))

    Published parameters at x2 / x4: RLFN (the default) 526,856 / 543,740; RLFN-S (`num_feat` 48) 454,620 / 470,208;
    the entry to NTIRE 2022 (`num_feat` 46, `num_mid` 48, `num_block` 4) 317,218 at x4.

    Args:
        upscale: S.
        num_in_ch: Channels of the input, RGB.
        num_out_ch: Channels of the output.
        num_feat: C, 52; 48 for RLFN-S.
        num_block: n.
        num_mid: Channels between the convolutions of a block; `num_feat` when None.
        num_attention: Channels inside the spatial attention.
        img_range: The network works internally on images in [0, img_range]; the published weights need 255.

    Shape:
        input: (N, num_in_ch, h, w), in [0, 1], at least 15x15; output: (N, num_out_ch, S*h, S*w).

    Raises:
        UserError: the image is too small.

    References:
        [1] Kong et al. Residual Local Feature Network for Efficient Super-Resolution. CVPR Workshops 2022.
            https://arxiv.org/abs/2205.07514

    Example:
        >>> import kdsr, torch
        >>> network = kdsr.archs.RLFN(upscale=2)
        >>> network(torch.rand(1, 3, 16, 20)).shape
        torch.Size([1, 3, 32, 40])
    """

    def __init__(
        self,
        upscale: int = 4,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 52,
        num_block: int = 6,
        num_mid: int | None = None,
        num_attention: int = 16,
        img_range: float = 255.0,
    ) -> None:
        super().__init__()
        self.upscale, self.img_range = upscale, img_range
        num_mid = num_feat if num_mid is None else num_mid
        self.conv_first = nn.Conv2d(num_in_ch, num_feat, 3, 1, 1)
        self.body = nn.Sequential(*[ResidualLocalBlock(num_feat, num_mid, num_attention) for _ in range(num_block)])
        self.conv_after_body = nn.Conv2d(num_feat, num_feat, 3, 1, 1)
        self.upsample = nn.Sequential(nn.Conv2d(num_feat, num_out_ch * upscale**2, 3, 1, 1), nn.PixelShuffle(upscale))

    def forward(self, x: Tensor) -> Tensor:
        """Return the super-resolved image (N, num_out_ch, S*h, S*w)."""
        refuse_small_images(x, 'RLFN')
        first = self.conv_first(x * self.img_range)
        return self.upsample(self.conv_after_body(self.body(first)) + first) / self.img_range
