"""VDSR: twenty convolutions that correct the bicubically enlarged image."""

from __future__ import annotations

from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from kdsr.archs.bicubic import BicubicUpsample


def _conv_relu(num_in: int, num_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(num_in, num_out, 3, 1, 1, bias=False), nn.ReLU())


@ARCH_REGISTRY.register()
class VDSR(nn.Module):
    """Very deep super-resolution network [1].

        b = bicubic_S(x);  y = b + conv(body(relu(conv(b))))

    One set of weights serves every scale. The enlargement is inside the network, so that it takes the small image like
    any other network; it is MATLAB's bicubic, which the published weights were trained on.

    Weights start as in [1], after He et al. PyTorch's own start halves the signal, or worse, in each of
    twenty layers, so that nothing is learnt.

    Parameters, as published: 664,704 at every scale; the convolutions have no bias.

    Args:
        upscale: S, any integer from 1; 1 for images that are enlarged already.
        num_in_ch: Channels of input and output; 1 for luminance.
        num_feat: Width.
        num_block: Convolutions between the first and the last one.
        img_range: The convolutions work on images in [0, img_range].

    Shape:
        input: (N, num_in_ch, h, w), in [0, 1], by default the Y channel of BT.601; output: (N, num_in_ch, S*h, S*w).
        Any size. The features are at the size of the output.

    References:
        [1] Kim, Lee, Lee. Accurate Image Super-Resolution Using Very Deep Convolutional Networks. CVPR 2016.
            https://arxiv.org/abs/1511.04587
    """

    def __init__(
        self,
        upscale: int = 4,
        num_in_ch: int = 1,
        num_feat: int = 64,
        num_block: int = 18,
        img_range: float = 1.0,
    ) -> None:
        super().__init__()
        self.upscale, self.img_range = upscale, img_range
        self.bicubic = BicubicUpsample(upscale)
        self.conv_first = _conv_relu(num_in_ch, num_feat)
        self.body = nn.Sequential(*[_conv_relu(num_feat, num_feat) for _ in range(num_block)])
        self.conv_last = nn.Conv2d(num_feat, num_in_ch, 3, 1, 1, bias=False)
        for parameter in self.parameters():
            nn.init.kaiming_normal_(parameter, nonlinearity='relu')

    def forward(self, x: Tensor) -> Tensor:
        """Return the enlarged image (N, num_in_ch, S*h, S*w)."""
        x = self.bicubic(x)
        return x + self.conv_last(self.body(self.conv_first(x * self.img_range))) / self.img_range
