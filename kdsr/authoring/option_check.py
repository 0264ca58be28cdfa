"""`kdsr check`: the mistakes in option files and comparison files, all at once."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Sequence

from kdsr import options
from kdsr.checks.experiment import problems_of
from kdsr.comparison.plan import read_comparison
from kdsr.errors import UserError
from kdsr.options import ERROR, MISSING, WARNING, Problem

COMPARISON_KEYS = {'runs', 'baseline'}


def check(
    paths: Sequence[str],
    overrides: Sequence[str] = (),
    files: bool = True,
    tell: Callable[[str], None] = print,
) -> int:
    """Print what is wrong with option files; return the exit status.

    Args:
        paths: Option files; patterns such as ``options/**/*.yml`` are resolved where the shell did not.
        overrides: As after `--force_yml`, for all of them.
        files: Also look at data and weights.
        tell: Where the text goes.

    Raises:
        UserError: no file is named.
    """
    if not paths:
        raise UserError('name option files: kdsr check options/mtkd_edsr_x4.yml')
    text, fine = check_option_files(paths, overrides, files)
    tell(text)
    return 0 if fine else 1


def check_option_files(paths: Sequence[str], overrides: Sequence[str] = (), files: bool = True) -> tuple[str, bool]:
    """Check option files, as `kdsr check` does.

    Args:
        paths: Option files; patterns such as ``options/**/*.yml`` are resolved where the shell did not.
        overrides: As after `--force_yml`, for all of them.
        files: Also look at data and weights.

    Returns:
        What to print, and whether a run of each would start.
    """
    problems: list[Problem] = []
    bad = 0
    found = _resolved(paths)
    for path in found:
        own = _problems_in(path, overrides, files)
        problems += own
        bad += any(problem.kind != WARNING for problem in own)
    counts = [f'{len(found) - bad} of {len(found)} files are fine' if bad else _fine(len(found))]
    for kind, word in ((ERROR, 'error'), (MISSING, 'missing file'), (WARNING, 'warning')):
        count = len({(p.place, p.path, p.text) if kind != MISSING else p.text for p in problems if p.kind == kind})
        counts += [f'{count} {word}{"s" if count > 1 else ""}'] if count else []
    return '\n'.join(filter(None, (options.report(problems), ', '.join(counts)))), bad == 0


def _fine(count: int) -> str:
    return '1 file is fine' if count == 1 else f'{count} files are fine'


def _resolved(paths: Iterable[str]) -> list[str]:
    found = [match for path in paths for match in (sorted(glob.glob(path, recursive=True)) or [path])]
    return list(dict.fromkeys(found))


def _problems_in(path: str, overrides: Sequence[str], files: bool) -> list[Problem]:
    try:
        file = options.read(path, overrides)
        if file.opt.keys() >= COMPARISON_KEYS:
            read_comparison(path)
            return []
        return problems_of(file, files=files)
    except UserError as error:
        return [Problem((), str(error))]
