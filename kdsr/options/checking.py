"""Checking options before anything is built."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from kdsr.errors import UserError, did_you_mean
from kdsr.options.caching import cache_problems, caches_code, used_cache
from kdsr.options.table import BASICSR_MODELS, RAW_SET, TABLE, WEIGHTS, Option


def _outside_the_block(opt: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """Return the keys that kdsr adds outside the `distillation:` block: as written in the file, table and value."""
    blocks = {'top level': opt, 'train': opt.get('train') or {}, 'val': opt.get('val') or {}}
    return {
        key if table == 'top level' else f'{table}.{key}': (table, block.get(key))
        for table, block in blocks.items()
        for key in TABLE[table]
    }


def check_values(opt: Mapping[str, Any]) -> None:
    """Check the keys that kdsr adds outside the `distillation:` block.

    Raises:
        UserError: a value is not what its key takes.
    """
    rows = _outside_the_block(opt).items()
    problems = [p for key, (table, v) in rows for p in _check_value(key, v, TABLE[table][key.split('.')[-1]])]
    if problems:
        raise UserError(' '.join(problems))


def check_model(opt: Mapping[str, Any]) -> None:
    """Refuse kdsr's keys beside a model of BasicSR.

    Raises:
        UserError: the model would ignore them.
    """
    used = [f'`{key}`' for key, (_, value) in _outside_the_block(opt).items() if value]
    if used and opt.get('model_type') in BASICSR_MODELS:
        raise UserError(
            f"`model_type: {opt['model_type']}` is BasicSR's and would ignore {', '.join(used)}. "
            'Did you mean `model_type: StudentModel`?'
        )


def check(opt: Mapping[str, Any]) -> None:
    """Check the `distillation:` block.

    Raises:
        UserError: it lists every problem with its key and, where one is near, the likely word.
    """
    problems = list(_problems(opt))
    if problems:
        listed = '\n'.join(f'  - {p}' for p in problems)
        raise UserError(f'the `distillation:` block has mistakes:\n{listed}')


def _problems(opt: Mapping[str, Any]) -> Iterable[str]:
    block = opt.get('distillation')
    if opt.get('model_type') in (*BASICSR_MODELS, 'StudentModel'):
        yield (
            f'`model_type: {opt["model_type"]}` does not use the block, and would train without teachers. Did you '
            'mean `model_type: DistillationModel`? For the baseline, delete the block (`distillation: ~` in a variant).'
        )
    if not isinstance(block, dict):
        yield f'`distillation:` is missing: {opt.get("model_type")} needs at least its `teachers:`.'
        return
    yield from _check_keys('distillation', 'distillation', block)
    teachers = block['teachers'] if isinstance(block.get('teachers'), list) else []
    for i, teacher in enumerate(teachers):
        yield from _check_keys(f'distillation.teachers[{i}]', 'distillation.teachers[]', teacher)
        if isinstance(teacher, dict) and not teacher.get('path') and 'path' not in (teacher.get('network') or {}):
            yield f'distillation.teachers[{i}].path: missing. {WEIGHTS.doc}'
    names = [t.get('name') for t in teachers if isinstance(t, dict)]
    for name in sorted({str(n) for n in names if names.count(n) > 1}):
        yield f'distillation.teachers: the name {name!r} is used twice.'
    if isinstance(block.get('teachers'), list) and not teachers:
        yield 'distillation.teachers: the list is empty.'
    if block.get('aggregator') is not None:
        yield from _check_keys('distillation.aggregator', 'distillation.aggregator', block['aggregator'])
    unused = ('losses', 'features', 'views', 'aggregator', 'init_from')
    for key in unused if opt.get('model_type') == 'AggregationModel' else ():
        if block.get(key):
            yield f'distillation.{key}: AggregationModel (stage 1) does not use it; it belongs to stage 2.'
    yield from _check_cache(opt, block.get('cache'))
    yield from _check_init(block.get('init_from'), names)
    yield from _check_features(block.get('features'), names)
    yield from _check_losses(block.get('losses'))
    yield from _check_views(block.get('views'), block.get('losses'))


def _check_init(init: Any, teachers: list[Any]) -> Iterable[str]:
    if init is None:
        return
    yield from _check_keys('distillation.init_from', 'distillation.init_from', init)
    chosen = init.get('teacher') if isinstance(init, dict) else None
    if chosen is not None and chosen not in teachers:
        yield f'distillation.init_from.teacher: there is no {chosen!r}.{did_you_mean(chosen, map(str, teachers))}'


def _check_cache(opt: Mapping[str, Any], cache: Any) -> Iterable[str]:
    problems = list(_check_keys('distillation.cache', 'distillation.cache', cache)) if isinstance(cache, dict) else []
    yield from problems
    if isinstance(cache, (dict, str)) and not problems:
        yield from cache_problems(opt)


def _check_features(features: Any, teachers: list[Any]) -> Iterable[str]:
    for name, pair in (features or {}).items() if isinstance(features, dict) else ():
        where = f'distillation.features.{name}'
        if not re.fullmatch(r'[A-Za-z_][\w.-]*', str(name)):
            yield f'{where}: a feature name is a word: letters, digits, _, - and dots.'
        yield from _check_keys(where, 'distillation.features.*', pair)
        chosen = pair.get('from') if isinstance(pair, dict) else None
        if chosen is None and len(teachers) > 1:
            yield f'{where}: with several teachers say which one: `from: {teachers[0]}`.'
        if chosen is not None and chosen not in teachers:
            yield f'{where}.from: there is no teacher {chosen!r}.{did_you_mean(chosen, map(str, teachers))}'


def _check_losses(losses: Any) -> Iterable[str]:
    for name, loss in (losses or {}).items() if isinstance(losses, dict) else ():
        where = f'distillation.losses.{name}'
        if loss is None:  # a variant switches off a loss of its base
            continue
        if not str(name).startswith('l_') or name in ('l_pix', 'l_percep', 'l_style'):
            yield f"{where}: the name is the log's; start it with 'l_' and leave BasicSR's l_pix, l_percep, l_style."
        if not isinstance(loss, dict) or 'type' not in loss:
            yield f'{where}: needs a `type:`, the name of a loss.'


def _check_views(views: Any, losses: Any) -> Iterable[str]:
    terms = ['l_pix', 'l_percep', 'l_style', *(losses if isinstance(losses, dict) else ())]
    for name, view in (views or {}).items() if isinstance(views, dict) else ():
        where = f'distillation.views.{name}'
        if view is None:  # a variant switches off a view of its base
            continue
        if not re.fullmatch(r'\w+', str(name)):
            yield f'{where}: the name ends those of its losses in the log: letters, digits and _.'
        for term in terms:
            if f'{term}_{name}' in terms:
                yield f'{where}: the log would call its part of {term} {term}_{name}, the name of a loss of the run.'
        if not isinstance(view, dict) or 'type' not in view:
            yield f'{where}: needs a `type:`, the name of a view.'


def _check_keys(where: str, table: str, block: Any) -> Iterable[str]:
    known = TABLE[table]
    if not isinstance(block, dict):
        yield f'{where}: must be a mapping, is {block!r}.'
        return
    for key in block:
        if key not in known:
            yield f'{where}: unknown key {key!r}.{did_you_mean(key, known) or f" Known: {chr(44).join(known)}."}'
    for key, option in known.items():
        yield from _check_value(f'{where}.{key}', block.get(key), option)


def _check_value(where: str, value: Any, option: Option) -> Iterable[str]:
    if value is None:
        if option.required:
            yield f'{where}: missing. {option.doc}'
    elif not isinstance(value, option.types) or (isinstance(value, bool) and bool not in option.types):
        yield f'{where}: must be {" or ".join(t.__name__ for t in option.types)}, is {value!r}.'
    elif option.choices and value not in option.choices:
        yield f'{where}: must be one of {", ".join(option.choices)}, is {value!r}.'


def check_files(opt: Mapping[str, Any]) -> None:
    """Check that the data and weights that an experiment names are there, before anything is made.

    Raises:
        UserError: it lists everything that is missing.
    """
    problems = [*_missing_data(opt.get('datasets') or {}), *_missing_weights(opt)]
    if problems:
        listed = '\n'.join(f'  - {p}' for p in problems)
        raise UserError(
            f'files are missing (seen from {os.getcwd()!r}):\n{listed}\nHow to get them: datasets/README.md'
        )


def _missing_data(datasets: Mapping[str, Any]) -> Iterable[str]:
    for phase, dataset in datasets.items():
        backend = 'raw' if dataset.get('type') == RAW_SET else (dataset.get('io_backend') or {}).get('type')
        for key, path in dataset.items():
            if not key.startswith('dataroot') or not isinstance(path, str) or backend not in ('disk', 'lmdb', 'raw'):
                continue
            path = os.path.expanduser(path)
            if not os.path.exists(path):
                begun = os.path.exists(f'{path}.partial')
                cure = ' `kdsr prepare` has begun it: run the same command again to finish it.' if begun else ''
                yield f'datasets.{phase}.{key}: {path}{cure}'
            elif backend == 'lmdb' and not os.path.isfile(os.path.join(path, 'meta_info.txt')):
                yield f'datasets.{phase}.{key}: {path}/meta_info.txt (the LMDB is not finished; make it again)'


def _missing_weights(opt: Mapping[str, Any]) -> Iterable[str]:
    resumes = opt.get('auto_resume') or (opt.get('path') or {}).get('resume_state')
    for key, path in (opt.get('path') or {}).items():
        if key.startswith('pretrain_network') and isinstance(path, str) and not resumes and not os.path.isfile(path):
            yield f'path.{key}: {path}'
    block = opt.get('distillation')
    needed = opt.get('is_train', True) or opt.get('model_type') == 'AggregationModel'  # a finished student stands alone
    if not isinstance(block, dict) or not needed:
        return
    cache = used_cache(opt)
    if cache is not None and opt.get('is_train', True) and not os.path.isdir(os.path.expanduser(cache.path)):
        yield f'distillation.cache: {cache.path} (`kdsr cache FILE` makes it, and continues what was interrupted)'
    stage_1 = opt.get('model_type') == 'AggregationModel'  # which also validates with its teachers
    if cache is not None and not stage_1 and not caches_code(opt):
        return
    named = {f'distillation.teachers[{i}]': t for i, t in enumerate(block.get('teachers') or [])}
    named['distillation.aggregator'] = block.get('aggregator')
    for where, network in named.items():
        path = network.get('path') if isinstance(network, dict) else None
        if isinstance(path, str) and not os.path.isfile(os.path.expanduser(path)):
            own = path.startswith('experiments/') and '/models/net_g_' in path
            yield f'{where}.path: {path}{" (first train the run that writes it)" if own else ""}'
