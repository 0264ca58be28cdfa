"""Channels of equal size between two convolutions, for networks whose activations get one range for all channels.

For a convolution A, an activation f with f(s x) = s f(x) for s > 0 (ReLU, LeakyReLU, PReLU), and a convolution B:

    B(f(A(x))) = B'(f(A'(x)))      A' = s A by output channel, B' = B / s by input channel

The network's function stays. With s_c = sqrt(max_c a_c / a_c), where a_c is the largest value of channel c, small
channels get more of the 256 levels, and the weights of B do not become as unequal as with s_c = max_c a_c / a_c.

References:
    Nagel, van Baalen, Blankevoort, Welling. Data-Free Quantization Through Weight Equalization and Bias Correction.
    ICCV 2019 (equalises the ranges of the weights instead). https://arxiv.org/abs/1906.04721
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

_HOMOGENEOUS = (nn.ReLU, nn.LeakyReLU, nn.PReLU)
_LARGEST = 16.0  # factor of a channel
_TOLERANCE = 1e-4  # of the output's largest value: more than rounding means that the tensor has another reader


@dataclass(frozen=True)
class _Pair:
    """Two convolutions with at most an activation in between, and the largest value of each channel."""

    first: nn.Conv2d
    second: nn.Conv2d
    largest: Tensor


def equalise_channels(network: nn.Module, image: Tensor) -> int:
    """Scale the channels between neighbouring convolutions; the network's function stays.

    A pair whose scaling changes the output, because something else reads its tensor, is left as it was.

    Args:
        network: Changed in place.
        image: Example of its input, (N, C, h, w), which shows how large the channels get.

    Returns:
        How many pairs were scaled.
    """
    training = network.training
    network.eval()
    scaled = 0
    with torch.no_grad():
        expected = network(image)
        allowed = _TOLERANCE * float(expected.abs().max())
        for pair in _find_pairs(network, image):
            factors = (pair.largest.max() / pair.largest.clamp(min=1e-12)).sqrt().clamp(max=_LARGEST)
            before = [p.clone() for p in (pair.first.weight, pair.second.weight)]
            bias = None if pair.first.bias is None else pair.first.bias.clone()
            pair.first.weight.mul_(factors.view(-1, 1, 1, 1))
            pair.second.weight.div_(factors.view(1, -1, 1, 1))
            if pair.first.bias is not None:
                pair.first.bias.mul_(factors)
            if float((network(image) - expected).abs().max()) <= allowed:
                scaled += 1
                continue
            pair.first.weight.copy_(before[0])
            pair.second.weight.copy_(before[1])
            if pair.first.bias is not None and bias is not None:
                pair.first.bias.copy_(bias)
    network.train(training)
    return scaled


def _find_pairs(network: nn.Module, image: Tensor) -> list[_Pair]:
    """Return the pairs of convolutions where the second reads what the first one or its activation gives."""
    made: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # id of a tensor to what made it, and its channels' largest values
    pairs: list[_Pair] = []
    kept: list[Tensor] = []  # so that no later tensor gets the id of an earlier one

    def remember(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        source = made.get(id(inputs[0]))
        kept.extend((inputs[0], output))
        if isinstance(module, nn.Conv2d):
            if source is not None and module.groups == 1:
                pairs.append(_Pair(source[0], module, source[1]))
            made[id(output)] = (module, output.abs().amax((0, 2, 3)))
        elif source is not None:
            made[id(output)] = source

    hooks = [m.register_forward_hook(remember) for m in network.modules() if isinstance(m, (nn.Conv2d, *_HOMOGENEOUS))]
    try:
        network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return pairs
