"""What the operations of a training step cost: arithmetic, memory traffic, and the tensors alive at a time."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from math import prod
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

from kdsr.cost.live_memory import LiveTensors

Kind = Literal['convolution', 'product', 'half', 'other']
CONVOLUTION: Kind = 'convolution'
PRODUCT: Kind = 'product'
HALF: Kind = 'half'
OTHER: Kind = 'other'
_aten = torch.ops.aten


class Operation(NamedTuple):
    """The least that one call of a kernel costs.

    Attributes:
        kind: CONVOLUTION or PRODUCT (of matrices) in single precision, HALF for both in half precision, or OTHER.
        flop: Floating-point operations of convolutions and matrix products, two for a multiply-add; 0 for OTHER.
        moved: Bytes of the tensors that it reads and writes, each counted once.
    """

    kind: Kind
    flop: int
    moved: int


class OperationCounter(LiveTensors):
    """Counts every operation, by the part of the step that it belongs to.

    Views and allocations are not counted. The formulas are those of `torch.utils.flop_counter`. It counts a transposed
    convolution as it is computed: its kernel at each pixel of its INPUT.

    Attributes:
        operations: Part of the step to its operations, with the number of calls of each.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: dict[str, Counter[Operation]] = {}
        self._part = ''

    @contextlib.contextmanager
    def counted_as(self, part: str) -> Iterator[None]:
        """Count the operations inside as operations of `part`."""
        before, self._part = self._part, part
        try:
            yield
        finally:
            self._part = before

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and count its cost and what it returns."""
        result = super().__torch_dispatch__(function, types, args, kwargs)
        if not _is_free(function):
            read = list(_list_tensors((args, kwargs or {})))
            written = list(_list_tensors(result))
            moved = sum(min(t.numel() * t.element_size(), t.untyped_storage().nbytes()) for t in (*read, *written))
            formula = _FORMULAS.get(function.overloadpacket)
            flop = formula(*args, **(kwargs or {}), out_val=result) if formula else 0
            operation = Operation(_classify(function, written) if flop else OTHER, flop, moved)
            self.operations.setdefault(self._part, Counter())[operation] += 1
        return result


def _is_free(function: Any) -> bool:
    returns = function._schema.returns
    is_view = any(r.alias_info is not None and not r.alias_info.is_write for r in returns)
    name = function.overloadpacket.__name__
    return is_view or name.startswith(('empty', 'new_empty')) or name == '_unsafe_view'


def _list_tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _list_tensors(part)
    elif isinstance(value, dict):
        yield from _list_tensors(list(value.values()))


def _classify(function: Any, written: Sequence[Tensor]) -> Kind:
    if written[0].dtype in (torch.bfloat16, torch.float16):
        return HALF
    return CONVOLUTION if function.overloadpacket in _CONVOLUTIONS else PRODUCT


def _count_convolution_backward(*args: Any, out_val: Any) -> int:
    """Count both gradients of a convolution; torch counts those of the weights of g groups g times too high."""
    gradient, x, weight, transposed, wanted = args[0], args[1], args[2], args[7], args[10]
    pixels = (x if transposed else gradient).shape[2:]
    return 2 * x.shape[0] * prod(pixels) * weight.numel() * sum(wanted[:2])


_CONVOLUTIONS = {_aten.convolution, _aten.convolution_backward}
_FORMULAS: dict[Any, Any] = {
    **flop_registry,
    _aten.convolution_backward: _count_convolution_backward,
    _aten.addmm_: flop_registry[_aten.addmm],
    _aten.baddbmm_: flop_registry[_aten.baddbmm],
}


def count_flop(operations: Iterable[Counter[Operation]]) -> int:
    """Return the floating-point operations of all counted operations together."""
    return sum(operation.flop * times for counted in operations for operation, times in counted.items())
