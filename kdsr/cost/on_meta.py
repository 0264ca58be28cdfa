"""Networks on torch's meta device, which computes shapes but no numbers."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# Functions that `torch.autocast` computes in low precision or in fp32, as far as networks here use them.
_LOW = {'conv2d', 'conv_transpose2d', 'linear', 'matmul', '__matmul__', 'bmm', 'addmm', 'baddbmm', 'einsum',
        'scaled_dot_product_attention', 'prelu'}  # fmt: skip
_SINGLE = {'softmax', 'layer_norm', 'group_norm', 'norm', 'sum', 'l1_loss', 'mse_loss'}


def copy_to_meta(network: nn.Module) -> nn.Module:
    """Return a copy of a network on the meta device, with the tensors that it keeps as plain attributes."""
    network = copy.deepcopy(network).to('meta')
    for module in network.modules():  # BasicSR's EDSR keeps its mean as such an attribute
        for name, value in list(vars(module).items()):
            if isinstance(value, Tensor):
                setattr(module, name, value.to('meta'))
    return network


class _Autocast(TorchFunctionMode):
    """Casts the arguments of functions as `torch.autocast` does, because that refuses the meta device.

    Attributes:
        dtype: Type of the functions in low precision; None casts nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dtype: torch.dtype | None = None

    @contextlib.contextmanager
    def cast(
        self, device_type: str, dtype: torch.dtype | None = None, enabled: bool = True, **rest: Any
    ) -> Iterator[None]:
        """Cast the functions inside, in place of `torch.autocast`."""
        before, self.dtype = self.dtype, dtype if enabled else None
        try:
            yield
        finally:
            self.dtype = before

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function with its floating-point tensors cast."""
        kwargs = kwargs or {}
        name = getattr(func, '__name__', '')
        wanted = self.dtype if name in _LOW else torch.float32 if name in _SINGLE else None
        if self.dtype is None or wanted is None:
            return func(*args, **kwargs)
        return func(*(_cast(a, wanted) for a in args), **{k: _cast(v, wanted) for k, v in kwargs.items()})


def _cast(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


@contextlib.contextmanager
def autocast_on_meta() -> Iterator[None]:
    """Make `torch.autocast` work on the meta device. It refuses that device, even with `enabled=False`."""
    autocast, mode = torch.autocast, _Autocast()
    torch.autocast = mode.cast  # type: ignore[assignment,misc]
    try:
        with mode:
            yield
    finally:
        torch.autocast = autocast  # type: ignore[misc]
