"""Trainable helpers that bring a student's feature to the width of a teacher's."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from kdsr.errors import UserError, check_choice

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    'relu': nn.ReLU,
    'prelu': nn.PReLU,
    'lrelu': lambda: nn.LeakyReLU(0.1),
    'none': nn.Identity,
}


def helper_key(feature: str) -> str:
    """Return the key of a feature's helper in an `nn.ModuleDict`, which takes no dots and no names of its methods."""
    return 'of_' + feature.replace('.', '/')


def activation(act: str) -> nn.Module:
    """Return a new activation layer.

    Args:
        act: 'relu'; 'prelu' (one learnt slope for all channels, 0.25 at first); 'lrelu' (slope 0.1); 'none'.

    Raises:
        ValueError: unknown `act`.
    """
    check_choice('act', act, tuple(ACTIVATIONS))
    return ACTIVATIONS[act]()


class ConvRegressor(nn.Sequential):
    """Convolutions of stride 1 that keep the size: C_S -> C_T, then C_T -> C_T, an activation after each but the last.

        FitNet:     kernel_size 1, num_layers 1, act 'relu', act_last True
        LFD, FACD:  kernel_size 3 or 1, num_layers 5, act 'prelu'

    Args:
        in_channels: C_S, of the student's feature.
        out_channels: C_T, of the teacher's.
        kernel_size: Odd.
        num_layers: Number of convolutions.
        act: 'relu', 'prelu', 'lrelu' or 'none'; every layer has its own.
        act_last: Put an activation after the last convolution too.

    Shape:
        input: (N, C_S, H, W), any range; output: (N, C_T, H, W).

    Raises:
        ValueError: unknown `act`, even `kernel_size`, `num_layers` below 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        num_layers: int = 1,
        act: str = 'relu',
        act_last: bool = False,
    ) -> None:
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise UserError(f'`kernel_size` must be odd, or the map would change its size; it is {kernel_size}.')
        if num_layers < 1:
            raise UserError(f'`num_layers` must be at least 1, not {num_layers}.')
        layers: list[nn.Module] = []
        for i in range(num_layers):
            channels = in_channels if i == 0 else out_channels
            layers.append(nn.Conv2d(channels, out_channels, kernel_size, padding=kernel_size // 2))
            layers.append(activation(act))
        super().__init__(*(layers if act_last else layers[:-1]))
