"""The option files that come with kdsr: find, list and copy them."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from kdsr.errors import UserError, did_you_mean
from kdsr.options.positions import read_yaml

_PACKAGE = Path(__file__).parents[1]


def find_shipped_folder() -> Path:
    """Return the folder of the option files: the checkout's, or the copy inside an installed package.

    Raises:
        UserError: both are missing.
    """
    for folder in (_PACKAGE / 'option_files', _PACKAGE.parent / 'options'):
        if folder.is_dir():
            return folder
    raise UserError(f'the option files are missing beside {_PACKAGE}: install kdsr again.')


def list_shipped_names() -> list[str]:
    """Return the names of the option files, relative to their folder."""
    folder = find_shipped_folder()
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*.yml'))


def expand_braces(pattern: str) -> list[str]:
    """Expand braces as a shell does: `a_{b,c}` becomes `a_b` and `a_c`."""
    found = re.search(r'\{([^{}]*)\}', pattern)
    if not found:
        return [pattern]
    return [whole for part in found[1].split(',') for whole in expand_braces(pattern.replace(found[0], part, 1))]


def list_shipped(patterns: Sequence[str] = ()) -> str:
    """Return a line for every option file: its name and its first comment.

    Args:
        patterns: Of the names, such as ``mtkd_*``, ``{lsfd,facd}_edsr_x4`` or ``ablations/rfdn/*``; all when empty.

    Raises:
        UserError: a pattern matches no file.
    """
    names = _choose(patterns)
    width = max(map(len, names))
    folder = find_shipped_folder()
    return '\n'.join(f'{name:<{width}}  {_read_first_comment(folder / name)}'.rstrip() for name in names)


def copy_shipped(patterns: Sequence[str], to: str) -> str:
    """Copy option files and their bases into a folder.

    Args:
        patterns: See :func:`list_shipped`.
        to: The folder.

    Returns:
        The paths of the copies, one per line.

    Raises:
        UserError: a pattern matches no file, or the folder contains another file with a name of these.
    """
    source, target = find_shipped_folder(), Path(to)
    names = list(dict.fromkeys(name for chosen in _choose(patterns) for name in _find_bases(source, chosen)))
    for name in names:
        there = target / name
        if there.exists() and there.read_bytes() != (source / name).read_bytes():
            raise UserError(f'{there} exists and differs: nothing was copied. Name another folder.')
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)
    return '\n'.join(str(target / name) for name in names)


def _choose(patterns: Sequence[str]) -> list[str]:
    names = list_shipped_names()
    if not patterns:
        return names
    chosen: list[str] = []
    for pattern in patterns:
        plain = [whole for one in expand_braces(pattern) for whole in (one, f'{one}.yml')]
        found = [n for n in names if any(fnmatch.fnmatch(n, one) for one in plain)]
        if not found:
            raise UserError(f'there is no option file {pattern!r}.{did_you_mean(pattern, names)}')
        chosen += found
    return chosen


def _read_first_comment(path: Path) -> str:
    first = path.read_text(encoding='utf-8').split('\n', 1)[0]
    return first.lstrip('# ') if first.startswith('#') else ''


def _find_bases(folder: Path, name: str) -> Iterator[str]:
    """Yield an option file and its bases."""
    yield name
    content = read_yaml(str(folder / name))
    bases = [content.get('base'), *(run.get('base') for run in (content.get('runs') or {}).values())]
    for base in filter(None, bases):
        yield from _find_bases(folder, os.path.normpath(os.path.join(os.path.dirname(name), base)).replace(os.sep, '/'))
