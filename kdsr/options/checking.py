"""Check options without their file, registries and networks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kdsr.errors import UserError
from kdsr.options.distillation_block import distillation_problems
from kdsr.options.model_classes import model_class_of
from kdsr.options.problems import ERROR, Problem, list_problems
from kdsr.options.sections import check_own_values, check_sections, find_ignored_keys


def find_option_problems(opt: Mapping[str, Any], is_train: bool) -> list[Problem]:
    """Find the mistakes that the options alone show.

    Args:
        opt: All options, with defaults.
        is_train: For a training; a test ignores the `distillation:` block of a finished student.
    """
    problems = [*check_sections(opt, is_train), *find_ignored_keys(opt)]
    needs_teachers = model_class_of(opt.get('model_type')).teachers in ('training', 'always')
    if is_train and (needs_teachers or opt.get('distillation') is not None):
        problems += distillation_problems(opt)
    return list(dict.fromkeys(problems))


def check(opt: Mapping[str, Any]) -> None:
    """Check the `distillation:` block.

    Raises:
        UserError: the block has mistakes; the message lists them all.
    """
    _refuse(distillation_problems(opt), 'the `distillation:` block has mistakes')


def check_values(opt: Mapping[str, Any]) -> None:
    """Check the keys that kdsr adds outside the `distillation:` block.

    Raises:
        UserError: a value does not fit its key.
    """
    _refuse(check_own_values(opt), 'the options have mistakes')


def _refuse(problems: Iterable[Problem], title: str) -> None:
    errors = [problem for problem in problems if problem.kind == ERROR]
    if errors:
        raise UserError(f'{title}:\n{list_problems(errors)}')
