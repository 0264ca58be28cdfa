"""Shapes of content: a small language for what a file of one kind must hold.

`kdsr.foreign.kinds` has one shape for each kind of file. A reader compares first and reads then, so that no code behind
it meets a list where it expects a mapping.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LARGEST = 2**53  # whole numbers up to here are exact in JSON and in floating point
DEEPEST = 50
LONGEST_TEXT = 1_000_000
_KINDS: Mapping[type, str] = {str: 'text', int: 'whole number', float: 'number'}


class Shape:
    """Base of all shapes."""

    def find_fault(self, value: Any, where: str) -> str | None:
        """Say what is wrong with a value.

        Args:
            value: Anything.
            where: Its place in the file, for the message.

        Returns:
            The fault, or None.
        """
        return self._judge(value, where)

    def _judge(self, value: Any, where: str) -> str | None:
        raise NotImplementedError

    def _refuse(self, value: Any, where: str, wanted: str) -> str:
        shown = repr(value) if isinstance(value, (str, int, float, type(None))) else f'a {type(value).__name__}'
        shown = shown if len(shown) <= 60 else f'{shown[:50]}...'
        return f'{where or "the content"} must be {wanted}, is {shown}'


@dataclass(frozen=True)
class Text(Shape):
    """A text; `pattern` must match all of it."""

    pattern: str = ''

    def _judge(self, value: Any, where: str) -> str | None:
        if not isinstance(value, str) or len(value) > LONGEST_TEXT:
            return self._refuse(value, where, 'a text')
        matches = not self.pattern or re.fullmatch(self.pattern, value)
        return None if matches else self._refuse(value, where, f'a text like {self.pattern!r}')


@dataclass(frozen=True)
class Number(Shape):
    """A finite number from `least` to `most`; `whole` excludes fractions."""

    least: float = -LARGEST
    most: float = LARGEST
    whole: bool = False

    def _judge(self, value: Any, where: str) -> str | None:
        kind = 'a whole number' if self.whole else 'a number'
        if isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            return self._refuse(value, where, kind)
        if not (isinstance(value, int) or math.isfinite(value)) or not self.least <= value <= self.most:
            return self._refuse(value, where, f'{kind} from {self.least:g} to {self.most:g}')
        return None


def whole(least: int = 0, most: int = LARGEST) -> Number:
    """Return the shape of a whole number."""
    return Number(least, most, whole=True)


@dataclass(frozen=True)
class Instance(Shape):
    """Anything of these types."""

    types: tuple[type, ...] = (object,)

    def _judge(self, value: Any, where: str) -> str | None:
        wanted = ' or '.join(kind.__name__ for kind in self.types)
        return None if isinstance(value, self.types) else self._refuse(value, where, f'a {wanted}')


@dataclass(frozen=True)
class Maybe(Shape):
    """A shape, or nothing."""

    shape: Shape

    def _judge(self, value: Any, where: str) -> str | None:
        return None if value is None else self.shape.find_fault(value, where)


@dataclass(frozen=True)
class ListOf(Shape):
    """A list of at least `least` items that have one shape."""

    item: Shape
    least: int = 0

    def _judge(self, value: Any, where: str) -> str | None:
        if not isinstance(value, (list, tuple)):
            return self._refuse(value, where, 'a list')
        if len(value) < self.least:
            return f'{where or "the content"} must have at least {self.least} items, has {len(value)}'
        faults = (self.item.find_fault(item, f'{where}[{i}]') for i, item in enumerate(value))
        return next((fault for fault in faults if fault), None)


@dataclass(frozen=True)
class FixedList(Shape):
    """A list of texts (`str`), whole numbers (`int`) and numbers (`float`). Quick, because sets have many.

    Args:
        types: Of its items.
        least: The smallest whole number.
        optional: Types of items that may follow.
    """

    types: tuple[type, ...]
    least: int = -LARGEST
    optional: tuple[type, ...] = ()

    def _judge(self, value: Any, where: str) -> str | None:
        if not isinstance(value, list) or tuple(map(type, value)) not in (self.types, self.types + self.optional):
            return self._refuse(value, where, f'a list of {", ".join(_KINDS[kind] for kind in self.types)}')
        good = all(self.least <= item <= LARGEST for item in value if type(item) is int)
        return None if good else f'{where} must hold numbers from {self.least} to {LARGEST}'


@dataclass(frozen=True)
class MapOf(Shape):
    """A mapping from texts to values of one shape."""

    value: Shape

    def _judge(self, value: Any, where: str) -> str | None:
        if not isinstance(value, Mapping):
            return self._refuse(value, where, 'a mapping')
        for key, item in value.items():
            if not isinstance(key, str):
                return f'{where or "the content"}: a key must be a text, is {str(key)[:40]!r}'
            fault = self.value.find_fault(item, f'{where}.{key[:40]}' if where else key[:40])
            if fault:
                return fault
        return None


@dataclass(frozen=True)
class Fields(Shape):
    """A mapping with known keys, each of its own shape. Other keys may be there."""

    required: Mapping[str, Shape]
    optional: Mapping[str, Shape] = field(default_factory=dict)

    def _judge(self, value: Any, where: str) -> str | None:
        if not isinstance(value, Mapping):
            return self._refuse(value, where, 'a mapping')
        for key, shape in {**self.required, **self.optional}.items():
            place = f'{where}.{key}' if where else key
            if key not in value:
                if key in self.required:
                    return f'{place} is missing'
                continue
            fault = shape.find_fault(value[key], place)
            if fault:
                return fault
        return None


@dataclass(frozen=True)
class Plain(Shape):
    """Plain values: texts, numbers, lists and mappings of them, not too deep; no tensors."""

    def _judge(self, value: Any, where: str) -> str | None:
        return self._search(value, where, 0)

    def _search(self, value: Any, where: str, depth: int) -> str | None:
        if depth > DEEPEST:
            return f'{where[:60]}: nested too deeply'
        if value is None or isinstance(value, (str, bool, float)):
            return None
        if isinstance(value, int):
            return None if abs(value) < 2**63 else f'{where}: the number is too large'
        if isinstance(value, Mapping) and all(isinstance(key, (str, int)) for key in value):
            return self._first(((item, f'{where}.{key}') for key, item in value.items()), depth)
        if isinstance(value, (list, tuple)):
            return self._first(((item, f'{where}[{i}]') for i, item in enumerate(value)), depth)
        return self._refuse(value, where, 'a plain value')

    def _first(self, items: Any, depth: int) -> str | None:
        return next((fault for item, place in items if (fault := self._search(item, place, depth + 1))), None)


def find_fault(content: Any, shape: Shape) -> str | None:
    """Say what is wrong with the content of a file.

    Args:
        content: What was read.
        shape: Of this kind of file, from :mod:`kdsr.foreign.kinds`.

    Returns:
        The fault with its place in the file, or None.

    Example:
        >>> find_fault({'iter': [3]}, Fields({'iter': whole()}))
        'iter must be a whole number, is a list'
    """
    return shape.find_fault(content, '')


def parse_json(text: str | bytes, shape: Shape) -> Any:
    """Parse JSON, and compare it with the shape of its kind.

    Raises:
        ValueError: it is not JSON, or does not have this shape; the message names the place.
    """
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError('it is nested too deeply') from None
    fault = find_fault(content, shape)
    if fault:
        raise ValueError(fault)
    return content
