"""Devices by the names that users give."""

from __future__ import annotations

import torch

from kdsr.errors import UserError


def find_device(device: str = 'auto') -> torch.device:
    """Return a device that can be used; 'auto' is a GPU, if there is one.

    Args:
        device: 'auto', 'cpu', 'cuda', 'cuda:1', ...

    Raises:
        UserError: PyTorch does not know it or does not find it.
    """
    if device == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        found = torch.device(device)
        torch.zeros(1, device=found)
    except Exception as error:  # RuntimeError, AssertionError, NotImplementedError, by backend
        reason = str(error).strip().split('\n')[0]
        raise UserError(f'--device {device}: PyTorch cannot use it ({reason}). Try auto, cpu or cuda.') from None
    return found
