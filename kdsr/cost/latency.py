"""The time that a network takes for one image."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from kdsr.distillation.precision import autocast
from kdsr.environment import processor
from kdsr.errors import UserError
from kdsr.wording import counted

Precision = Literal['fp32', 'bf16', 'fp16']


@dataclass(frozen=True)
class Timing:
    """How networks are timed.

    Attributes:
        device: 'cpu', 'cuda', 'cuda:1', ...
        repeats: Number of timed runs; their median is taken.
        warmup: Number of runs before them.
        precision: Of convolutions and matrix products, by autocast.
    """

    device: str = 'cpu'
    repeats: int = 10
    warmup: int = 3
    precision: Precision = 'fp32'

    def describe(self) -> str:
        """Return device, threads, precision and number of runs in words."""
        device = torch.device(self.device)
        if device.type == 'cuda':
            where = torch.cuda.get_device_name(device)
        else:
            where = f'{processor()}, {counted(torch.get_num_threads(), "thread")}'
        return f'{where}, {self.precision}, batch 1, median of {self.repeats} runs after {self.warmup}'


def time_network(network: nn.Module, input_shape: Sequence[int], timing: Timing) -> tuple[float, int | None]:
    """Time a network on an image of random numbers.

    Args:
        network: It is not changed.
        input_shape: (C, h, w).
        timing: How to time it.

    Returns:
        Median seconds of a run, and the peak of the GPU's memory in bytes, weights included; None on a CPU.

    Raises:
        UserError: there is no such device, or its memory is too small.
    """
    device = torch.device(timing.device)
    if device.type == 'cuda' and not torch.cuda.is_available():
        raise UserError(f'--device {timing.device}: PyTorch finds no GPU on this machine.')
    try:
        return _time_runs(copy.deepcopy(network).to(device).eval(), input_shape, timing, device)
    except torch.cuda.OutOfMemoryError as error:
        raise UserError(f'{tuple(input_shape)} needs more memory than {device} has: {error}') from None


@torch.inference_mode()
def _time_runs(
    network: nn.Module, input_shape: Sequence[int], timing: Timing, device: torch.device
) -> tuple[float, int | None]:
    gpu = device.type == 'cuda'
    image = torch.rand(1, *input_shape, device=device)
    seconds = []
    if gpu:
        torch.cuda.reset_peak_memory_stats(device)
    with autocast(device, timing.precision):
        for _ in range(timing.warmup + timing.repeats):
            if gpu:
                torch.cuda.synchronize(device)
            start = time.perf_counter()
            network(image)
            if gpu:
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[timing.warmup :]), torch.cuda.max_memory_allocated(device) if gpu else None
