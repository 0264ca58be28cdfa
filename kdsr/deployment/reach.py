"""How far a network looks: the pixels round an output pixel on which it can depend."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

_SIDE = 48
_aten = torch.ops.aten
# What an output pixel takes from the pixel at its own place only.
_POINTWISE = {
    _aten.add, _aten.sub, _aten.mul, _aten.div, _aten.relu, _aten.relu_, _aten.leaky_relu, _aten.leaky_relu_,
    _aten._prelu_kernel, _aten.prelu, _aten.sigmoid, _aten.tanh, _aten.gelu, _aten.silu, _aten.silu_, _aten.add_,
    _aten.mul_, _aten.div_, _aten.sub_, _aten.hardtanh, _aten.hardtanh_, _aten.clamp, _aten.clone, _aten._to_copy,
    _aten.cat, _aten.split, _aten.split_with_sizes, _aten.chunk, _aten.alias, _aten.detach,
    _aten.pixel_shuffle, _aten.upsample_nearest2d,
}  # fmt: skip


def reach_of(network: nn.Module, channels: int) -> int | None:
    """Return how many low-resolution pixels a network looks far, at most.

    Only what is known to look at a place and its neighbours is followed: convolutions without stride, pointwise
    functions, shuffles. A network with anything else (pooling, attention, windows) is unknown.

    Args:
        network: Maps (N, C, h, w) to (N, C, S*h, S*w); on the CPU.
        channels: C.

    Returns:
        Pixels, or None.
    """
    tracker = _Tracker()
    image = torch.zeros(1, channels, _SIDE, _SIDE)
    tracker.note(image, 0.0)
    try:
        with torch.no_grad(), tracker:
            output = network(image)
    except Exception:  # a network that needs other sizes, or an operation that cannot be followed
        return None
    found = tracker.reach.get(id(output))
    return None if found is None else int(-(-found // 1))


class _Tracker(TorchDispatchMode):
    """Follows how far each tensor looks; tensors that are not in `reach` hold no pixels (weights) or are unknown."""

    def __init__(self) -> None:
        super().__init__()
        self.reach: dict[int, float] = {}
        self._alive: list[Tensor] = []  # an id is used again when its tensor is gone

    def note(self, tensor: Tensor, reach: float) -> None:
        """Remember how far a tensor looks."""
        self.reach[id(tensor)] = reach
        self._alive.append(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        packet = func.overloadpacket
        given = [t for a in args for t in (a if isinstance(a, (list, tuple)) else [a]) if isinstance(t, Tensor)]
        known = [self.reach[id(t)] for t in given if id(t) in self.reach]
        if not known:
            return output
        pixels = [t for t in given if t.ndim == 4 and max(t.shape[2:]) >= _SIDE // 2]
        if packet is _aten.convolution:
            added = _convolution_reach(args)
        elif packet is _aten.slice:
            added = _slice_reach(args)
        elif packet in _POINTWISE and all(id(t) in self.reach for t in pixels):
            added = 0.0
        else:
            added = None
        if added is None:
            raise NotImplementedError(str(func))
        for tensor in output if isinstance(output, (list, tuple)) else [output]:
            self.note(tensor, max(known) + added)
        return output


def _convolution_reach(args: Any) -> float | None:
    """Return how far a convolution looks in low-resolution pixels; None with a stride."""
    image, weight, _, stride, padding, dilation, transposed = args[:7]
    resolution = max(1, round(image.shape[-1] / _SIDE))
    if transposed:
        return max(weight.shape[2:]) / min(stride) / resolution
    if max(stride) > 1:
        return None
    widths = [d * (k - 1) for k, d in zip(weight.shape[2:], dilation)]
    centred = all(2 * p == width for p, width in zip(padding, widths))
    return max(widths) / (2 if centred else 1) / resolution


def _slice_reach(args: Any) -> float:
    """Return how far a slice moves the pixels."""
    image, dim, start = (*args, 0, 0)[:3]
    moved = (start or 0) if dim % image.ndim >= 2 else 0
    return moved / max(1, round(image.shape[-1] / _SIDE))
