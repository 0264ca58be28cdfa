"""Data and weights that an option file names and that are not there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from kdsr.options.caching import caches_code, used_cache
from kdsr.options.problems import MISSING, Path, Problem
from kdsr.options.rows import block_of, row_problems
from kdsr.options.table import RAW_SET, TABLE


def file_problems(opt: Mapping[str, Any]) -> Iterator[Problem]:
    """Find what is missing; of a run that is resumed or only tested, less is needed.

    Args:
        opt: All options, with `is_train` and `auto_resume` as BasicSR sets them; a training when they are left out.
    """
    yield from _missing_data(block_of(opt, 'datasets'))
    yield from _missing_weights(opt)


def _missing_data(datasets: Mapping[str, Any]) -> Iterator[Problem]:
    for phase, dataset in datasets.items():
        if not isinstance(dataset, Mapping):
            continue
        backend = 'raw' if dataset.get('type') == RAW_SET else block_of(dataset, 'io_backend').get('type')
        for key, path in dataset.items():
            where = ('datasets', phase, key)
            if key in ('meta_info_file', 'meta_info') and isinstance(path, str) and backend == 'disk':
                if not os.path.isfile(os.path.expanduser(path)):
                    yield Problem(where, path, MISSING)
            elif str(key).startswith('dataroot') and isinstance(path, str) and backend in ('disk', 'lmdb', 'raw'):
                yield from _missing_folder(where, os.path.expanduser(path), backend)


def _missing_folder(where: Path, path: str, backend: str) -> Iterator[Problem]:
    if not os.path.exists(path):
        begun = os.path.exists(f'{path}.partial')
        cure = ' (`kdsr prepare` has begun it: run the same command again to finish it)' if begun else ''
        yield Problem(where, f'{path}{cure}', MISSING)
    elif backend == 'lmdb' and not os.path.isfile(os.path.join(path, 'meta_info.txt')):
        yield Problem(where, f'{path}/meta_info.txt (the LMDB is not finished; make it again)', MISSING)


def _missing_weights(opt: Mapping[str, Any]) -> Iterator[Problem]:
    path_opt = block_of(opt, 'path')
    resumes = opt.get('auto_resume') or path_opt.get('resume_state')
    for key, path in path_opt.items():
        wanted = str(key).startswith('pretrain_network') and not resumes
        if wanted and isinstance(path, str) and not os.path.isfile(os.path.expanduser(path)):
            yield Problem(('path', key), path, MISSING)
    block, is_train = opt.get('distillation'), opt.get('is_train', True)
    is_stage_1 = opt.get('model_type') == 'AggregationModel'
    if not isinstance(block, dict) or not (is_train or is_stage_1):  # a finished student stands alone
        return
    cache = used_cache(opt) if _is_cache(block.get('cache')) else None
    if cache is not None and is_train and not os.path.isdir(os.path.expanduser(cache.path)):
        cure = '(`kdsr cache FILE` makes it, and continues what was interrupted)'
        yield Problem(('distillation', 'cache'), f'{cache.path} {cure}', MISSING)
    if cache is not None and not is_stage_1 and not caches_code(opt):  # stage 1 also validates with its teachers
        return
    teachers = block['teachers'] if isinstance(block.get('teachers'), list) else []
    named: dict[Path, Any] = {('teachers', i): teacher for i, teacher in enumerate(teachers)}
    named['aggregator',] = block.get('aggregator')
    for where, network in named.items():
        for inner in ((), ('network',)):  # `type: Spandrel` names its file itself
            file = block_of(network, *inner).get('path')
            if isinstance(file, str) and not os.path.isfile(os.path.expanduser(file)):
                own = file.startswith('experiments/') and '/models/net_g_' in file
                cure = ' (first train the run that writes it)' if own else ''
                yield Problem(('distillation', *where, *inner, 'path'), f'{file}{cure}', MISSING)


def _is_cache(given: Any) -> bool:
    """Return whether a cache is named in the way that :class:`~kdsr.options.caching.Cache` takes."""
    is_block = isinstance(given, dict) and not any(row_problems((), given, TABLE['distillation.cache']))
    return isinstance(given, str) or is_block
