"""Networks without their weights: quick to build, for checks and estimates that need only their structure."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Mapping
from typing import Any

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn
from torch.overrides import TorchFunctionMode

from kdsr.distillation.building import argument_problems, describe_refusal
from kdsr.distillation.construction import TooLargeError, bound_construction, check_sizes

_INITIALISERS = (
    'kaiming_uniform_',
    'kaiming_normal_',
    'uniform_',
    'normal_',
    'clamp_',
    'erfinv_',
    'mul_',
    'add_',
    'fill_',
)


def build_skeleton(network_opt: Mapping[str, Any]) -> nn.Module | None:
    """Return a network without its weights; None where it cannot be built, or not without weights.

    Args:
        network_opt: `type` and arguments.
    """
    built = _try_to_build(network_opt)
    return built if isinstance(built, nn.Module) else None


def find_refused_arguments(network_opt: Mapping[str, Any]) -> str | None:
    """Return the error message of a network's constructor; None where it accepts its arguments."""
    built = _try_to_build(network_opt)
    return built if isinstance(built, str) else None


def is_buildable(network_opt: Mapping[str, Any]) -> bool:
    """Return whether the network is registered and has all of these arguments, and no others are missing."""
    kind = network_opt.get('type')
    return (
        isinstance(kind, str)
        and kind in ARCH_REGISTRY
        and not any(argument_problems(ARCH_REGISTRY.get(kind), network_opt))
    )


def _try_to_build(opt: Mapping[str, Any]) -> nn.Module | str | None:
    """Return a network without weights, the error message of its constructor, or None where neither is possible."""
    return _build(json.dumps(opt, sort_keys=True, default=str)) if is_buildable(opt) else None


@functools.lru_cache(maxsize=64)
def _build(options: str) -> nn.Module | str | None:
    opt = json.loads(options)
    registered = ARCH_REGISTRY.get(opt['type'])
    if getattr(registered, 'brings_weights', False):  # it would read a file
        return None
    arguments = {key: value for key, value in opt.items() if key != 'type'}
    with torch.random.fork_rng(devices=[]):
        try:
            check_sizes(arguments, opt['type'])
            with bound_construction(opt['type']), without_weights():
                return registered(**arguments)
        except TooLargeError as error:
            return str(error)
        except Exception:  # networks may do with their weights what cannot be done without memory
            pass
        try:
            with bound_construction(opt['type']):
                return registered(**arguments)
        except (ValueError, TypeError, AssertionError, ArithmeticError, LookupError) as error:
            return describe_refusal(error)
        except Exception:  # a compiled operator or a file that is missing: the options are not at fault
            return None


def without_weights() -> contextlib.AbstractContextManager[object]:
    """Return a context in which layers are built without memory for their weights.

    Networks that compute with their weights while they are built fail inside.
    """
    return _WithoutWeights()


class _WithoutWeights(TorchFunctionMode):
    """Creates tensors that layers only allocate without memory, and leaves them as they are; all else is computed."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.empty and kwargs.get('device') is None:
            kwargs['device'] = 'meta'
        first = args[0] if args else kwargs.get('tensor')
        if isinstance(first, torch.Tensor) and first.is_meta and func.__name__ in _INITIALISERS:
            return first
        return func(*args, **kwargs)
