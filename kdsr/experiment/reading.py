"""From completed options to the experiment that they describe."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kdsr.errors import UserError
from kdsr.experiment.experiment import Experiment, Feature, InitFrom, Options, Training, Validation
from kdsr.experiment.network import Network
from kdsr.options import (
    KeyPath,
    ModelClass,
    NetworkInput,
    Role,
    block_of,
    cache_of,
    cached_content,
    dotted,
    model_class_of,
    used_cache,
)
from kdsr.options.basicsr_keys import NUMBER

IMAGE_LOSSES = ('pixel_opt', 'perceptual_opt', 'gan_opt', 'ldl_opt', 'feature_matching_opt', 'imitation_opt')


def read_experiment(opt: Mapping[str, Any] | Experiment, is_train: bool | None = None) -> Experiment:
    """Return the experiment that options describe.

    It does not fail: missing entries and entries of a wrong type are left out, and the checks report them.

    Args:
        opt: All options, completed as `kdsr.options.load_experiment` or BasicSR's pipeline does. An experiment is
            returned as it is.
        is_train: For a training, else for a test; as the options say when None.

    Example:
        >>> experiment = read_experiment({'name': 'run', 'model_type': 'StudentModel', 'scale': 4,
        ...                               'network_g': {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3}})
        >>> experiment.trained.role, experiment.trained.input, experiment.scale
        ('student', 'lq', 4)
    """
    if isinstance(opt, Experiment):
        return opt
    block, model = block_of(opt, 'distillation'), model_class_of(opt.get('model_type'))
    datasets = {str(k): d for k, d in block_of(opt, 'datasets').items() if isinstance(d, Mapping)}
    networks = tuple(_read_networks(opt, model))
    teachers = [network.name for network in networks if network.role == 'teacher']
    return Experiment(
        name=str(opt.get('name', '')),
        model=model,
        is_train=_is_training(opt) if is_train is None else is_train,
        scale=_read_whole_number(opt.get('scale')),
        luminance=opt.get('color') == 'y',
        channels=_find_channels(opt),
        networks=networks,
        features=tuple(_read_features(block, teachers)),
        discriminator_features={
            str(name): point for name, point in block_of(block, 'discriminator_features').items() if _read_text(point)
        },
        losses=_keep_given(block_of(block, 'losses')),
        views=_keep_given(block_of(block, 'views')),
        init_from=_read_init_from(block_of(block, 'init_from')),
        cache=cache_of(opt),
        content=cached_content(opt),
        health_check=bool(block.get('health_check', True)),
        imports=_keep_names(opt.get('import_modules')),
        resumes=bool(block_of(opt, 'path').get('resume_state')),
        distributed=bool(opt.get('dist')),
        cpu_only=opt.get('num_gpu') == 0,
        datasets=datasets,
        training=_read_training(opt, datasets.get('train', {})),
        validation=_read_validation(block_of(opt, 'val')),
    )


def check_networks(opt: Mapping[str, Any], file: str) -> None:
    """Refuse options with a network that :func:`read_experiment` leaves out.

    Args:
        opt: All options.
        file: Where they come from, for the message.

    Raises:
        UserError: it names the first one.
    """
    block, read = block_of(opt, 'distillation'), {network.path for network in read_experiment(opt).networks}
    listed = block['teachers'] if isinstance(block.get('teachers'), list) else []
    wanted: list[KeyPath] = [('distillation', 'teachers', i, 'network') for i in range(len(listed))]
    wanted += [('distillation', 'aggregator', 'network')] if block.get('aggregator') is not None else []
    wanted += [('network_g',)] if 'network_g' in opt or not listed else []
    if opt.get('distillation') and not block:
        raise UserError(f'{file}: `distillation` must be a mapping, is {opt["distillation"]!r}.')
    if block.get('teachers') and not listed:
        raise UserError(f'{file}: `distillation.teachers` must be a list, is {block["teachers"]!r}.')
    for path in wanted:
        if path not in read:
            raise UserError(f'{file}: {dotted(path)}: missing; write a mapping with the `type:` of a network.')


def _is_training(opt: Mapping[str, Any]) -> bool:
    if isinstance(opt.get('is_train'), bool):
        return bool(opt['is_train'])
    phases = block_of(opt, 'datasets')
    return 'train' in opt or 'train' in phases or not phases


def _find_channels(opt: Mapping[str, Any]) -> int:
    return 1 if 'y' in (opt.get('color'), block_of(opt, 'datasets', 'train').get('color')) else 3


@dataclass(frozen=True)
class _Inputs:
    """What inputs look like: scale of the experiment, channels of an image, number of teachers."""

    scale: int
    channels: int
    teachers: int

    def of(self, kind: NetworkInput) -> dict[str, Any]:
        """Return the fields of a :class:`Network` that describe its input."""
        return {
            'input': kind,
            'magnified': self.scale if kind in ('gt', 'teacher_images') else 1,
            'channels': self.channels * self.teachers if kind == 'teacher_images' else self.channels,
        }


def _read_networks(opt: Mapping[str, Any], model: ModelClass) -> Iterator[Network]:
    """Yield every network that the options name: those of BasicSR, the teachers, the aggregator."""
    block = block_of(opt, 'distillation')
    listed = block['teachers'] if isinstance(block.get('teachers'), list) else []
    inputs = _Inputs(_read_whole_number(opt.get('scale')) or 1, _find_channels(opt), max(1, len(listed)))
    for key in opt:
        if str(key).startswith('network_') and isinstance(opt[key], Mapping):
            yield _read_basicsr_network(str(key), opt, model, inputs)
    from_code = cached_content(opt) == 'code' and used_cache(opt) is not None
    for i, teacher in enumerate(listed):
        if block_of(teacher, 'network'):
            given = teacher.get('input')
            kind: NetworkInput = 'code' if from_code else given if given in ('gt', 'lq_clean') else 'lq'
            name = str(teacher.get('name', f'teacher{i}'))
            yield _read_frozen_network(('distillation', 'teachers', i), teacher, 'teacher', name, inputs.of(kind))
    if block_of(block, 'aggregator', 'network'):
        kind = 'teacher_images'
        yield _read_frozen_network(
            ('distillation', 'aggregator'), block['aggregator'], 'aggregator', 'aggregator', inputs.of(kind)
        )


def _read_basicsr_network(key: str, opt: Mapping[str, Any], model: ModelClass, inputs: _Inputs) -> Network:
    """Describe `network_g` or another network of BasicSR's model."""
    label, paths = key[len('network_') :], block_of(opt, 'path')
    role: Role = model.trains if key == 'network_g' else 'other'
    return Network(
        path=(key,),
        opt=opt[key],
        role=role,
        name=role,
        weights=_read_text(paths.get(f'pretrain_network_{label}')),
        param_key=paths.get(f'param_key_{label}', 'params'),
        weights_path=('path', f'pretrain_network_{label}'),
        **inputs.of(model.input if key == 'network_g' else 'gt'),
    )


