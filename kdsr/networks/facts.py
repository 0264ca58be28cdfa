"""Facts about a network that need no images: parameters, input channels and size, scale."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from kdsr.experiment import window_of

SCALE_ARGUMENTS = ('upscale', 'scale', 'upscale_factor', 'upscaling_factor', 'sf')
CHANNEL_ARGUMENTS = ('num_in_ch', 'in_chans', 'in_nc', 'in_channels', 'num_in_channels', 'n_colors', 'input_channels')


def count_parameters(network: nn.Module) -> int:
    """Return how many parameters a network has, frozen and unused ones included, buffers not."""
    return sum(p.numel() for p in network.parameters())


def find_input_channels(network: nn.Module, network_opt: Mapping[str, Any] | None = None) -> int:
    """Return the number of channels that a network takes.

    The network's `input_channels` or its options say it. The first convolution does not where the network folds its
    input (BasicSR's RRDBNet at x2: 12) or repeats it (BSRN): such networks are tried with 3 channels, then with 1.

    Args:
        network: The network.
        network_opt: Its options.
    """
    given = [network_opt[name] for name in CHANNEL_ARGUMENTS if network_opt and name in network_opt]
    said = next((value for value in (getattr(network, 'input_channels', None), *given) if type(value) is int), None)
    if said is not None:
        return said
    first = next((p.shape[1] for p in network.parameters() if p.ndim == 4), 3)
    return first if first in (1, 3) else next((c for c in (3, 1) if _takes(network, c)), first)


@torch.no_grad()
def _takes(network: nn.Module, channels: int) -> bool:
    side = 48  # several windows of any common size
    parameter = next(network.parameters())
    try:
        network(torch.zeros(1, channels, side, side, dtype=parameter.dtype, device=parameter.device))
    except Exception:  # each network fails in its own way
        return False
    return True


def find_lr_shape(network: nn.Module, network_opt: Mapping[str, Any], size: Sequence[int]) -> tuple[int, int, int]:
    """Return (C, h, w) of a low-resolution input of (h, w), whole windows."""
    window = int(getattr(network, 'multiple', window_of(network_opt)))
    height, width = (-(-side // window) * window for side in size)
    return find_input_channels(network, network_opt), height, width


def scale_of(network: nn.Module, network_opt: Mapping[str, Any]) -> int:
    """Return the scale of a network: from its options, an attribute, or the default of its constructor; else 1."""
    for name in SCALE_ARGUMENTS:
        value = network_opt.get(name) or getattr(network, name, None) or _default(network, name)
        if type(value) is int:
            return value
    return 1


def _default(network: nn.Module, name: str) -> Any:
    parameter = inspect.signature(type(network).__init__).parameters.get(name)
    return None if parameter is None else parameter.default
