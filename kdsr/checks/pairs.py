"""The images of an experiment: do low and high resolution belong together, and the teacher cache to both?"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from basicsr.utils.registry import DATASET_REGISTRY

from kdsr.checks.paired_files import find_paired_problems
from kdsr.data.growing_folder import list_differences, read_settings
from kdsr.data.raw_images import RawImages
from kdsr.distillation.teacher_key import teacher_key
from kdsr.errors import UserError
from kdsr.experiment import Experiment
from kdsr.options import ERROR, KeyPath, Problem, report
from kdsr.options.table import RAW_SETS


def find_pair_problems(experiment: Experiment) -> Iterator[Problem]:
    """Look at the images of every set that is there: names, counts, sizes; no pixel is read.

    Args:
        experiment: Its options are checked.
    """
    for phase, dataset in experiment.datasets.items():
        if not all(
            isinstance(dataset.get(key), str) and os.path.isdir(os.path.expanduser(dataset[key]))
            for key in ('dataroot_gt', 'dataroot_lq')
        ):
            continue
        where, trains = ('datasets', phase), experiment.is_train and phase == 'train'
        try:
            if dataset.get('type') in RAW_SETS:
                _open_raw(where, dataset, experiment.scale, trains)
            elif dataset.get('type') == 'PairedImageDataset':
                border = None if trains else _find_niqe_border(experiment)
                yield from find_paired_problems(where, dataset, experiment.scale, trains, border)
        except UserError as error:
            yield Problem(where, str(error))
    yield from _find_cache_problems(experiment)


def refuse_bad_training_pairs(experiment: Experiment) -> None:
    """Refuse a training set with images that cannot be used, before teachers are run on it.

    Raises:
        UserError: it lists all problems.
    """
    experiment = replace(experiment, is_train=True).live()
    train_set = {phase: dataset for phase, dataset in experiment.datasets.items() if phase == 'train'}
    errors = [p for p in find_pair_problems(replace(experiment, datasets=train_set)) if p.kind == ERROR]
    if errors:
        raise UserError(f'the training images cannot be used:\n{report(errors)}')


def _find_niqe_border(experiment: Experiment) -> int | None:
    """Return the pixels that NIQE cuts off, if it is a metric of the validation; else None."""
    metrics = experiment.validation.metrics.values()
    borders = [metric.get('crop_border') for metric in metrics if metric.get('type') == 'calculate_niqe']
    return max((border for border in borders if type(border) is int), default=None)


def _open_raw(where: KeyPath, dataset: Mapping[str, Any], scale: int, trains: bool) -> None:
    """Open a raw dataset: it reads its index, and raises an error where the index does not fit."""
    if scale and (not trains or type(dataset.get('gt_size')) is int):
        build = DATASET_REGISTRY.get(str(dataset['type']))
        build({'name': where[1], **dataset, 'scale': scale, 'phase': 'train' if trains else 'val'})


def _find_cache_problems(experiment: Experiment) -> Iterator[Problem]:
    """Compare the settings that the teacher cache was made with; the contents of files are not compared."""
    cache = experiment.used_cache if experiment.is_train else None
    if cache is None or not os.path.isdir(os.path.expanduser(cache.path)):
        return
    where = ('distillation', 'cache')
    try:
        made = read_settings(RawImages(cache.path, 'the cache').folder)
        wanted = teacher_key(experiment, cache, weights=False)
    except UserError as error:
        yield Problem(where, str(error))
        return
    for difference in list_differences({name: made.get(name) for name in wanted}, wanted):
        text = f'{cache.path} was made with {difference}. Make another (`kdsr cache FILE`), or name the one that fits.'
        yield Problem(where, text)