def _read_frozen_network(
    path: KeyPath, opt: Mapping[str, Any], role: Role, name: str, inputs: Mapping[str, Any]
) -> Network:
    """Describe a network of the `distillation:` block."""
    return Network(
        path=(*path, 'network'),
        opt=opt['network'],
        role=role,
        name=name,
        weights=_read_text(opt.get('path')),
        param_key=_read_text(opt.get('param_key')),
        weights_path=(*path, 'path'),
        precision=_read_text(opt.get('precision')) or 'fp32',
        channels_last=bool(opt.get('channels_last')),
        device=_read_text(opt.get('device')),
        **inputs,
    )


def _read_features(block: Mapping[str, Any], teachers: list[str]) -> Iterator[Feature]:
    for name, pair in block_of(block, 'features').items():
        if isinstance(pair, Mapping):
            only = teachers[0] if len(teachers) == 1 else ''
            yield Feature(
                name=str(name),
                student=_read_text(pair.get('student')) or '',
                teacher=_read_text(pair.get('teacher')) or '',
                source=str(pair.get('from') or only),
                shrink=_read_text(pair.get('shrink')),
            )


def _read_init_from(given: Mapping[str, Any]) -> InitFrom | None:
    return InitFrom(str(given['teacher']), _read_text(given.get('module')) or '') if given.get('teacher') else None


def _read_training(opt: Mapping[str, Any], train_set: Options) -> Training:
    train = block_of(opt, 'train')
    clip, budget = train.get('clip_grad_norm'), train.get('quantise_budget')
    return Training(
        crop=_read_whole_number(train_set.get('gt_size'))
        or _read_whole_number(opt.get('gt_size')),  # the latter of Real-ESRGAN's models
        batch_size=_read_whole_number(train_set.get('batch_size_per_gpu')),
        iterations=_read_whole_number(train.get('total_iter')),
        accumulate=_read_whole_number(train.get('accumulate')) or 1,
        amp=_read_text(train.get('amp')),
        channels_last=bool(train.get('channels_last')),
        compile=bool(train.get('compile')),
        clip_grad_norm=clip if isinstance(clip, NUMBER) else None,
        quantise=_read_text(train.get('quantise')),
        quantise_budget=float(budget) if isinstance(budget, NUMBER) else Training.quantise_budget,
        skip_nonfinite=_read_whole_number(train.get('skip_nonfinite')),
        ema_decay=float(train['ema_decay']) if isinstance(train.get('ema_decay'), NUMBER) else 0.0,
        image_losses={key: train[key] for key in IMAGE_LOSSES if isinstance(train.get(key), Mapping) and train[key]},
        optimiser=block_of(train, 'optim_g'),
        section=train,
    )


def _read_validation(val: Mapping[str, Any]) -> Validation:
    quadrants = val.get('quadrants')
    return Validation(
        metrics=_keep_given(block_of(val, 'metrics')),
        quadrants=_keep_names(quadrants) if isinstance(quadrants, list) else bool(quadrants),
        round_gt=bool(val.get('round_gt')),
    )


def _keep_given(named: Mapping[str, Any]) -> dict[str, Options]:
    """Return the entries that are there: a variant switches off those of its base with `~`."""
    return {str(name): opt for name, opt in named.items() if isinstance(opt, Mapping)}


def _keep_names(value: Any) -> tuple[str, ...]:
    return tuple(name for name in value if isinstance(name, str)) if isinstance(value, list) else ()


def _read_whole_number(value: Any) -> int:
    """Return a whole number from 1 on; 0 for anything else. YAML reads `5e3` as a float."""
    counts = isinstance(value, NUMBER) and not isinstance(value, bool) and 1 <= value < math.inf
    return int(value) if counts else 0


def _read_text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
