"""Does a training state fit the optimisers and schedulers of a run?

PyTorch's optimisers take values of any size, which fail in the first step; its schedulers take any attribute.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

_BY_SHAPE = {'variance', 'row_var', 'col_var'}  # Adafactor keeps the first for vectors, the others for all else
_LARGEST = torch.finfo(torch.float32).max


def check_schedulers(schedulers: Sequence[Any], states: Sequence[Mapping[str, Any]]) -> None:
    """Refuse states of schedulers that would replace anything but their own values by values of the same kind.

    Args:
        schedulers: Of the run.
        states: Of the training state, one for each.

    Raises:
        ValueError: names the value.
    """
    for scheduler, state in zip(schedulers, states):
        own = scheduler.state_dict()
        for key, value in state.items():
            if key not in own and key in vars(scheduler):
                raise ValueError(f'a scheduler has no value {key!r} to restore')
            short = key in ('base_lrs', '_last_lr') and isinstance(value, (list, tuple)) and len(value) != len(own[key])
            if key in own and (short or not _is_of_kind(value, own[key])):
                raise ValueError(f'{key!r} of a scheduler must be like {own[key]!r}, is {str(value)[:60]!r}')


def check_optimizers(optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Refuse values that optimisers have taken over and that fail in their first step.

    Args:
        optimizers: After `load_state_dict`.

    Raises:
        ValueError: names the value.
    """
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            _check_group(group, optimizer.defaults)
        _check_moments(optimizer.state)


def _check_group(group: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Refuse settings of an optimiser that are missing or of another kind."""
    for key, expected in defaults.items():
        if key not in group and (expected is None or isinstance(expected, bool)):
            continue  # a switch; PyTorch's optimisers set those that an older version did not save
        if key not in group:
            raise ValueError(f'a group of an optimiser has no {key!r}')
        value = group[key]
        short = key == 'betas' and len(value) != 2
        if short or not _is_of_kind(value, expected):
            raise ValueError(f'{key!r} of an optimiser must be like {expected!r}, is {str(value)[:60]!r}')
    if group.get('capturable') and any(p.device.type == 'cpu' for p in group['params']):
        raise ValueError("'capturable' of an optimiser is for a GPU")


def _check_moments(state: Mapping[Tensor, Any]) -> None:
    """Refuse what an optimiser keeps for its weights where it is incomplete or of another size."""
    if not all(isinstance(values, dict) for values in state.values()):
        raise ValueError('an optimiser must have a mapping for each of its weights')
    names = {key for values in state.values() for key in values} - _BY_SHAPE
    for parameter, values in state.items():
        lacking = names - set(values)
        if lacking:
            raise ValueError(f'an optimiser lacks {min(lacking)!r} for some of its weights')
        for key, value in values.items():
            if not _fits(parameter, key, value):
                raise ValueError(f'{key!r} of an optimiser does not have the size of its weights')


def _fits(parameter: Tensor, key: str, value: Any) -> bool:
    if isinstance(value, Tensor):
        along = zip(value.shape, parameter.shape)  # Adafactor keeps means along an axis
        return value.numel() == 1 or (value.ndim == parameter.ndim and all(a in (1, b) for a, b in along))
    return key == 'step' and isinstance(value, (int, float)) and math.isfinite(value)


def _is_of_kind(value: Any, expected: Any) -> bool:
    """Return whether a value is a number, a text, or a list or mapping of numbers, where the expected one is."""
    if expected is None or isinstance(expected, bool):
        return isinstance(value, (bool, int, float, type(expected)))
    if isinstance(expected, (int, float, Tensor)):
        return _is_number(value)
    if isinstance(expected, (list, tuple)):
        may_lack = None in expected  # Adafactor's `eps`
        return isinstance(value, (list, tuple)) and all((may_lack and v is None) or _is_number(v) for v in value)
    if isinstance(expected, Mapping):
        return isinstance(value, Mapping) and all(map(_is_number, (*value.keys(), *value.values())))
    return isinstance(value, type(expected))


def _is_number(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1
    # values beyond single precision end the first step
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST
