"""PISR's teacher: an encoder squeezes the ground truth into a small image, and a decoder restores it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from kdsr.archs.transposed_conv import fast_layout
from kdsr.distillation.building import build_network_at
from kdsr.errors import UserError


@ARCH_REGISTRY.register()
class PISRTeacher(nn.Module):
    """Hourglass of an encoder and a decoder; the decoder is the student's network ([1], Sec. 3.1).

        x = encoder(y):  conv5x5, conv5x5 with stride S, conv3x3, conv3x3, a PReLU after each but the last
        y' = decoder(x)

    The module path of the encoder's output x is `encoder`; the decoder's features are `decoder.<path in the student>`.

    Published parameters: 98,728 with FSRCNN, of which the encoder has 86,084.

    Args:
        upscale: S.
        decoder: `type` and arguments of the student's network. Default: FSRCNN. Its `upscale` is S.
        num_in_ch: Channels of the image and of x; 1 for luminance.
        num_feat: Channels of the encoder's first two convolutions.
        num_shrink: Channels of the third.

    Shape:
        input: the ground truth (N, num_in_ch, H, W), in [0, 1]; output: (N, num_in_ch, H, W), the same range; x:
        (N, num_in_ch, H/S, W/S), any range. Sides that are not multiples of S become the next larger multiples.

    Raises:
        UserError: the options of `decoder` do not fit its network, or its scale is another one.

    References:
        [1] Lee, Lee, Kim, Ham. Learning with Privileged Information for Efficient Image Super-Resolution. ECCV 2020.
            https://arxiv.org/abs/2007.07524

    Example:
        >>> import kdsr, torch
        >>> network = kdsr.archs.PISRTeacher(upscale=2)
        >>> network(torch.rand(1, 1, 24, 20)).shape
        torch.Size([1, 1, 24, 20])
    """

    def __init__(
        self,
        upscale: int = 4,
        decoder: Mapping[str, Any] | None = None,
        num_in_ch: int = 1,
        num_feat: int = 56,
        num_shrink: int = 12,
    ) -> None:
        super().__init__()
        network = {'upscale': upscale, **(decoder or {'type': 'FSRCNN'})}
        if network['upscale'] != upscale:
            raise UserError(f'`decoder.upscale: {network["upscale"]}` must equal `upscale: {upscale}`, or be left out.')
        self.upscale = upscale
        self.encoder = nn.Sequential(
            nn.Conv2d(num_in_ch, num_feat, 5, padding=2),
            nn.PReLU(),
            nn.Conv2d(num_feat, num_feat, 5, upscale, padding=2),
            nn.PReLU(),
            nn.Conv2d(num_feat, num_shrink, 3, padding=1),
            nn.PReLU(),
            nn.Conv2d(num_shrink, num_in_ch, 3, padding=1),
        )
        self.decoder = build_network_at('decoder', network)

    def forward(self, y: Tensor) -> Tensor:
        """Return the restored image (N, num_in_ch, H, W)."""
        return self.decoder(self.encoder(fast_layout(y)))
