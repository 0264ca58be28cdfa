"""How long a network takes for one image."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from kdsr.distillation.precision import autocast
from kdsr.environment import processor
from kdsr.errors import UserError


@dataclass(frozen=True)
class Timing:
    """How networks are timed.

    Attributes:
        device: 'cpu', 'cuda', 'cuda:1', ...
        repeats: Runs of which the median is taken.
        warmup: Runs before them.
        precision: 'fp32', 'bf16' or 'fp16' (autocast).
    """

    device: str = 'cpu'
    repeats: int = 10
    warmup: int = 3
    precision: str = 'fp32'

    def described(self) -> str:
        """Return device, threads and precision in words."""
        device = torch.device(self.device)
        if device.type == 'cuda':
            where = torch.cuda.get_device_name(device)
        else:
            where = f'{processor()}, {torch.get_num_threads()} thread(s)'
        return f'{where}, {self.precision}, batch 1, median of {self.repeats} runs after {self.warmup}'


def time_network(network: nn.Module, input_shape: Sequence[int], timing: Timing) -> tuple[float, int | None]:
    """Run a network on random numbers.

    Args:
        network: It is not changed.
        input_shape: (C, h, w).
        timing: How.

    Returns:
        Median seconds of a run, and on a GPU the peak of its memory in bytes, weights included.

    Raises:
        UserError: the device is not there, or its memory is too small.
    """
    device = torch.device(timing.device)
    if device.type == 'cuda' and not torch.cuda.is_available():
        raise UserError(f'--device {timing.device}: PyTorch sees no GPU here.')
    try:
        return _timed(copy.deepcopy(network).to(device).eval(), input_shape, timing, device)
    except torch.cuda.OutOfMemoryError as error:
        raise UserError(f'{tuple(input_shape)} needs more memory than {device} has: {error}') from None


@torch.inference_mode()
def _timed(
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
