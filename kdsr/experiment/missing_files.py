"""Missing data and weight files of an experiment."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from kdsr.errors import UserError, did_you_mean
from kdsr.experiment.experiment import Experiment
from kdsr.options import MISSING, KeyPath, Problem, block_of, report
from kdsr.options.table import RAW_SETS


def check_files(experiment: Experiment) -> None:
    """Check that the data and weights of an experiment are there, before anything is made.

    Raises:
        UserError: files are missing; the message lists all.
    """
    problems = list(find_missing_files(experiment))
    if problems:
        raise UserError(report(problems))


def find_missing_files(experiment: Experiment, auto_resume: bool = False) -> Iterator[Problem]:
    """Yield every missing file and folder; a resumed run needs no initial weights.

    Args:
        experiment: A training or a test.
        auto_resume: The run resumes from the newest state.
    """
    for phase, dataset in experiment.datasets.items():
        yield from _missing_data(phase, dataset)
    cache = experiment.used_cache if experiment.is_train else None
    if cache is not None and not os.path.isdir(os.path.expanduser(cache.path)):
        cure = '(`kdsr cache FILE` makes it, and continues what was interrupted)'
        yield Problem(('distillation', 'cache'), f'{cache.path} {cure}', MISSING)
    resumes = auto_resume or experiment.resumes
    for network in experiment.networks:
        for path, file in network.files() if experiment.builds(network) else ():
            starts = path[0] == 'path'  # a resumed run does not need it
            if not (starts and resumes) and not os.path.isfile(os.path.expanduser(file)):
                own = not starts and file.startswith('experiments/') and '/models/net_g_' in file
                cure = ' (first train the run that writes it)' if own else name_neighbour(file)
                yield Problem(path, f'{file}{cure}', MISSING)


def name_neighbour(path: str) -> str:
    """Return a question with the names in the same folder that are close to a missing one; '' where there are none."""
    folder, name = os.path.split(os.path.abspath(os.path.expanduser(path)))
    names = os.listdir(folder) if os.path.isdir(folder) else []
    hint = did_you_mean(name, (other for other in names if not other.startswith('.')))
    return f' (did{hint[4:]})' if hint else ''


def _missing_data(phase: str, dataset: Mapping[str, Any]) -> Iterator[Problem]:
    backend = 'raw' if dataset.get('type') in RAW_SETS else block_of(dataset, 'io_backend').get('type')
    for key, path in dataset.items():
        where = ('datasets', phase, key)
        if key in ('meta_info_file', 'meta_info') and isinstance(path, str) and backend == 'disk':
            if not os.path.isfile(os.path.expanduser(path)):
                yield Problem(where, f'{path}{name_neighbour(path)}', MISSING)
        elif str(key).startswith('dataroot') and isinstance(path, str) and backend in ('disk', 'lmdb', 'raw'):
            yield from _missing_folder(where, os.path.expanduser(path), backend)


def _missing_folder(where: KeyPath, path: str, backend: str) -> Iterator[Problem]:
    if not os.path.exists(path):
        begun = os.path.exists(f'{path}.partial')
        cure = (
            ' (`kdsr prepare` has begun it: run the same command again to finish it)' if begun else name_neighbour(path)
        )
        yield Problem(where, f'{path}{cure}', MISSING)
    elif backend == 'lmdb' and not os.path.isfile(os.path.join(path, 'meta_info.txt')):
        yield Problem(where, f'{path}/meta_info.txt (the LMDB is not finished; make it again)', MISSING)
