"""What two option files differ in, one line for each value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def list_option_differences(old: Mapping[str, Any], new: Mapping[str, Any], where: str = '') -> list[str]:
    """Return one line for each value in which two nested mappings differ.

    Args:
        old: Options.
        new: Other options.
        where: What stands before each key, for example `train.`.

    Example:
        >>> list_option_differences({'train': {'lr': 1}}, {'train': {'lr': 2}})
        ['train.lr: 1 -> 2']
    """
    lines = []
    for key in dict.fromkeys((*old, *new)):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += list_option_differences(a, b, f'{where}{key}.')
        elif a != b:
            lines.append(f'{where}{key}: {_shorten(a)} -> {_shorten(b)}')
    return lines


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 160 else f'{text[:150]} ...'
