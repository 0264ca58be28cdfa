"""`distillation.cache`: its settings, its content, and the training set that reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kdsr.options.model_classes import model_class_of
from kdsr.options.problems import Problem
from kdsr.options.rows import block_of, check_rows
from kdsr.options.table import DEGRADED_SET, RAW_SET, TABLE

Content = Literal['image', 'teacher_images', 'code']

NEEDS_LIVE_TEACHERS = {
    'features': (
        'features are never cached: they would take ten times the room, and flips change them (of a single teacher '
        'with `input: gt`, the output of its encoder is cached instead)'
    ),
    'views': 'views are new images, which the teachers have to see',
    'init_from': "the student's first weights come from a teacher",
}


@dataclass(frozen=True)
class Cache:
    """`distillation.cache`.

    Attributes:
        path: The folder of the cache.
        self_ensemble: It holds the mean over the eight flips and turns.
        margin: Low-resolution pixels at the border of each crop that distillation losses do not see.
        exact: Run the teachers live although a cache is named.
    """

    path: str
    self_ensemble: bool = False
    margin: int = 0
    exact: bool = False


def cache_of(opt: Mapping[str, Any]) -> Cache | None:
    """Return the cache that an option file names; None where there is none, or none that can be read."""
    given = block_of(opt, 'distillation').get('cache')
    if isinstance(given, str):
        return Cache(given)
    if not isinstance(given, dict) or any(check_rows((), given, TABLE['distillation.cache'])):
        return None
    return Cache(**given)


def used_cache(opt: Mapping[str, Any]) -> Cache | None:
    """Return the cache that training reads; None where the teachers run live."""
    cache = cache_of(opt)
    return None if cache is None or cache.exact else cache


def cached_content(opt: Mapping[str, Any]) -> Content:
    """Return what a cache stores of a training image.

    'code': the output of a privileged teacher's encoder for the ground truth (PISR), where the only teacher has
    `input: gt` and its features are compared. The features are the decoder's, which runs live on the cached code.
    'teacher_images': the image of each teacher, where the trained network fuses them (MTKD, stage 1).
    'image': the one image that the student learns from, in all other experiments.
    """
    block = block_of(opt, 'distillation')
    teachers, tapped = block.get('teachers'), any(pair is not None for pair in block_of(block, 'features').values())
    if tapped and isinstance(teachers, list) and [block_of(t).get('input') for t in teachers] == ['gt']:
        return 'code'
    return 'teacher_images' if model_class_of(opt.get('model_type')).input == 'teacher_images' else 'image'


def with_cache(opt: Mapping[str, Any]) -> dict[str, Any]:
    """Return options whose training set also delivers the cached images (`teacher`) or codes (`code`)."""
    cache, datasets = used_cache(opt), opt.get('datasets') or {}
    if cache is None or 'train' not in datasets:
        return dict(opt)
    kind = 'code' if cached_content(opt) == 'code' else 'teacher'
    train_set = {**datasets['train'], f'dataroot_{kind}': cache.path}
    if train_set['type'] != RAW_SET:
        train_set.update(type='TeacherImagesDataset', images=train_set['type'])
    return {**opt, 'datasets': {**datasets, 'train': train_set}}


def cache_problems(opt: Mapping[str, Any]) -> Iterator[Problem]:
    """Check a cache whose keys are valid; yield its problems."""
    cache = used_cache(opt)
    if cache is None:
        return
    block = opt['distillation']
    code = cached_content(opt) == 'code'
    for key, reason in NEEDS_LIVE_TEACHERS.items():
        given = block_of(block, key)
        live = any(part is not None for part in given.values())  # a variant switches off parts of its base
        if live and not (code and key in ('features', 'init_from')):
            text = f'not with `cache`: {reason}. Leave one out, or say `exact: true` under `cache`.'
            yield Problem(('distillation', key), text)
    for key in ('self_ensemble', 'margin') if code else ():
        if getattr(cache, key):
            yield Problem(('distillation', 'cache', key), 'not where features are compared.')
    yield from _degradation_problems(opt)
    train_set = block_of(opt, 'datasets', 'train')
    for key in ('mean', 'std'):
        if train_set.get(key) is not None:
            yield Problem(('datasets', 'train', key), 'not with `distillation.cache`, which holds images in [0, 1].')
    gt_size, scale = train_set.get('gt_size'), opt.get('scale')
    size = gt_size // scale if isinstance(gt_size, int) and isinstance(scale, int) and scale > 0 else 0
    if size and 2 * cache.margin >= size:
        yield Problem(
            ('distillation', 'cache', 'margin'),
            f'{cache.margin} at each side leave nothing of crops of {size} pixels.',
        )


def _degradation_problems(opt: Mapping[str, Any]) -> Iterator[Problem]:
    """Refuse a cache where every step makes other low-quality images."""
    train_set, model = block_of(opt, 'datasets', 'train'), model_class_of(opt.get('model_type'))
    if train_set.get('type') == DEGRADED_SET:
        text = f'not with `distillation.cache`, which holds answers to the clean images; {DEGRADED_SET} degrades them.'
        yield Problem(('datasets', 'train', 'type'), text)
    if model.makes_lq and opt.get('high_order_degradation', True):
        text = f'not with {model.name}, which makes other low-quality images in each step: its teachers run live.'
        yield Problem(('distillation', 'cache'), text)
