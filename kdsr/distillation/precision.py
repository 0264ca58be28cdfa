"""Precision and memory format of the networks; losses are computed in single precision at least."""

from __future__ import annotations

import contextlib
import platform

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


def find_slow_precision(device: torch.device, precision: str | None) -> str | None:
    """Return a warning where a precision is slower than fp32: bf16 on a CPU that has no instructions for it.

    oneDNN then emulates bf16 on x86. The flags of the processor decide; nothing is measured.

    Args:
        device: Where the network is.
        precision: 'bf16', 'fp16', 'fp32' or None.
    """
    if device.type != 'cpu' or precision != 'bf16' or has_bf16_instructions():
        return None
    return (
        'bf16 on this CPU is emulated, because it has neither AVX512-bf16 nor AMX: it is slower than fp32, often many '
        'times. Leave `amp: bf16` (or `precision: bf16`) out.'
    )


def has_bf16_instructions() -> bool:
    """Return whether the processor computes in bf16 itself; true where it is not an x86 and PyTorch decides."""
    if platform.machine().lower() not in ('x86_64', 'amd64', 'i686', 'x86'):
        return True
    probes = [getattr(torch.cpu, name, None) for name in ('_is_avx512_bf16_supported', '_is_amx_tile_supported')]
    return any(probe() for probe in probes if probe is not None) or all(probe is None for probe in probes)


def to_memory_format(image: Tensor, channels_last: bool) -> Tensor:
    """Return `image` (N, C, h, w) in the memory format channels_last if `channels_last`, else unchanged."""
    return image.contiguous(memory_format=torch.channels_last) if channels_last else image


def set_memory_format(network: nn.Module, channels_last: bool) -> nn.Module:
    """Convert a network to the memory format channels_last if `channels_last`; return the network."""
    return network.to(memory_format=torch.channels_last) if channels_last else network  # type: ignore[call-overload]
