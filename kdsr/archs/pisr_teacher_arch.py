"""PISR's teacher: it sees the image that is to be restored, through an encoder as narrow as the small image."""

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
    """Hourglass of an encoder and a decoder, the decoder being the student's network ([1], Sec. 3.1).

        x = encoder(y):  conv5x5, conv5x5 with stride S, conv3x3, conv3x3, a PReLU after each but the last
        y' = decoder(x)

    The encoder's output x is at the module path `encoder`, the decoder's features at `decoder.<path in the student>`.

    Parameters, as published: 98,728 with FSRCNN, 86,084 of them in the encoder.

    Args:
        upscale: S.
        decoder: `type` and arguments of the student's network; FSRCNN when left out. Its `upscale` is S.
        num_in_ch: Channels of the image and of x; 1 for luminance.
        num_feat: Width of the encoder's first two convolutions.
        num_shrink: Width of the third.

    Shape:
        input: the ground truth (N, num_in_ch, H, W), in [0, 1]; output: (N, num_in_ch, H, W), the same; x:
        (N, num_in_ch, H/S, W/S), any range. Sides that are no multiples of S come out as the next larger ones.

    Raises:
        ValueError: `decoder` does not fit its network, or is one for another scale.

    References:
        [1] Lee, Lee, Kim, Ham. Learning with Privileged Information for Efficient Image Super-Resolution. ECCV 2020.
            https://arxiv.org/abs/2007.07524
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
            raise UserError(
                f'`decoder.upscale: {network["upscale"]}` must be the `upscale: {upscale}` around it; it may be left '
                'out.'
            )
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
