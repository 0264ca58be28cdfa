"""Checks of the `distillation:` block that need only the option file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from kdsr.errors import did_you_mean
from kdsr.options.caching import cache_problems
from kdsr.options.model_classes import model_class_of
from kdsr.options.problems import KeyPath, Problem
from kdsr.options.rows import check_rows
from kdsr.options.table import TABLE, WEIGHTS

BLOCK: KeyPath = ('distillation',)


def distillation_problems(opt: Mapping[str, Any]) -> Iterator[Problem]:
    """Check the `distillation:` block of a training."""
    block, model = opt.get('distillation'), model_class_of(opt.get('model_type'))
    if block is not None and model.teachers == 'unused':
        yield Problem(
            ('model_type',),
            f'{model.name} does not use the `distillation:` block, and would train without teachers. Did you mean '
            '`DistillationModel`? For the baseline, delete the block (`distillation: ~` in a variant).',
        )
    if not isinstance(block, dict):
        yield Problem(BLOCK, f'missing: {model.name} needs at least its `teachers:`.')
        return
    yield from check_rows(BLOCK, block, TABLE['distillation'])
    teachers = block['teachers'] if isinstance(block.get('teachers'), list) else []
    names = [t.get('name') for t in teachers if isinstance(t, dict)]
    yield from _teacher_problems(teachers, names)
    if isinstance(block.get('teachers'), list) and not teachers:
        yield Problem((*BLOCK, 'teachers'), 'the list is empty.')
    if block.get('aggregator') is not None:
        yield from check_rows((*BLOCK, 'aggregator'), block['aggregator'], TABLE['distillation.aggregator'])
    for key in model.unused_keys:
        if block.get(key):
            yield Problem((*BLOCK, key), f'{model.name} does not use it; it belongs to DistillationModel.')
    yield from _cache_problems(opt, block.get('cache'))
    yield from _init_problems(block.get('init_from'), names)
    yield from _feature_problems(block.get('features'), names)
    yield from _discriminator_problems(opt, block)
    yield from _loss_problems(block.get('losses'))
    yield from _view_problems(block.get('views'), block.get('losses'))


def _teacher_problems(teachers: list[Any], names: list[Any]) -> Iterator[Problem]:
    for i, teacher in enumerate(teachers):
        where = (*BLOCK, 'teachers', i)
        yield from check_rows(where, teacher, TABLE['distillation.teachers[]'])
        network = teacher.get('network') if isinstance(teacher, dict) else None
        if isinstance(teacher, dict) and not teacher.get('path') and 'path' not in (network or ()):
            yield Problem((*where, 'path'), f'missing. {WEIGHTS.doc}')
    for name in sorted({str(n) for n in names if n is not None and names.count(n) > 1}):
        yield Problem((*BLOCK, 'teachers'), f'the name {name!r} is used twice.')


def _init_problems(init: Any, teachers: list[Any]) -> Iterator[Problem]:
    if init is None:
        return
    where = (*BLOCK, 'init_from')
    yield from check_rows(where, init, TABLE['distillation.init_from'])
    chosen = init.get('teacher') if isinstance(init, dict) else None
    if chosen is not None and chosen not in teachers:
        yield Problem((*where, 'teacher'), f'there is no {chosen!r}.{did_you_mean(chosen, map(str, teachers))}')


def _cache_problems(opt: Mapping[str, Any], cache: Any) -> Iterator[Problem]:
    where = (*BLOCK, 'cache')
    problems = list(check_rows(where, cache, TABLE['distillation.cache'])) if isinstance(cache, dict) else []
    yield from problems
    if isinstance(cache, (dict, str)) and not problems:
        yield from cache_problems(opt)


def _feature_problems(features: Any, teachers: list[Any]) -> Iterator[Problem]:
    for name, pair in features.items() if isinstance(features, dict) else ():
        where = (*BLOCK, 'features', name)
        if not re.fullmatch(r'[A-Za-z_][\w.-]*', str(name)):
            yield Problem(where, 'a feature name is a word: letters, digits, _, - and dots.')
        yield from check_rows(where, pair, TABLE['distillation.features.*'])
        chosen = pair.get('from') if isinstance(pair, dict) else None
        if chosen is None and len(teachers) > 1:
            yield Problem(where, f'with several teachers say which one: `from: {teachers[0]}`.')
        if chosen is not None and chosen not in teachers:
            hint = did_you_mean(chosen, map(str, teachers))
            yield Problem((*where, 'from'), f'there is no teacher {chosen!r}.{hint}')


def _discriminator_problems(opt: Mapping[str, Any], block: Mapping[str, Any]) -> Iterator[Problem]:
    points = block.get('discriminator_features')
    where = (*BLOCK, 'discriminator_features')
    if points and not isinstance(opt.get('network_d'), dict):
        yield Problem(where, f'{opt.get("model_type")} has no discriminator here: `network_d` is missing.')
    for name, point in points.items() if isinstance(points, dict) else ():
        if not isinstance(point, str):
            yield Problem((*where, name), f'must be a module path in `network_d`, is {point!r}.')
        if name in (block.get('features') or {}):
            yield Problem((*where, name), 'the name stands in `features` too; use another one.')


def _loss_problems(losses: Any) -> Iterator[Problem]:
    for name, loss in losses.items() if isinstance(losses, dict) else ():
        where = (*BLOCK, 'losses', name)
        if loss is None:  # a variant switches off a loss of its base
            continue
        if not str(name).startswith('l_') or name in ('l_pix', 'l_percep', 'l_style'):
            yield Problem(
                where, "the name is the log's; start it with 'l_' and leave BasicSR's l_pix, l_percep, l_style."
            )
        if not isinstance(loss, dict) or 'type' not in loss:
            yield Problem(where, 'needs a `type:`, the name of a loss.')


def _view_problems(views: Any, losses: Any) -> Iterator[Problem]:
    terms = ['l_pix', 'l_percep', 'l_style', *(losses if isinstance(losses, dict) else ())]
    for name, view in views.items() if isinstance(views, dict) else ():
        where = (*BLOCK, 'views', name)
        if view is None:  # a variant switches off a view of its base
            continue
        if not re.fullmatch(r'\w+', str(name)):
            yield Problem(where, 'the name ends those of its losses in the log: letters, digits and _.')
        for term in terms:
            if f'{term}_{name}' in terms:
                yield Problem(where, f'the log would call its part of {term} {term}_{name}, the name of another loss.')
        if not isinstance(view, dict) or 'type' not in view:
            yield Problem(where, 'needs a `type:`, the name of a view.')
