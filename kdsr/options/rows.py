"""Compare a block of an option file with the rows of a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kdsr.errors import did_you_mean
from kdsr.options.problems import KeyPath, Problem
from kdsr.options.table import Option, kind_of

MOST_NAMED = 14


def block_of(opt: Any, *keys: Any) -> dict[str, Any]:
    """Return the mapping at a path; an empty one if there is no mapping."""
    for key in keys:
        opt = opt.get(key) if isinstance(opt, Mapping) else None
    return dict(opt) if isinstance(opt, Mapping) else {}


def check_rows(
    path: KeyPath,
    block: Any,
    rows: Mapping[str, Option],
    unknown: Callable[[str], Problem | None] | None = None,
) -> Iterator[Problem]:
    """Compare a block with its table.

    Args:
        path: Of the block.
        block: The block, or a wrong value in its place.
        rows: The table.
        unknown: Returns the problem of a key that is not in the table, if any. Default: :func:`refuse_key`.

    Yields:
        The problems.
    """
    if not isinstance(block, Mapping):
        yield Problem(path, f'must be a mapping, is {block!r}.')
        return
    for key in block:
        if key not in rows:
            problem = refuse_key(path, key, rows) if unknown is None else unknown(key)
            if problem is not None:
                yield problem
    for key, option in rows.items():
        yield from check_value((*path, key), block.get(key), option)


def refuse_key(path: KeyPath, key: Any, known: Mapping[str, Any], otherwise: str | None = None) -> Problem:
    """Return the problem of an unknown key, with similar known keys.

    Args:
        path: Of the block.
        key: The unknown key.
        known: The known keys.
        otherwise: The message if no known key is similar. Default: a general one.
    """
    hint = did_you_mean(key, known)
    if not hint and otherwise is not None:
        return Problem((*path, key), otherwise)
    if not hint and len(known) <= MOST_NAMED:
        hint = f' Known: {", ".join(known)}.'
    return Problem((*path, key), f'unknown key.{hint or " Nothing reads it."}')


def check_value(path: KeyPath, value: Any, option: Option) -> Iterator[Problem]:
    """Compare one value with its row; yield the problems."""
    if value is None:
        if option.required:
            yield Problem(path, f'missing. {option.doc}')
    elif not isinstance(value, option.types) or (isinstance(value, bool) and bool not in option.types):
        article = '' if option.types[0] is bool else 'a '
        yield Problem(path, f'must be {article}{kind_of(option)}, is {value!r}.')
    elif option.choices and value not in option.choices:
        yield Problem(path, f'must be one of {", ".join(option.choices)}, is {value!r}.')
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield from _check_range(path, value, option)


def _check_range(path: KeyPath, value: float, option: Option) -> Iterator[Problem]:
    low, high = option.least is None or value >= option.least, option.below is None or value < option.below
    if not (low and high):
        bounds = [f'at least {option.least:g}'] if option.least is not None else []
        bounds += [f'below {option.below:g}'] if option.below is not None else []
        yield Problem(path, f'must be {" and ".join(bounds)}, is {value!r}.')
    elif option.whole and value % 1:
        yield Problem(path, f'must be a whole number, is {value!r}.')
