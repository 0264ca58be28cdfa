"""Mistakes in option files, and the text of a report."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

KeyPath = tuple[Any, ...]  # keys and list indices, from the top of the options

ERROR, MISSING, WARNING = 'error', 'missing file', 'warning'


@dataclass(frozen=True)
class Place:
    """Where a key stands: the file (or `--force_yml`) and the line; None for the whole file."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f'{self.file}:{self.line}'


@dataclass(frozen=True)
class Problem:
    """One mistake in the options.

    Attributes:
        path: The key.
        text: The mistake and its cure.
        kind: ERROR, MISSING (a missing file or folder) or WARNING.
        place: Where the key stands; None if unknown.
        rivals: Other keys that it contradicts. The place is then that of the key which the user wrote last: in
            `--force_yml`, or in the file itself and not in its base.
    """

    path: KeyPath
    text: str
    kind: str = ERROR
    place: Place | None = None
    rivals: tuple[KeyPath, ...] = ()

    def __str__(self) -> str:
        parts = (None if self.place is None else str(self.place), dotted(self.path), self.text)
        return ': '.join(part for part in parts if part)


def dotted(path: KeyPath) -> str:
    """Return a path as text: ``distillation.teachers[0].path``."""
    text = ''.join(f'[{part}]' if isinstance(part, int) else f'.{part}' for part in path)
    return text[1:] if text.startswith('.') else text


def list_problems(problems: Iterable[Problem]) -> str:
    """Return problems as lines; the same problem of several files, from a common base, is one line."""
    lines = dict.fromkeys(str(problem) for problem in problems)
    return '\n'.join(f'  {line}' for line in lines)


def report(problems: Iterable[Problem]) -> str:
    """Return a report of problems, in groups: errors, missing files, warnings."""
    problems = list(problems)
    groups: Mapping[str, str] = {
        ERROR: 'errors:',
        MISSING: f'missing files, seen from {os.getcwd()} (how to get them: datasets/README.md):',
        WARNING: 'warnings:',
    }
    parts = []
    for kind, title in groups.items():
        chosen = [problem for problem in problems if problem.kind == kind]
        if chosen:
            parts.append(f'{title}\n{_list_missing(chosen) if kind == MISSING else list_problems(chosen)}')
    return '\n'.join(parts)


def _list_missing(problems: Iterable[Problem]) -> str:
    """Write each file that is missing once, however many option files name it."""
    named: dict[str, dict[str, None]] = {}
    for problem in problems:
        where = f'{problem.place}: {dotted(problem.path)}' if problem.place else dotted(problem.path)
        named.setdefault(problem.text, {})[where] = None
    lines = []
    for text, places in named.items():
        more = f' (and {len(places) - 1} more)' if len(places) > 1 else ''
        lines.append(f'  {next(iter(places))}{more}: {text}')
    return '\n'.join(lines)
