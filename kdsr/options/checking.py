"""Refusing wrong options: the same checks where only the options are at hand, without the file that they came from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kdsr.errors import UserError
from kdsr.options.distillation_block import distillation_problems
from kdsr.options.model_classes import model_class_of
from kdsr.options.problems import ERROR, Problem, listed
from kdsr.options.sections import ignored_keys, own_value_problems, section_problems


def option_problems(opt: Mapping[str, Any], is_train: bool) -> list[Problem]:
    """Find everything that is wrong in the options themselves: no registry, file or network is looked at.

    Args:
        opt: All options, with defaults.
        is_train: For a training; else for a test, for which a finished student's `distillation:` block counts nothing.
    """
    problems = [*section_problems(opt, is_train), *ignored_keys(opt)]
    needs_teachers = model_class_of(opt.get('model_type')).teachers in ('training', 'always')
    if is_train and (needs_teachers or opt.get('distillation') is not None):
        problems += distillation_problems(opt)
    return list(dict.fromkeys(problems))


def check(opt: Mapping[str, Any]) -> None:
    """Check the `distillation:` block.

    Raises:
        UserError: it lists every problem with its key and, where one is near, the likely word.
    """
    _refuse(distillation_problems(opt), 'the `distillation:` block has mistakes')


def check_values(opt: Mapping[str, Any]) -> None:
    """Check the keys that kdsr adds outside the `distillation:` block.

    Raises:
        UserError: a value is not what its key takes.
    """
    _refuse(own_value_problems(opt), 'the options have mistakes')


def _refuse(problems: Iterable[Problem], title: str) -> None:
    errors = [problem for problem in problems if problem.kind == ERROR]
    if errors:
        raise UserError(f'{title}:\n{listed(errors)}')
