"""EFDN: cells of plain convolutions with spatial attention, fused pair by pair."""

from __future__ import annotations

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from kdsr.archs.spatial_attention import SpatialAttention, refuse_small_images
from kdsr.errors import UserError


class EdgeCell(nn.Module):
    """Cell of EFDN, in the form for inference.

        h_1 = prelu(conv1x1(x));  h_2 = prelu(conv3x3(h_1));  h_3 = prelu(conv3x3(h_2))
        y = x + attention(conv1x1(concat[W_0 x, W_1 h_1, W_2 h_2, W_3 h_3]))

    Every W is a 1x1 convolution to half of the channels.

    Args:
        num_feat: C, channels.

    Shape:
        input and output: (N, C, h, w).
    """

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.refine = nn.ModuleList(
            nn.Sequential(nn.Conv2d(num_feat, num_feat, size, 1, size // 2), nn.PReLU(num_feat)) for size in (1, 3, 3)
        )
        self.distill = nn.ModuleList(nn.Conv2d(num_feat, num_feat // 2, 1) for _ in range(4))
        self.fuse = nn.Conv2d(4 * (num_feat // 2), num_feat, 1)
        self.attention = SpatialAttention(num_feat)

    def forward(self, x: Tensor) -> Tensor:
        """Return the cell's features."""
        maps = [x]
        for layer in self.refine:
            maps.append(layer(maps[-1]))
        halves = [conv(each) for conv, each in zip(self.distill, maps)]
        return x + self.attention(self.fuse(torch.cat(halves, 1)))


@ARCH_REGISTRY.register()
class EFDN(nn.Module):
    """Edge-enhanced feature distillation network [1], with its blocks merged into plain convolutions.

        f = conv(x);  b_1 = cell_1(f);  b_2 = cell_2(b_1);  b_3 = cell_3(F_1[b_1, b_2]);  b_4 = cell_4(F_2[b_2, b_3])
        y = shuffle_S(conv(f + F_3[b_2, b_4]))

    Every F is a 1x1 convolution of two concatenated maps. F_3 takes b_2 and b_4, as the released code and weights do.
    The authors train several parallel branches for each 3x3 convolution and merge them afterwards. This is the merged
    network; it can be trained as it is.

    Published parameters: 260,604 at x2, 276,192 at x4.

    Args:
        upscale: S.
        num_in_ch: Channels of the input, RGB.
        num_out_ch: Channels of the output.
        num_feat: C, an even number.
        img_range: The network works internally on images in [0, img_range]; the published weights need 1.

    Shape:
        input: (N, num_in_ch, h, w), in [0, 1], at least 15x15; output: (N, num_out_ch, S*h, S*w).

    Raises:
        UserError: less than 4 channels, or an image that is too small.

    References:
        [1] Wang. Edge-enhanced Feature Distillation Network for Efficient Super-Resolution. CVPR Workshops 2022.
            https://arxiv.org/abs/2204.08759

    Example:
        >>> import kdsr, torch
        >>> network = kdsr.archs.EFDN(upscale=2)
        >>> network(torch.rand(1, 3, 16, 20)).shape
        torch.Size([1, 3, 32, 40])
    """

    def __init__(
        self,
        upscale: int = 4,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 48,
        img_range: float = 1.0,
    ) -> None:
        super().__init__()
        if num_feat < 4:
            raise UserError(f'`num_feat` must be at least 4, not {num_feat}.')
        self.upscale, self.img_range = upscale, img_range
        self.conv_first = nn.Conv2d(num_in_ch, num_feat, 3, 1, 1)
        self.body = nn.ModuleList(EdgeCell(num_feat) for _ in range(4))
        self.fuse = nn.ModuleList(nn.Conv2d(2 * num_feat, num_feat, 1) for _ in range(3))
        self.upsample = nn.Sequential(nn.Conv2d(num_feat, num_out_ch * upscale**2, 3, 1, 1), nn.PixelShuffle(upscale))

    def forward(self, x: Tensor) -> Tensor:
        """Return the super-resolved image (N, num_out_ch, S*h, S*w)."""
        refuse_small_images(x, 'EFDN')
        first = self.conv_first(x * self.img_range)
        out_1 = self.body[0](first)
        out_2 = self.body[1](out_1)
        out_3 = self.body[2](self.fuse[0](torch.cat([out_1, out_2], 1)))
        out_4 = self.body[3](self.fuse[1](torch.cat([out_2, out_3], 1)))
        trunk = self.fuse[2](torch.cat([out_2, out_4], 1)) + first
        return self.upsample(trunk) / self.img_range
