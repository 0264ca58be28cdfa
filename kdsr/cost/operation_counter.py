"""What the operations of a training step cost: arithmetic, memory traffic, and how much is alive at a time."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdsr.cost.live_memory import LiveTensors

CONVOLUTION, PRODUCT, HALF, OTHER = 'convolution', 'product', 'half', 'other'
_aten = torch.ops.aten


class Operation(NamedTuple):
    """What one call of a kernel costs at least.

    Attributes:
        kind: CONVOLUTION or PRODUCT (of matrices) in single precision, HALF for both in half precision, OTHER.
        flop: Floating-point operations of convolutions and matrix products, two for a multiply-add; 0 for OTHER.
        moved: Bytes of the tensors that it reads and writes, each once.
    """

    kind: str
    flop: int
    moved: int


class OperationCounter(LiveTensors):
    """Notes every operation by the part of the step that it belongs to.

    Views and allocations are no operations. A transposed convolution is counted as it is computed, its kernel at each
    pixel of its INPUT.

    Attributes:
        operations: Part of the step to operations, with how often they are run.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: dict[str, Counter[Operation]] = {}
        self._part = ''

    @contextlib.contextmanager
    def counted_as(self, part: str) -> Iterator[None]:
        """Note what runs inside as belonging to `part`."""
        before, self._part = self._part, part
        try:
            yield
        finally:
            self._part = before

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, note what it costs, and count what it returns."""
        result = super().__torch_dispatch__(function, types, args, kwargs)
        if not _is_free(function):
            read = list(_tensors((args, kwargs or {})))
            written = list(_tensors(result))
            moved = sum(min(t.numel() * t.element_size(), t.untyped_storage().nbytes()) for t in (*read, *written))
            formula = _FORMULAS.get(function.overloadpacket)
            flop = formula(args, written[0].shape) if formula else 0
            operation = Operation(_kind(function, written) if flop else OTHER, flop, moved)
            self.operations.setdefault(self._part, Counter())[operation] += 1
        return result


def _is_free(function: Any) -> bool:
    returns = function._schema.returns
    is_view = any(r.alias_info is not None and not r.alias_info.is_write for r in returns)
    name = function.overloadpacket.__name__
    return is_view or name.startswith(('empty', 'new_empty')) or name == '_unsafe_view'


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _kind(function: Any, written: Sequence[Tensor]) -> str:
    if written[0].dtype in (torch.bfloat16, torch.float16):
        return HALF
    return CONVOLUTION if function.overloadpacket in _CONVOLUTIONS else PRODUCT


def _convolution(args: Sequence[Any], out: Sequence[int]) -> int:
    # args: x, weight, bias, stride, padding, dilation, transposed, ...; weight (C_out, C_in / groups, ...),
    # transposed (C_in, C_out / groups, ...)
    x, weight, transposed = args[0], args[1], args[6]
    pixels = x.shape[2:] if transposed else out[2:]
    return 2 * x.shape[0] * prod(pixels) * weight.numel()


def _convolution_backward(args: Sequence[Any], out: Sequence[int]) -> int:
    # args: gradient of the output, x, weight, sizes of the bias, ..., transposed (7), ..., wanted gradients (last)
    gradient, x, weight, transposed, wanted = args[0], args[1], args[2], args[7], args[10]
    pixels = (x if transposed else gradient).shape[2:]
    return 2 * x.shape[0] * prod(pixels) * weight.numel() * sum(wanted[:2])


def _product(position: int) -> Any:
    """Return the cost of a product whose first factor (..., n, k) stands at a position among the arguments."""
    return lambda args, out: 2 * prod(out) * args[position].shape[-1]


_CONVOLUTIONS = {_aten.convolution, _aten.convolution_backward}
_FORMULAS: dict[Any, Any] = {
    _aten.convolution: _convolution,
    _aten.convolution_backward: _convolution_backward,
    _aten.mm: _product(0),
    _aten.bmm: _product(0),
    _aten.addmm: _product(1),
    _aten.baddbmm: _product(1),
    _aten.addmm_: _product(1),
    _aten.baddbmm_: _product(1),
}


def flop_of(operations: Iterable[Counter[Operation]]) -> int:
    """Return the floating-point operations of all."""
    return sum(operation.flop * times for counted in operations for operation, times in counted.items())
