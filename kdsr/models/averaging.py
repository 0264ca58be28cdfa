"""Which tensors of an averaged network (EMA) follow those of the trained one, and how."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

STATISTICS = ('running_mean', 'running_var')


class Averages(NamedTuple):
    """Tensors of the averaged network beside those of the trained one.

    Attributes:
        averaged: Parameters and running statistics of the averaged network.
        current: Their counterparts in the trained network.
        copies: All other buffers of the averaged network.
        originals: Their counterparts.
    """

    averaged: list[Tensor]
    current: list[Tensor]
    copies: list[Tensor]
    originals: list[Tensor]


def pair_averages(average: nn.Module, network: nn.Module) -> Averages:
    """Pair the tensors of an averaged network with those of the trained one, by their names.

    Args:
        average: The averaged network.
        network: The trained network, of the same architecture.
    """
    parameters, buffers = dict(network.named_parameters()), dict(network.named_buffers())
    statistics = {
        f'{prefix}.{name}' if prefix else name
        for prefix, module in network.named_modules()
        for name in STATISTICS
        if isinstance(module, _NormBase) and getattr(module, name, None) is not None
    }
    pairs = Averages([], [], [], [])
    for name, parameter in average.named_parameters():
        pairs.averaged.append(parameter)
        pairs.current.append(parameters[name])
    for name, tensor in average.named_buffers():
        follows = name in statistics
        (pairs.averaged if follows else pairs.copies).append(tensor)
        (pairs.current if follows else pairs.originals).append(buffers[name])
    return pairs
