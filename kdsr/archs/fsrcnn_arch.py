"""FSRCNN: thin layers on the small image, and one transposed convolution."""

from __future__ import annotations

from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from kdsr.archs.transposed_conv import EnlargingConvTranspose2d, fast_layout


def _conv_prelu(num_in: int, num_out: int, kernel_size: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(num_in, num_out, kernel_size, padding=kernel_size // 2), nn.PReLU())


@ARCH_REGISTRY.register()
class FSRCNN(nn.Module):
    """Accelerated super-resolution network [1], with the settings of PISR [2].

        f = conv1x1_{s->d}(mapping(conv1x1_{d->s}(conv5x5(x))))     each convolution with a PReLU
        y = conv_transposed9x9(f)                                   stride S; conv9x9(f) if S is 1

    S = 1 is PISR's teacher without hourglass, whose input is the ground truth itself ([2], Table 1).

    Every PReLU has one slope for all channels. [1] has one slope per channel, which would give 12,809 parameters.

    Published parameters: 12,644 at every scale; 125,504 for FSRCNN-L (`num_shrink` 56).

    Args:
        upscale: S, 1 to 9.
        num_in_ch: Channels of the input; 1 for luminance.
        num_out_ch: Channels of the output.
        num_feat: d, 56.
        num_shrink: s, 12; 56 for FSRCNN-L.
        num_map: Number of 3x3 convolutions with s channels.
        img_range: The network works internally on images in [0, img_range].

    Shape:
        input: (N, num_in_ch, h, w), in [0, 1], any size, by default the Y channel of BT.601 (16..235, divided by 255);
        output: (N, num_out_ch, S*h, S*w), the same range.

    References:
        [1] Dong, Loy, Tang. Accelerating the Super-Resolution Convolutional Neural Network. ECCV 2016.
            https://arxiv.org/abs/1608.00367
        [2] Lee, Lee, Kim, Ham. Learning with Privileged Information for Efficient Image Super-Resolution. ECCV 2020.
            https://arxiv.org/abs/2007.07524

    Example:
        >>> import kdsr, torch
        >>> network = kdsr.archs.FSRCNN(upscale=2)
        >>> network(torch.rand(1, 1, 12, 10)).shape
        torch.Size([1, 1, 24, 20])
    """

    def __init__(
        self,
        upscale: int = 4,
        num_in_ch: int = 1,
        num_out_ch: int = 1,
        num_feat: int = 56,
        num_shrink: int = 12,
        num_map: int = 4,
        img_range: float = 1.0,
    ) -> None:
        super().__init__()
        self.upscale, self.img_range = upscale, img_range
        self.feature_extraction = _conv_prelu(num_in_ch, num_feat, 5)
        self.shrinking = _conv_prelu(num_feat, num_shrink, 1)
        self.mapping = nn.Sequential(*[_conv_prelu(num_shrink, num_shrink, 3) for _ in range(num_map)])
        self.expanding = _conv_prelu(num_shrink, num_feat, 1)
        self.last_layer: nn.Module = (
            nn.Conv2d(num_feat, num_out_ch, 9, padding=4)
            if upscale == 1
            else EnlargingConvTranspose2d(num_feat, num_out_ch, 9, upscale)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the super-resolved image (N, num_out_ch, S*h, S*w)."""
        x = self.shrinking(self.feature_extraction(fast_layout(x * self.img_range)))
        return self.last_layer(self.expanding(self.mapping(x))) / self.img_range
