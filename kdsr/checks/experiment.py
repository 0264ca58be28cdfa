"""All checks of one experiment."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from basicsr.utils.logger import initialized_logger

from kdsr import plugins
from kdsr.checks.downloads import find_download_problems
from kdsr.checks.networks import find_network_problems
from kdsr.checks.pairs import find_pair_problems
from kdsr.checks.registered import find_registry_problems
from kdsr.checks.weights import find_weight_problems
from kdsr.errors import UserError
from kdsr.experiment import Experiment, read_experiment, rules
from kdsr.experiment.missing_files import find_missing_files
from kdsr.options import ERROR, MISSING, WARNING, OptionFile, Problem, block_of, find_option_problems, report
from kdsr.pyiqa_metric import prepare_metrics


def find_problems(
    file: OptionFile,
    is_train: bool | None = None,
    files: bool = True,
    auto_resume: bool = False,
    thorough: bool = False,
) -> list[Problem]:
    """Find everything that is wrong with an experiment; nothing is written, and no weights are made.

    Args:
        file: What :func:`kdsr.options.read` returned.
        is_train: For a training, or for a test; as the file says when None.
        files: Also look at data and weights.
        auto_resume: The run resumes from the newest state, so it needs no initial weights.
        thorough: Also compare every tensor of the weights, as a start does when it loads them.
    """
    experiment = read_experiment(file.opt, is_train)
    problems = [*file.problems, *find_option_problems(file.opt, experiment.is_train)]
    with _silence_logger():
        try:
            plugins.import_named(experiment.imports)
        except UserError as error:
            problems.append(Problem(('import_modules',), str(error)))
        problems += find_registry_problems(file.opt, experiment)
        problems += find_network_problems(experiment)
        problems += _find_training_problems(experiment) if experiment.is_train else ()
        if files:
            problems += find_missing_files(experiment, auto_resume)
            problems += find_download_problems(experiment)
            strict = block_of(file.opt, 'path').get('strict_load_g') is not False
            problems += find_weight_problems(experiment, auto_resume, strict, thorough)
            problems += _find_metric_problems(experiment) if not any(p.kind == ERROR for p in problems) else ()
            if not any(problem.kind == ERROR for problem in problems):  # what follows relies on the keys
                problems += find_pair_problems(experiment)
    return file.add_places(dict.fromkeys(problems))


def _find_training_problems(experiment: Experiment) -> Iterator[Problem]:
    yield from rules.find_step_problems(experiment)
    yield from rules.find_objective_problems(experiment)
    yield from rules.find_start_problems(experiment)


def _find_metric_problems(experiment: Experiment) -> Iterator[Problem]:
    """Report metrics of pyiqa whose weights are not on this machine: the first validation may be hours away."""
    for name, text in prepare_metrics(experiment.validation.metrics):
        yield Problem(('val', 'metrics', name), text, MISSING)


def refuse_mistakes(file: OptionFile, is_train: bool, auto_resume: bool = False) -> None:
    """Stop a run before anything is built; print what may be a mistake.

    Raises:
        UserError: it lists all errors and all files that are missing.
    """
    problems = find_problems(file, is_train, auto_resume=auto_resume)
    first = int(os.environ.get('RANK', 0)) == 0  # one of several processes reports
    if first and any(problem.kind == WARNING for problem in problems):
        print(f'kdsr: {report(p for p in problems if p.kind == WARNING)}', flush=True)  # noqa: T201 - no logger yet
    wrong = [problem for problem in problems if problem.kind != WARNING]
    if wrong:
        details = f'\n{report(wrong)}' if first else ' the first process lists the errors.'
        raise UserError(f'{file.path} cannot be run:{details}')


def refuse_errors(file: OptionFile, is_train: bool) -> None:
    """Stop before anything is built; the caller knows which files are needed.

    Raises:
        UserError: it lists all errors.
    """
    errors = [problem for problem in find_problems(file, is_train, files=False) if problem.kind == ERROR]
    if errors:
        raise UserError(f'{file.path} cannot be used:\n{report(errors)}')


@contextlib.contextmanager
def _silence_logger() -> Iterator[None]:
    """Keep BasicSR's logger from being set up: the run that follows gives it its file."""
    before = dict(initialized_logger)
    initialized_logger['basicsr'] = True
    try:
        yield
    finally:
        initialized_logger.clear()
        initialized_logger.update(before)
