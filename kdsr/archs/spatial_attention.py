"""Enhanced spatial attention, of E-RFDN, BSRN, EFDN and RLFN."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdsr.errors import UserError

SMALLEST = 15  # a smaller map has no 7x7 window for the pooling
MakeConv = Callable[[int, int, int, int, int], nn.Module]  # channels in and out, kernel size, stride, padding


class SpatialAttention(nn.Module):
    """Enhanced spatial attention (ESA): a mask from a few channels at about a sixth of the size.

        c = conv1x1(x)
        p = maxpool_{7,3}(conv3x3_{stride 2}(c))
        m = conv3x3(act(conv3x3(act(conv3x3(p)))))          RLFN: m = conv3x3(p)
        y = x * sigmoid(conv1x1(resize(m) + conv1x1(c)))

    Args:
        num_feat: C, channels.
        hidden: Channels of the mask; C // 4 when None.
        deep: Three convolutions after the pooling; one without (RLFN).
        conv: Makes the 3x3 convolutions.
        activation: Between these.

    Shape:
        input and output: (N, C, h, w), with h and w at least 15.
    """

    def __init__(
        self,
        num_feat: int,
        hidden: int | None = None,
        deep: bool = True,
        conv: MakeConv = nn.Conv2d,
        activation: Callable[[Tensor], Tensor] = F.relu,
    ) -> None:
        super().__init__()
        hidden = num_feat // 4 if hidden is None else hidden
        self.activation = activation
        self.conv1 = nn.Conv2d(num_feat, hidden, 1)
        self.conv_f = nn.Conv2d(hidden, hidden, 1)
        self.conv_max = conv(hidden, hidden, 3, 1, 1) if deep else None
        self.conv2 = conv(hidden, hidden, 3, 2, 0)
        self.conv3 = conv(hidden, hidden, 3, 1, 1)
        self.conv3_ = conv(hidden, hidden, 3, 1, 1) if deep else None
        self.conv4 = nn.Conv2d(hidden, num_feat, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the masked map."""
        narrow = self.conv1(x)
        small = F.max_pool2d(self.conv2(narrow), 7, 3)
        if self.conv_max is not None:
            small = self.activation(self.conv_max(small))
        small = self.conv3(small)
        if self.conv3_ is not None:
            small = self.conv3_(self.activation(small))
        mask = F.interpolate(small, x.shape[-2:], mode='bilinear', align_corners=False)
        return x * torch.sigmoid(self.conv4(mask + self.conv_f(narrow)))


def refuse_small_images(image: Tensor, network: str) -> None:
    """Refuse an image that is too small for the pooling of the attention.

    Args:
        image: (N, C, h, w).
        network: Its name, for the message.

    Raises:
        UserError: h or w is below 15.
    """
    if min(image.shape[-2:]) < SMALLEST:
        raise UserError(f'{network} needs images of at least {SMALLEST}x{SMALLEST} pixels, not {tuple(image.shape)}.')
