"""Build registered networks and losses from their options, naming the key when the options do not fit."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from basicsr.archs import build_network
from basicsr.losses import build_loss
from basicsr.utils.registry import ARCH_REGISTRY, LOSS_REGISTRY, Registry
from torch import nn

from kdsr.errors import UserError, did_you_mean


def build_network_at(where: str, opt: Mapping[str, Any]) -> nn.Module:
    """Build the network that `opt` describes; `where` is its key in the YAML, for messages."""
    check_arguments(ARCH_REGISTRY, where, opt)
    try:
        return build_network(opt)
    except UserError:
        raise
    except (ValueError, TypeError, AssertionError) as error:
        raise UserError(f'{where}: {opt["type"]} refuses its arguments: {error}') from error


def build_loss_at(where: str, opt: Mapping[str, Any]) -> nn.Module:
    """Build the loss that `opt` describes; `where` is its key in the YAML, for messages."""
    check_arguments(LOSS_REGISTRY, where, opt)
    try:
        return build_loss(opt)
    except ValueError as error:
        raise UserError(f'{where}: {error}') from None


def check_arguments(registry: Registry, where: str, opt: Mapping[str, Any]) -> None:
    """Refuse an unknown `type`, arguments that it does not have, and missing ones; `where` is the key in the YAML."""
    if 'type' not in opt:
        raise UserError(f'{where}: needs a `type:`.')
    try:
        parameters = inspect.signature(registry.get(opt['type'])).parameters
    except UserError as error:
        raise UserError(f'{where}.type: {error}') from None
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key in opt:
        if key != 'type' and key not in parameters and not takes_any:
            hint = did_you_mean(key, parameters) or f' It has: {", ".join(parameters)}.'
            raise UserError(f'{where}: {opt["type"]} has no option {key!r}.{hint}')
    for name, parameter in parameters.items():
        required = parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        if required and name not in opt:
            raise UserError(f'{where}: {opt["type"]} needs `{name}:`.')


def argument_of(opt: Mapping[str, Any], name: str) -> Any:
    """Return what the network of `opt` gets for an argument, given or by default; None if it has none of that name."""
    if name in opt:
        return opt[name]
    parameter = inspect.signature(ARCH_REGISTRY.get(opt['type'])).parameters.get(name)
    return None if parameter is None or parameter.default is parameter.empty else parameter.default
