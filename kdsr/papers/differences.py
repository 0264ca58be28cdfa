"""Every difference between a run and the option file of a paper's row, in words."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Literal

from basicsr.utils.registry import ARCH_REGISTRY, LOSS_REGISTRY

from kdsr.data.benchmark_sets import describe_crop, find_crop_of
from kdsr.experiment import Experiment, Feature
from kdsr.papers.results import SETS, Cell
from kdsr.wording import counted

REGISTRIES = {'losses': LOSS_REGISTRY, 'networks': ARCH_REGISTRY}
DEFAULT_BETAS = [0.9, 0.999]  # of torch's Adam
# Arguments of networks that change no result, or stand in the comparison of scales.
NOT_COMPARED = ('upscale', 'img_size', 'path')
# Keys of `train` beside those that have words of their own, with their defaults.
TRAIN_KEYS = {'ema_decay': 0, 'warmup_iter': -1, 'amp': None, 'accumulate': 1, 'clip_grad_norm': None}
QUARTERS = '4-quadrant'


def find_differences(mine: Experiment, theirs: Experiment, cells: Mapping[str, Cell]) -> list[str]:
    """Return how a run differs from a row's own training and test, in words.

    Args:
        mine: The run.
        theirs: The experiment of the row's file.
        cells: Name of a test set to the row's cell.
    """
    return [
        *_compare_data(mine, theirs),
        *_compare_steps(mine, theirs),
        *_compare_losses(mine, theirs),
        *_compare_networks(mine, theirs),
        *_compare_features(mine, theirs),
        *_compare_tests(mine, theirs, cells),
    ]


def resolve(registry: Literal['losses', 'networks'], opt: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a loss or network, those that are left out with their defaults."""
    kind = str(opt.get('type'))
    known = REGISTRIES[registry]
    parameters = inspect.signature(known.get(kind)).parameters if kind in known else {}
    defaults = {k: p.default for k, p in parameters.items() if p.default is not p.empty}
    return {key: _plain(value) for key, value in {**defaults, **opt}.items() if key != 'type'}


def losses_of(experiment: Experiment) -> list[tuple[str, Mapping[str, Any]]]:
    """Return (type, options) of each distillation loss, sorted by type."""
    losses = experiment.losses.values()
    return sorted(((str(loss['type']), loss) for loss in losses if loss), key=lambda item: item[0])


def _plain(value: Any) -> Any:
    """Return lists for tuples, and numbers for texts of numbers ('1e-4' is a text in YAML 1.1)."""
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _show(value: Any) -> str:
    if isinstance(value, float):
        return f'{value:g}'
    if isinstance(value, list):
        return f'({", ".join(map(_show, value))})'
    return str(value)


def _compare(name: str, mine: Any, theirs: Any) -> Iterator[str]:
    mine, theirs = _plain(mine), _plain(theirs)
    if mine != theirs:
        yield f'{name} {_show(mine)} instead of {_show(theirs)}'


def _compare_arguments(
    name: str,
    registry: Literal['losses', 'networks'],
    mine: Mapping[str, Any],
    theirs: Mapping[str, Any],
    skipped: Sequence[str] = (),
) -> Iterator[str]:
    ours, wanted = resolve(registry, mine), resolve(registry, theirs)
    for key in dict.fromkeys([*wanted, *ours]):
        if key not in skipped:
            yield from _compare(f'{name} with {key}', ours.get(key), wanted.get(key))


def _compare_data(mine: Experiment, theirs: Experiment) -> Iterator[str]:
    ours, wanted = (experiment.datasets.get('train') or {} for experiment in (mine, theirs))
    source = str(ours.get('dataroot_gt') or '')
    if str(wanted['name']) not in source:
        name = ours.get('name')
        yield f'{source if not name or name == wanted["name"] else name} instead of {wanted["name"]}'
    iterations, published = mine.training.iterations, theirs.training.iterations
    if iterations != published:
        yield f'{counted(iterations, "iteration")} instead of {published:,}'
    batch, in_all = ours.get('batch_size_per_gpu'), wanted['batch_size_per_gpu']
    if batch != in_all:
        yield f'batch {batch} per GPU instead of {in_all} in all'
    yield from _compare('crops of', ours.get('gt_size'), wanted['gt_size'])
    for key, name in (('use_hflip', 'flips'), ('use_rot', 'rotations')):
        if bool(ours.get(key)) != bool(wanted.get(key)):
            yield f'{"with" if ours.get(key) else "without"} {name}'


