"""VDSR: twenty convolutions that correct the bicubic image."""

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

    The same weights serve every scale. The bicubic upsampling is part of the network, so that its input is the small
    image as for any other network. It is MATLAB's bicubic, with which the published weights were trained.

    The weights are initialised as in [1], after He et al. PyTorch's default initialisation at least halves the signal
    in each of the twenty layers, and the network learns nothing.

    Published parameters: 664,704 at every scale; the convolutions have no bias.

    Args:
        upscale: S, any integer from 1; 1 for images that are already upsampled.
        num_in_ch: Channels of input and output; 1 for luminance.
        num_feat: Channels.
        num_block: Number of convolutions between the first and the last one.
        img_range: The convolutions work on images in [0, img_range].

    Shape:
        input: (N, num_in_ch, h, w), in [0, 1], any size, by default the Y channel of BT.601; output:
        (N, num_in_ch, S*h, S*w). Features have the size of the output.

    Raises:
        UserError: `upscale` is below 1.

    References:
        [1] Kim, Lee, Lee. Accurate Image Super-Resolution Using Very Deep Convolutional Networks. CVPR 2016.
            https://arxiv.org/abs/1511.04587

    Example:
        >>> import kdsr, torch
        >>> network = kdsr.archs.VDSR(upscale=2)
        >>> network(torch.rand(1, 1, 12, 10)).shape
        torch.Size([1, 1, 24, 20])
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
        """Return the super-resolved image (N, num_in_ch, S*h, S*w)."""
        x = self.bicubic(x)
        return x + self.conv_last(self.body(self.conv_first(x * self.img_range))) / self.img_range
