"""Every sample of one batch beside every sample of another, also over processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CPU_NUMBERS, GPU_NUMBERS = 2**18, 2**24


def pairwise_l1(ours: Tensor, theirs: Tensor) -> Tensor:
    """Return the mean absolute difference of every sample of `ours` and every sample of `theirs`.

    Copies no sample: the N x M differences exist for a few elements at a time, forward and backward.

    Args:
        ours: (N, ...), with or without gradient.
        theirs: (M, ...), without gradient.

    Returns:
        (N, M).
    """
    return _PairwiseL1.apply(ours.flatten(1), theirs.flatten(1))


class _PairwiseL1(torch.autograd.Function):
    """Differences are computed twice, so that only the features are kept between forward and backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(x, y)
        total = x.new_zeros(len(x), len(y))
        width = _elements_at_a_time(x, y)
        for a, b in zip(x.split(width, 1), y.split(width, 1)):
            total += (a[:, None] - b).abs_().sum(-1)
        return total / x.shape[1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, y = ctx.saved_tensors
        weight = (gradients[0] / x.shape[1])[:, None]
        gradient, width = torch.empty_like(x), _elements_at_a_time(x, y)
        for out, a, b in zip(*(tensor.split(width, 1) for tensor in (gradient, x, y))):
            out.copy_(torch.bmm(weight, (a[:, None] - b).sign_())[:, 0])
        return gradient, None


def _elements_at_a_time(x: Tensor, y: Tensor) -> int:
    numbers = CPU_NUMBERS if x.device.type == 'cpu' else GPU_NUMBERS
    return max(1, numbers // (len(x) * len(y)))


def _processes() -> int:
    available = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if available else 1


def of_all_processes(tensor: Tensor) -> Tensor:
    """Return the tensors of all processes, joined along the first dimension in the order of the ranks.

    The gradient flows back to the process that a part came from, as the sum over all processes' losses. Where each
    computes the same loss of the joined tensors and DistributedDataParallel then averages the parameters' gradients,
    the two cancel, and each parameter gets exactly the gradient of that loss: no factor is needed.

    Args:
        tensor: (N, ...), of the same shape in every process; returned as it is where there is only one.
    """
    if _processes() == 1:
        return tensor
    return _Gathered.apply(tensor)


class _Gathered(torch.autograd.Function):
    """Each process gets all tensors; what flows back to one is the sum of all processes' gradients of its own."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        ctx.samples = len(tensor)
        parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(_processes())]
        torch.distributed.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        summed = gradients[0].clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(summed)
        return summed.split(ctx.samples)[torch.distributed.get_rank()]
