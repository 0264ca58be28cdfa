"""Contrast-aware channel attention, of IMDN and RFDN."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kdsr.errors import UserError


class ContrastAttention(nn.Module):
    """Scale every channel by a factor computed from its contrast and mean.

        y = x * sigmoid(W2 relu(W1 (std(x) + mean(x))))

    The mean and the population standard deviation are over the positions of a channel.

    Args:
        num_feat: C, channels.
        reduction: W1 maps to C // reduction channels.

    Shape:
        input and output: (N, C, h, w).

    Raises:
        UserError: `reduction` is below 1 or above `num_feat`.
    """

    def __init__(self, num_feat: int, reduction: int) -> None:
        super().__init__()
        if not 1 <= reduction <= num_feat:
            raise UserError(f'`cca_reduction` must be between 1 and {num_feat}, the channels, not {reduction}.')
        hidden = num_feat // reduction
        self.attention = nn.Sequential(
            nn.Conv2d(num_feat, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, num_feat, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled map."""
        # not a written-out square root, whose gradient is infinite for a constant channel
        std, mean = torch.std_mean(x, (2, 3), correction=0, keepdim=True)
        return x * self.attention(std + mean)
