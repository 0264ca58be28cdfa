"""Optimisers by the names that PyTorch gives them; BasicSR knows Adam alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from kdsr.errors import UserError, did_you_mean


def list_optimisers() -> dict[str, Callable[..., torch.optim.Optimizer]]:
    """Return PyTorch's optimisers by name, without those that need a closure or sparse gradients."""
    unusable = ('Optimizer', 'LBFGS', 'SparseAdam')
    return {
        name: kind
        for name, kind in vars(torch.optim).items()
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and name not in unusable
    }


def get_optimizer(self: Any, optim_type: str, params: Any, lr: float, **arguments: Any) -> torch.optim.Optimizer:
    """Build an optimiser as BasicSR does, of any type that PyTorch has.

    Args:
        self: The model.
        optim_type: Name in `torch.optim`.
        params: Parameters, or groups of them.
        lr: Learning rate.
        **arguments: Further arguments of the optimiser.

    Raises:
        UserError: PyTorch has no such optimiser, or it refuses its arguments.
    """
    known = list_optimisers()
    if optim_type not in known:
        raise UserError(f'PyTorch has no optimiser {optim_type!r}.{did_you_mean(optim_type, known)}')
    try:
        return known[optim_type](params, lr=lr, **arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f'`train.optim_g`: {optim_type} refuses its arguments: {error}') from None
