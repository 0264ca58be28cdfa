"""Facts about a network that need no images: parameters, input channels and size, scale."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from kdsr.experiment import window_of


def count_parameters(network: nn.Module) -> int:
    """Return how many parameters a network has, frozen and unused ones included, buffers not."""
    return sum(p.numel() for p in network.parameters())


def find_input_channels(network: nn.Module) -> int:
    """Return the number of input channels: the network's `input_channels`, or else those of its first convolution."""
    said = getattr(network, 'input_channels', None)
    return said or next((p.shape[1] for p in network.parameters() if p.ndim == 4), 3)


def find_lr_shape(network: nn.Module, network_opt: Mapping[str, Any], size: Sequence[int]) -> tuple[int, int, int]:
    """Return (C, h, w) of a low-resolution input of (h, w), whole windows."""
    window = int(getattr(network, 'multiple', window_of(network_opt)))
    height, width = (-(-side // window) * window for side in size)
    return find_input_channels(network), height, width


def scale_of(network: nn.Module, network_opt: Mapping[str, Any]) -> int:
    """Return the scale of a network: from its options, its attribute `upscale`, or its default."""
    return int(network_opt.get('upscale') or getattr(network, 'upscale', None) or _find_default_scale(network))


def _find_default_scale(network: nn.Module) -> int:
    parameter = inspect.signature(type(network).__init__).parameters.get('upscale')
    return parameter.default if parameter is not None and isinstance(parameter.default, int) else 1
