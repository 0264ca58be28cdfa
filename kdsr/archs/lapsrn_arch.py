"""LapSRN: a pyramid that doubles features and image until the scale is reached."""

from __future__ import annotations

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from kdsr.errors import UserError

SLOPE = 0.2


def _build_doubling(channels: int) -> nn.ConvTranspose2d:
    """Return a transposed convolution that starts as bilinear upsampling of every channel."""
    doubling = nn.ConvTranspose2d(channels, channels, 4, 2, 1, bias=False)
    tent = torch.tensor([0.25, 0.75, 0.75, 0.25])
    doubling.weight.data = torch.eye(channels)[..., None, None] * torch.outer(tent, tent)
    return doubling


class PyramidLevel(nn.Module):
    """One level of the pyramid.

        f' = act(up(body(f)));   y' = up(y) + conv(f')

    up is a transposed 4x4 convolution with stride 2; body has d times conv3x3, act. Nothing has a bias.

    Args:
        num_in_ch: C, channels of the image.
        num_feat: C', channels of the features.
        depth: d.

    Shape:
        input: features (N, C', h, w) and image (N, C, h, w); output: both with 2h and 2w.
    """

    def __init__(self, num_in_ch: int, num_feat: int, depth: int) -> None:
        super().__init__()
        layers = [nn.Conv2d(num_feat, num_feat, 3, 1, 1, bias=False) for _ in range(depth)]
        self.body = nn.ModuleList(layers)
        self.double_features = _build_doubling(num_feat)
        self.double_image = _build_doubling(num_in_ch)
        self.residual = nn.Conv2d(num_feat, num_in_ch, 3, 1, 1, bias=False)
        self.act = nn.LeakyReLU(SLOPE)

    def forward(self, features: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features and the image at twice the size."""
        for conv in self.body:
            features = self.act(conv(features))
        features = self.act(self.double_features(features))
        return features, self.double_image(image) + self.residual(features)


@ARCH_REGISTRY.register()
class LapSRN(nn.Module):
    """Laplacian pyramid super-resolution network [1], on luminance.

        f_0 = act(conv(x));  y_0 = x;  f_l, y_l = level_l(f_{l-1}, y_{l-1})     l = 1..log2(S)

    The result is the last y. The paper also trains the smaller ones; here they are not returned. Transposed
    convolutions start as bilinear upsampling.

    Parameters of twtygqyy's released file at x4: 870,112.

    Args:
        upscale: S: 2, 4 or 8.
        num_in_ch: Channels of input and output; 1 for luminance.
        num_feat: Channels of the features.
        num_block: Convolutions of a level.
        img_range: The network works internally on images in [0, img_range].

    Shape:
        input: (N, num_in_ch, h, w), in [0, 1], any size, by default the Y channel of BT.601; output:
        (N, num_in_ch, S*h, S*w).

    Raises:
        UserError: another `upscale`.

    References:
        [1] Lai, Huang, Ahuja, Yang. Deep Laplacian Pyramid Networks for Fast and Accurate Super-Resolution. CVPR 2017.
            https://arxiv.org/abs/1704.03915

    Example:
        >>> import kdsr, torch
        >>> network = kdsr.archs.LapSRN(upscale=2)
        >>> network(torch.rand(1, 1, 12, 10)).shape
        torch.Size([1, 1, 24, 20])
    """

    def __init__(
        self,
        upscale: int = 4,
        num_in_ch: int = 1,
        num_feat: int = 64,
        num_block: int = 10,
        img_range: float = 1.0,
    ) -> None:
        super().__init__()
        if upscale not in (2, 4, 8):
            raise UserError(f'`upscale` of LapSRN must be 2, 4 or 8, not {upscale}.')
        self.upscale, self.img_range = upscale, img_range
        self.conv_first = nn.Conv2d(num_in_ch, num_feat, 3, 1, 1, bias=False)
        self.act = nn.LeakyReLU(SLOPE)
        levels = upscale.bit_length() - 1
        self.levels = nn.ModuleList(PyramidLevel(num_in_ch, num_feat, num_block) for _ in range(levels))

    def forward(self, x: Tensor) -> Tensor:
        """Return the super-resolved image (N, num_in_ch, S*h, S*w)."""
        image = x * self.img_range
        features = self.act(self.conv_first(image))
        for level in self.levels:
            features, image = level(features, image)
        return image / self.img_range
