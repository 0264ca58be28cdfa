"""Losses and transforms are computed in single precision at least, whatever autocast gives."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return `tensor` in single precision, or in double precision where it has it."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
