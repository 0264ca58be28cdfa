"""`kdsr check`: all mistakes in option files and comparison files."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Sequence

from kdsr import options
from kdsr.authoring.teacher_trial import find_teacher_problem
from kdsr.checks.experiment import find_problems
from kdsr.comparison.plan import read_comparison
from kdsr.cost.training_step import find_dry_run_problem
from kdsr.errors import UserError
from kdsr.experiment import read_experiment
from kdsr.options import ERROR, MISSING, WARNING, OptionFile, Place, Problem
from kdsr.wording import agree, counted

COMPARISON_KEYS = {'runs', 'baseline'}


def check(
    paths: Sequence[str],
    overrides: Sequence[str] = (),
    files: bool = True,
    quick: bool = False,
    tell: Callable[[str], None] = print,
) -> int:
    """Print all mistakes in option files.

    Args:
        paths: Option files, or patterns such as ``options/**/*.yml``.
        overrides: As after `--force_yml`, for all files.
        files: Also look at data and weights.
        quick: Do not read all weights, and take no step.
        tell: Prints a text.

    Returns:
        The exit status: 0 if a run of every file would start, else 1.

    Raises:
        UserError: `paths` is empty.
    """
    if not paths:
        raise UserError('name option files: kdsr check options/mtkd_edsr_x4.yml')
    text, fine = check_option_files(paths, overrides, files, quick)
    tell(text)
    return 0 if fine else 1


def check_option_files(
    paths: Sequence[str], overrides: Sequence[str] = (), files: bool = True, quick: bool = False
) -> tuple[str, bool]:
    """Find all mistakes in option files, before anything is built: what the start of a run finds, and more.

    A file without errors is also tried: every tensor of its weights is compared, one training step is taken on shapes
    alone, and the teachers are compared with bicubic upsampling on two training pairs.

    Args:
        paths: Option files, or patterns such as ``options/**/*.yml``.
        overrides: As after `--force_yml` (``train:ema_decay=0.999``), for all files.
        files: Also look at data and weights.
        quick: Do not read all weights, and take no step.

    Returns:
        A report, and whether a run of every file would start.

    Example:
        >>> import kdsr, os
        >>> from kdsr.options.shipped import find_shipped_folder
        >>> file = os.path.join(find_shipped_folder(), 'rfdn_x4.yml')
        >>> kdsr.check_option_files([file], files=False)
        ('1 file is fine', True)
        >>> report, fine = kdsr.check_option_files([file], ['network_g:num_feet=48'], files=False)
        >>> print(report.splitlines()[1].strip())
        --force_yml: network_g.num_feet: RFDN has no option 'num_feet'. Did you mean 'num_feat'?
    """
    problems: list[Problem] = []
    bad = 0
    found = _resolve_patterns(paths)
    for path in found:
        own = _find_problems(path, overrides, files, quick)
        problems += own
        bad += any(problem.kind != WARNING for problem in own)
    fine = f'{len(found) - bad} of {counted(len(found), "file")}' if bad else counted(len(found), 'file')
    counts = [f'{fine} {agree(len(found), "is", "are")} fine']
    for kind, word in ((ERROR, 'error'), (MISSING, 'missing file'), (WARNING, 'warning')):
        count = len({(p.place, p.path, p.text) if kind != MISSING else p.text for p in problems if p.kind == kind})
        counts += [counted(count, word)] if count else []
    return '\n'.join(filter(None, (options.report(problems), ', '.join(counts)))), bad == 0


def _resolve_patterns(paths: Iterable[str]) -> list[str]:
    found = [match for path in paths for match in (sorted(glob.glob(path, recursive=True)) or [path])]
    return list(dict.fromkeys(found))


def _find_problems(path: str, overrides: Sequence[str], files: bool, quick: bool) -> list[Problem]:
    try:
        file = options.read(path, overrides)
        if file.opt.keys() >= COMPARISON_KEYS:
            read_comparison(path)
            return []
        thorough = files and not quick
        found = find_problems(file, files=files, thorough=thorough)
        if thorough and not any(problem.kind != WARNING for problem in found):
            found += _try(file)
        return found
    except UserError as error:
        return [Problem((), str(error))]


def _try(file: OptionFile) -> list[Problem]:
    """Take one step of a training on shapes alone, then show two training pairs to its teachers."""
    opt = options.complete(options.clean(file), file.path)
    if not read_experiment(opt).is_train:
        return []
    text = find_dry_run_problem(opt) or find_teacher_problem(read_experiment(opt, is_train=True))
    return [] if text is None else [Problem((), text, place=Place(options.shorten_path(file.path)))]
