"""Is the value of an option what the argument of a constructor takes? Text where a number belongs, and the like."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, Union, get_args, get_origin

_LISTS = (list, tuple)
_UNIONS = (Union, getattr(types, 'UnionType', Union))


def find_type_problem(name: str, value: Any, parameter: inspect.Parameter) -> str | None:
    """Return what is wrong with the type of a value, and the cure; None where it fits or nothing is known.

    The annotation says the type; without one, as in BasicSR, the default does. Numbers of a default may be whole or
    not, because BasicSR writes `res_scale=1` for what may be 0.1.

    Args:
        name: Of the argument.
        value: From the option file.
        parameter: Of the constructor, with its annotation resolved.

    Example:
        >>> def build(num_feat=64): ...
        >>> find_type_problem('num_feat', '64', inspect.signature(build).parameters['num_feat'])
        "`num_feat` must be a number, not the text '64': write it without quotes."
    """
    if value is None:
        return None
    if parameter.annotation is not parameter.empty:
        allowed = _kinds_of(parameter.annotation)
    else:
        allowed = _kinds_of_default(parameter.default)
    if not allowed:
        return _find_textual_weight(name, value)
    if any(_fits(value, kind) for kind in allowed):
        return _find_textual_weight(name, value)
    return (
        f'`{name}` must be {" or ".join(dict.fromkeys(_WORDS[kind] for kind in allowed))}, {_describe(value, allowed)}'
    )


_WORDS = {
    bool: 'true or false',
    int: 'a whole number',
    float: 'a number',
    str: 'a text',
    list: 'a list',
    dict: 'a mapping',
}


def _kinds_of(annotation: Any) -> tuple[type, ...]:
    """Return the types that an annotation allows; () where it allows what cannot be judged here."""
    if get_origin(annotation) in _UNIONS:
        parts = [part for part in get_args(annotation) if part is not type(None)]
        kinds = [_kinds_of(part) for part in parts]
        return tuple(kind for group in kinds for kind in group) if all(kinds) else ()
    plain = get_origin(annotation) or annotation
    if plain in (bool, int, float, str):
        return (plain,)
    if plain in _LISTS:
        return (list,)
    return (dict,) if plain in (dict, Mapping) else ()


def _kinds_of_default(default: Any) -> tuple[type, ...]:
    if isinstance(default, bool):
        return (bool,)
    if isinstance(default, (int, float)):
        return (float,)
    return (str,) if isinstance(default, str) else ()


def _fits(value: Any, kind: type) -> bool:
    if kind is bool:
        return isinstance(value, bool) or value in (0, 1)
    if kind in (int, float):
        number = isinstance(value, int if kind is int else (int, float))
        return number and not isinstance(value, bool)
    return isinstance(value, _LISTS if kind is list else kind)


def _find_textual_weight(name: str, value: Any) -> str | None:
    """Look into lists and mappings of weights, whose items are numbers."""
    if 'weight' not in name or not isinstance(value, (list, tuple, dict)):
        return None
    items = value.values() if isinstance(value, dict) else value
    for item in items:
        if not isinstance(item, (int, float)) or isinstance(item, bool):
            return f'`{name}` must hold numbers, {_describe(item, (float,))}'
    return None


def _describe(value: Any, allowed: tuple[type, ...]) -> str:
    if isinstance(value, str) and str not in allowed:
        cure = ': write it without quotes.' if _is_number(value) else '.'
        return f'not the text {value!r}{cure}'
    return f'not {value!r}.'


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def resolved_parameters(registered: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters of a class or function; annotations that do not resolve are left out."""
    try:
        return dict(inspect.signature(registered, eval_str=True).parameters)
    except (TypeError, NameError):  # an annotation that only a type checker can read
        plain = inspect.signature(registered).parameters
        return {name: p.replace(annotation=p.empty) for name, p in plain.items()}
