"""What is wrong in an option file, and how it is told."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

KeyPath = tuple[Any, ...]  # keys and places in lists, from the top of the options

ERROR, MISSING, WARNING = 'error', 'missing file', 'warning'


@dataclass(frozen=True)
class Place:
    """Where a key stands: the file (or `--force_yml`) and the line, None for the file as a whole."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f'{self.file}:{self.line}'


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        path: The key.
        text: What is wrong, and the cure.
        kind: ERROR, MISSING (a file or folder that is not there) or WARNING.
        place: Where the key stands; None where that is not known.
    """

    path: KeyPath
    text: str
    kind: str = ERROR
    place: Place | None = None

    def __str__(self) -> str:
        parts = (None if self.place is None else str(self.place), dotted(self.path), self.text)
        return ': '.join(part for part in parts if part)


def dotted(path: KeyPath) -> str:
    """Write a path as people do: ``distillation.teachers[0].path``."""
    text = ''.join(f'[{part}]' if isinstance(part, int) else f'.{part}' for part in path)
    return text[1:] if text.startswith('.') else text


def listed(problems: Iterable[Problem]) -> str:
    """Write problems one below the other; what several files have from one base is told once."""
    lines = dict.fromkeys(str(problem) for problem in problems)
    return '\n'.join(f'  {line}' for line in lines)


def report(problems: Iterable[Problem]) -> str:
    """Write all problems: errors, missing files and warnings, apart from each other."""
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
            parts.append(f'{title}\n{_missing(chosen) if kind == MISSING else listed(chosen)}')
    return '\n'.join(parts)


def _missing(problems: Iterable[Problem]) -> str:
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
