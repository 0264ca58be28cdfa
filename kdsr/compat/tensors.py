"""Kinds of tensors in a checkpoint that no network here has, and that other code does not expect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


def find_tensor_fault(content: Any) -> str | None:
    """Find a tensor that is not a plain array of numbers, anywhere in the content of a checkpoint.

    Args:
        content: Nested mappings and lists, which may contain themselves.

    Returns:
        What the first such tensor is, with its place; None where there is none.
    """
    faults = ((place, _describe_fault(tensor)) for place, tensor in _list_tensors(content))
    return next((f'{place} is {fault}' for place, fault in faults if fault), None)


def _list_tensors(content: Any) -> Iterator[tuple[str, Tensor]]:
    waiting: list[tuple[str, Any]] = [('the content', content)]
    seen: set[int] = set()
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, Tensor):
            yield place, value
        elif isinstance(value, (Mapping, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
            waiting += [(repr(key)[:80], item) for key, item in pairs]


def _describe_fault(tensor: Tensor) -> str | None:
    if tensor.is_nested:
        return 'a nested tensor'
    if tensor.is_quantized:
        return f'quantised ({tensor.dtype}); save the weights that it was made from'
    if tensor.layout != torch.strided:
        return f'sparse ({tensor.layout}); save it with to_dense()'
    if tensor.is_meta:
        return 'a tensor without values (on the meta device)'
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return f'an expanded tensor of {tuple(tensor.shape)}, which the file holds only a part of; save it with clone()'
    return None
