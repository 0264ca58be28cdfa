"""BSRN: RFDN's blocks with blueprint separable convolutions and two attentions."""

from __future__ import annotations

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from kdsr.archs.contrast_attention import ContrastAttention
from kdsr.archs.rfdn_arch import FeatureDistillationBlock
from kdsr.archs.spatial_attention import SpatialAttention, refuse_small_images
from kdsr.errors import UserError

COPIES = 4  # of the image, at the input


class BlueprintConv(nn.Module):
    """Blueprint separable convolution (BSConv-U): a 1x1 convolution without bias, then one kernel for each channel.

    Args:
        num_in: C, channels of the input.
        num_out: C', channels of the output.
        kernel: Side of the kernels.
        stride: Step of the kernels.
        padding: Zeros around the map.

    Shape:
        input: (N, C, h, w); output: (N, C', h', w').
    """

    def __init__(self, num_in: int, num_out: int, kernel: int = 3, stride: int = 1, padding: int = 1) -> None:
        super().__init__()
        self.pw = nn.Conv2d(num_in, num_out, 1, bias=False)
        self.dw = nn.Conv2d(num_out, num_out, kernel, stride, padding, groups=num_out)

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolved map."""
        return self.dw(self.pw(x))


def _build_block(num_feat: int, reduction: int) -> FeatureDistillationBlock:
    attention = nn.Sequential(
        SpatialAttention(num_feat, conv=BlueprintConv, activation=F.gelu), ContrastAttention(num_feat, reduction)
    )
    return FeatureDistillationBlock(
        num_feat, num_feat // 2, identity=True, attention=attention, conv=BlueprintConv, activation=nn.GELU()
    )


@ARCH_REGISTRY.register()
class BSRN(nn.Module):
    """Blueprint separable residual network [1].

        f = bsconv(concat[x, x, x, x]);  b_i = b_{i-1} + contrast(spatial(rfdb(b_{i-1}))), b_0 = f
        y = shuffle_S(conv(f + bsconv(gelu(conv1x1(concat[b_1, ..., b_n])))))

    rfdb is the block of :class:`~kdsr.archs.rfdn_arch.RFDN` without its attention, with GELU and with BSConv-U for the
    3x3 convolutions; spatial is that of E-RFDN, contrast that of IMDN.

    Published parameters at x2 / x3 / x4: 331,628 / 340,283 / 352,400. BSRN-S, the authors' entry to NTIRE 2022, is
    another network.

    The authors' own file registers the name BSRN, too. With `import_modules: [BSRN_arch]` the name means theirs.

    Args:
        upscale: S.
        num_in_ch: Channels of the input, RGB.
        num_out_ch: Channels of the output.
        num_feat: C, an even number.
        num_block: n.
        cca_reduction: Channel reduction of the contrast-aware attention.
        img_range: The network works internally on images in [0, img_range]; the published weights need 1.

    Shape:
        input: (N, num_in_ch, h, w), in [0, 1], at least 15x15; output: (N, num_out_ch, S*h, S*w).

    Raises:
        UserError: less than 4 channels, a `cca_reduction` that does not fit, or an image that is too small.

    References:
        [1] Li et al. Blueprint Separable Residual Network for Efficient Image Super-Resolution. CVPR Workshops 2022.
            https://arxiv.org/abs/2205.05996

    Example:
        >>> import kdsr, torch
        >>> network = kdsr.archs.BSRN(upscale=2)
        >>> network(torch.rand(1, 3, 16, 20)).shape
        torch.Size([1, 3, 32, 40])
    """

    def __init__(
        self,
        upscale: int = 4,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 64,
        num_block: int = 8,
        cca_reduction: int = 16,
        img_range: float = 1.0,
    ) -> None:
        super().__init__()
        if num_feat < 4:
            raise UserError(f'`num_feat` must be at least 4, not {num_feat}.')
        self.upscale, self.img_range, self.input_channels = upscale, img_range, num_in_ch
        self.conv_first = BlueprintConv(COPIES * num_in_ch, num_feat)
        self.body = nn.ModuleList(_build_block(num_feat, cca_reduction) for _ in range(num_block))
        self.fuse = nn.Sequential(nn.Conv2d(num_feat * num_block, num_feat, 1), nn.GELU())
        self.conv_after_body = BlueprintConv(num_feat, num_feat)
        self.upsample = nn.Sequential(nn.Conv2d(num_feat, num_out_ch * upscale**2, 3, 1, 1), nn.PixelShuffle(upscale))

    def forward(self, x: Tensor) -> Tensor:
        """Return the super-resolved image (N, num_out_ch, S*h, S*w)."""
        refuse_small_images(x, 'BSRN')
        first = block_out = self.conv_first(torch.cat([x * self.img_range] * COPIES, 1))
        outputs = []
        for block in self.body:
            block_out = block(block_out) + block_out
            outputs.append(block_out)
        trunk = self.conv_after_body(self.fuse(torch.cat(outputs, 1))) + first
        return self.upsample(trunk) / self.img_range
