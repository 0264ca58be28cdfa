"""Distances between all samples of two batches, also over several processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CPU_NUMBERS, GPU_NUMBERS = 2**18, 2**24


def pairwise_l1(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean absolute difference of every student sample and every teacher sample.

    No sample is copied: the N x M differences exist for a few elements at a time, forward and backward.

    Args:
        student: (N, ...), with or without gradient.
        teacher: (M, ...), without gradient.

    Returns:
        (N, M).
    """
    return _PairwiseL1.apply(student.flatten(1), teacher.flatten(1))


class _PairwiseL1(torch.autograd.Function):
    """The backward pass computes the differences again, so that only the features are kept in between."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(x, y)
        total = x.new_zeros(len(x), len(y))
        width = _choose_width(x, y)
        for a, b in zip(x.split(width, 1), y.split(width, 1)):
            total += (a[:, None] - b).abs_().sum(-1)
        return total / x.shape[1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, y = ctx.saved_tensors
        weight = (gradients[0] / x.shape[1])[:, None]
        gradient, width = torch.empty_like(x), _choose_width(x, y)
        for out, a, b in zip(*(tensor.split(width, 1) for tensor in (gradient, x, y))):
            out.copy_(torch.bmm(weight, (a[:, None] - b).sign_())[:, 0])
        return gradient, None


def _choose_width(x: Tensor, y: Tensor) -> int:
    """Return how many elements of each sample are compared at a time."""
    numbers = CPU_NUMBERS if x.device.type == 'cpu' else GPU_NUMBERS
    return max(1, numbers // (len(x) * len(y)))


def _count_processes() -> int:
    available = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if available else 1


def gather_samples(tensor: Tensor) -> Tensor:
    """Join the tensors of all processes along the first dimension, in the order of the ranks.

    The gradient of a part flows back to its process, summed over the losses of all processes. Every process computes
    the same loss, and DistributedDataParallel averages the gradients of the parameters. Sum and average cancel: each
    parameter gets exactly the gradient of that loss, without any factor.

    Args:
        tensor: (N, ...), of the same shape in every process.

    Returns:
        (N * processes, ...); with one process the tensor itself.
    """
    if _count_processes() == 1:
        return tensor
    return _Gathered.apply(tensor)


class _Gathered(torch.autograd.Function):
    """All tensors in every process; each process gets the sum of all gradients of its own part."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        ctx.samples = len(tensor)
        parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(_count_processes())]
        torch.distributed.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        summed = gradients[0].clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(summed)
        return summed.split(ctx.samples)[torch.distributed.get_rank()]
