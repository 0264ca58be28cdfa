"""How much memory a forward pass needs, counted from the tensors that are alive at a time."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


class LiveTensors(TorchDispatchMode):
    """Adds up the bytes of all storages that operations return, until they are freed.

    Attributes:
        alive: Bytes that are alive now.
        peak: The most bytes that were alive at a time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.peak = 0
        self._known: set[int] = set()

    def add(self, tensor: Tensor) -> None:
        """Count the storage of a tensor until it is freed."""
        storage = tensor.untyped_storage()
        if id(storage) in self._known:
            return
        self._known.add(id(storage))
        self.alive += storage.nbytes()
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._freed, id(storage), storage.nbytes())

    def _freed(self, identity: int, size: int) -> None:
        self._known.discard(identity)
        self.alive -= size

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count the tensors that it returns."""
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(value, Tensor):
                self.add(value)
        return result


def count_peak_memory(network: nn.Module, input_shape: Sequence[int]) -> int:
    """Return the most bytes that weights, input and intermediate results of one forward pass hold at a time.

    Memory that a kernel allocates and frees inside (the workspace of a convolution) is not counted, so that the number
    is the same on every device. A GPU's own peak is higher by that amount. The one mask that SwinIR keeps for an image
    size (:mod:`kdsr.compat.swinir`) is counted: 16.8 MB for 256x256 pixels.

    Args:
        network: On the meta device, where nothing is computed.
        input_shape: (C, h, w).
    """
    counter = LiveTensors()
    image = torch.empty(1, *input_shape, device='meta')
    for tensor in (image, *network.parameters(), *network.buffers()):
        counter.add(tensor)
    with torch.no_grad(), counter:
        network(image)
    return counter.peak