def _compare_steps(mine: Experiment, theirs: Experiment) -> Iterator[str]:
    """Compare optimiser, schedule, and what else `train` says about a step."""
    ours, wanted = mine.training.section, theirs.training.section
    mine_adam, adam = mine.training.optimiser, theirs.training.optimiser
    yield from _compare('optimiser', mine_adam.get('type'), adam.get('type'))
    yield from _compare('learning rate', mine_adam.get('lr'), adam.get('lr'))
    yield from _compare('betas', mine_adam.get('betas') or DEFAULT_BETAS, adam.get('betas') or DEFAULT_BETAS)
    yield from _compare('weight_decay', mine_adam.get('weight_decay') or 0, adam.get('weight_decay') or 0)
    schedules = (train.get('scheduler') or {} for train in (ours, wanted))
    yield from _compare('schedule', *(_describe_schedule(schedule) for schedule in schedules))
    for key, default in TRAIN_KEYS.items():
        yield from _compare(key, ours.get(key, default), wanted.get(key, default))


def _describe_schedule(schedule: Mapping[str, Any]) -> str:
    arguments = (f'{key} {_show(_plain(value))}' for key, value in sorted(schedule.items()) if key != 'type')
    return f'{schedule.get("type")} ({", ".join(arguments)})'


def _compare_losses(mine: Experiment, theirs: Experiment) -> Iterator[str]:
    for (kind, ours), (_, wanted) in zip(losses_of(mine), losses_of(theirs)):
        yield from _compare_arguments(kind, 'losses', ours, wanted)
    for key in ('pixel_opt', 'imitation_opt'):
        image_loss, published = (experiment.training.image_losses.get(key) or {} for experiment in (mine, theirs))
        yield from _compare_arguments(key, 'losses', image_loss, published)


def _compare_networks(mine: Experiment, theirs: Experiment) -> Iterator[str]:
    kind = str(mine.trained.opt.get('type'))
    yield from _compare_arguments(kind, 'networks', mine.trained.opt, theirs.trained.opt, NOT_COMPARED)
    ours, wanted = ([network.opt for network in experiment.frozen] for experiment in (mine, theirs))
    kinds, wanted_kinds = ([str(network.get('type')) for network in networks] for networks in (ours, wanted))
    if sorted(kinds) != sorted(wanted_kinds):
        yield f'{" + ".join(kinds) or "none"} as teacher instead of {" + ".join(wanted_kinds) or "none"}'
        return
    for one, other in zip(sorted(ours, key=_kind_of), sorted(wanted, key=_kind_of)):
        yield from _compare_arguments(f'teacher {_kind_of(one)}', 'networks', one, other, NOT_COMPARED)


def _kind_of(network: Mapping[str, Any]) -> str:
    return str(network.get('type'))


def _compare_features(mine: Experiment, theirs: Experiment) -> Iterator[str]:
    nothing: dict[str, Any] = {}
    ours, wanted = ([*map(_describe_feature, experiment.features)] for experiment in (mine, theirs))
    for number, (one, other) in enumerate(zip_longest(ours, wanted, fillvalue=nothing), 1):
        for key in dict.fromkeys([*other, *one]):
            yield from _compare(f'feature {number}: {key}', one.get(key), other.get(key))


def _describe_feature(feature: Feature) -> dict[str, Any]:
    """Return the keys of an entry of `distillation.features`, without the names of feature and teacher."""
    return {'student': feature.student, 'teacher': feature.teacher, 'shrink': feature.shrink}


def _compare_tests(mine: Experiment, theirs: Experiment, cells: Mapping[str, Cell]) -> Iterator[str]:
    """Compare the crop of the ground truth of each validation set, and whether images are run in quarters."""
    scale = mine.scale or 1
    sets = _validation_sets(theirs)
    wanted = find_crop_of(sets[0], scale) if sets else scale
    crops: dict[int, list[str]] = {}
    whole = []
    for dataset in _validation_sets(mine):
        name = str(dataset.get('name') or 'validation')
        crops.setdefault(find_crop_of(dataset, scale), []).append(name)
        cell = cells.get(SETS.get(name.lower(), name))
        quartered = mine.validation.in_quadrants(name)
        if cell is not None and (QUARTERS in cell.note) != quartered:
            whole.append(f'{name} {"in quarters" if quartered else "not in quarters"}')
    for crop, names in crops.items():
        if crop != wanted:
            published = describe_crop(wanted, scale).removeprefix('GT cropped to ')
            yield f'{describe_crop(crop, scale)} instead of {published} ({", ".join(names)})'
    yield from whole


def _validation_sets(experiment: Experiment) -> list[Mapping[str, Any]]:
    return [dataset for phase, dataset in experiment.datasets.items() if phase.startswith('val') and dataset]
