"""Build registered networks and losses from their options, naming the key when the options do not fit."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

from basicsr.archs import build_network
from basicsr.losses import build_loss
from basicsr.utils.registry import ARCH_REGISTRY, LOSS_REGISTRY, Registry
from torch import nn

from kdsr.distillation.argument_types import find_type_problem, resolved_parameters
from kdsr.distillation.construction import bound_construction, check_sizes
from kdsr.errors import UserError, did_you_mean
from kdsr.experiment import argument_of as argument_of
from kdsr.plugins import describe_namesake

# What a constructor raises for arguments of a wrong type, size or number.
REFUSALS = (ValueError, TypeError, AssertionError, RuntimeError, ArithmeticError, LookupError, AttributeError)


def build_network_at(where: str, opt: Mapping[str, Any]) -> nn.Module:
    """Build the network that `opt` describes; `where` is its key in the YAML, for messages.

    Raises:
        UserError: the network is unknown, does not have these arguments or refuses them, or would be absurdly large.
    """
    check_arguments(ARCH_REGISTRY, where, opt)
    check_sizes(opt, where)
    try:
        with bound_construction(opt['type']):
            return build_network(opt)
    except UserError:
        raise
    except REFUSALS as error:
        raise UserError(f'{where}: {opt["type"]} refuses its arguments: {describe_refusal(error)}') from error


def describe_refusal(error: BaseException) -> str:
    """Return the words of an error; its class too, where the words alone say nothing."""
    text = str(error).strip().split('\n')[0]
    return text if isinstance(error, (ValueError, AssertionError)) and text else f'{type(error).__name__}: {text}'


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
        registered = registry.get(opt['type'])
    except UserError as error:
        raise UserError(f'{where}.type: {error}') from None
    for _, problem in argument_problems(registered, opt):
        raise UserError(f'{where}: {problem}')


def argument_problems(
    registered: Callable[..., Any], opt: Mapping[str, Any], given: Collection[str] = ()
) -> Iterator[tuple[str | None, str]]:
    """Compare options with the parameters of a registered class or function: names, types, and choices (`Literal`).

    Args:
        registered: The class or function.
        opt: `type` and arguments.
        given: Arguments that do not come from the options.

    Yields:
        The wrong key (None for a missing one) and the problem.
    """
    parameters = {n: p for n, p in inspect.signature(registered).parameters.items() if n not in given}
    takes_any = _takes_any(registered)
    known = [name for name, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    for key in opt:
        if key != 'type' and key not in known and not takes_any:
            hint = did_you_mean(key, known) or f' It has: {", ".join(known)}.'
            yield key, f'{opt["type"]} has no option {key!r}.{hint}{describe_namesake(registered, str(opt["type"]))}'
    for name, parameter in parameters.items():
        required = parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        if required and name not in opt:
            yield None, f'{opt["type"]} needs `{name}:`.'
    for name, parameter in resolved_parameters(registered).items():
        text = find_type_problem(name, opt[name], parameter) if name in opt and name not in given else None
        if text is not None:
            yield name, f'{opt["type"]}: {text}'
    for name, choices in choices_of(registered).items():
        value = opt.get(name, choices[0])
        if name not in given and (value not in choices or isinstance(value, bool)):
            words = ', '.join(map(str, choices))
            hint = did_you_mean(value, map(str, choices))
            yield name, f'{opt["type"]}: `{name}` must be one of {words}, not {value!r}.{hint}'


def choices_of(registered: Callable[..., Any]) -> dict[str, tuple[Any, ...]]:
    """Return the choices of every argument with a `Literal` annotation; nothing if annotations do not resolve."""
    try:
        parameters = inspect.signature(registered, eval_str=True).parameters.values()
    except (TypeError, NameError):  # Python 3.9; an annotation that only a type checker can read
        return {}
    return {p.name: get_args(p.annotation) for p in parameters if get_origin(p.annotation) is Literal}


def _takes_any(registered: Callable[..., Any]) -> bool:
    """Return whether any argument has an effect; BasicSR's `**kwargs` only swallow what is misspelt."""
    parameters = inspect.signature(registered).parameters.values()
    ignored = getattr(registered, '__module__', '').split('.')[0] == 'basicsr'
    return not ignored and any(p.kind is p.VAR_KEYWORD for p in parameters)
