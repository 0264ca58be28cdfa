"""Precision and memory format of the networks; losses are computed in single precision at least."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor, nn

LOW_PRECISIONS = {'bf16': torch.bfloat16, 'fp16': torch.float16}


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return `tensor` in single precision, or in double precision where it has it."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def autocast(device: torch.device, precision: str | None) -> contextlib.AbstractContextManager[object]:
    """Return the context in which a network's forward pass runs in `precision`.

    Args:
        device: Where the network is.
        precision: 'bf16' or 'fp16': convolutions and matrix products are; 'fp32' or None: nothing is changed.
    """
    dtype = LOW_PRECISIONS.get(precision or '')
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def to_memory_format(image: Tensor, channels_last: bool) -> Tensor:
    """Return `image` (N, C, h, w) in the memory format channels_last if `channels_last`, else unchanged."""
    return image.contiguous(memory_format=torch.channels_last) if channels_last else image


def set_memory_format(network: nn.Module, channels_last: bool) -> nn.Module:
    """Convert a network to the memory format channels_last if `channels_last`; return the network."""
    return network.to(memory_format=torch.channels_last) if channels_last else network  # type: ignore[call-overload]
