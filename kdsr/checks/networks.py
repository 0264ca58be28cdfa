"""The networks of an experiment: do their scales, crops, channels and taps fit together?"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn
from torch.overrides import TorchFunctionMode

from kdsr.distillation.building import argument_of, argument_problems
from kdsr.distillation.checkpoint import read_checkpoint
from kdsr.distillation.feature_tap import FeatureTap, module_at
from kdsr.errors import UserError
from kdsr.options import WARNING, Path, Problem, block_of
from kdsr.options.table import BASICSR_MODELS, KDSR_MODELS

STUDENT, TEACHER, AGGREGATOR, OTHER = 'student', 'teacher', 'aggregator', 'other'
_NEEDS_WINDOWS = ('SwinIR',)  # networks of BasicSR that do not pad their input
_INITIALISERS = (
    'kaiming_uniform_',
    'kaiming_normal_',
    'uniform_',
    'normal_',
    'clamp_',
    'erfinv_',
    'mul_',
    'add_',
    'fill_',
)
_SCALES = ('upscale', 'scale')


@dataclass(frozen=True)
class NamedNetwork:
    """A network of an experiment.

    Attributes:
        path: Of its options.
        opt: Its options.
        role: STUDENT, TEACHER, AGGREGATOR or OTHER.
        name: Of the teacher.
        shown: 'lq' or 'gt' for student and teachers.
    """

    path: Path
    opt: Any
    role: str
    name: str = ''
    shown: str = 'lq'

    def skeleton(self) -> nn.Module | None:
        """Return the network without its weights; None where it cannot be built, or not so."""
        built = _built(self.opt)
        return built if isinstance(built, nn.Module) else None


def named_networks(opt: Mapping[str, Any], is_train: bool) -> Iterator[NamedNetwork]:
    """Yield every network that an experiment builds."""
    model = opt.get('model_type')
    roles = {'AggregationModel': AGGREGATOR}
    for key in opt:
        if str(key).startswith('network_') and opt[key] is not None:
            shown = 'gt' if model == 'PrivilegedTeacherModel' else 'lq'
            role = roles.get(str(model), STUDENT) if key == 'network_g' else OTHER
            yield NamedNetwork((key,), opt[key], role, shown=shown)
    block = block_of(opt, 'distillation')
    if not (is_train or model == 'AggregationModel'):
        return
    teachers = block['teachers'] if isinstance(block.get('teachers'), list) else []
    for i, teacher in enumerate(teachers):
        if isinstance(teacher, Mapping) and teacher.get('network') is not None:
            path = ('distillation', 'teachers', i, 'network')
            yield NamedNetwork(
                path, teacher['network'], TEACHER, str(teacher.get('name')), teacher.get('input') or 'lq'
            )
    if block_of(block, 'aggregator').get('network') is not None:
        yield NamedNetwork(('distillation', 'aggregator', 'network'), block['aggregator']['network'], AGGREGATOR)


def network_problems(opt: Mapping[str, Any], is_train: bool) -> Iterator[Problem]:
    """Check the networks against each other and against the options.

    Args:
        opt: All options; `import_modules` are imported.
        is_train: For a training.
    """
    networks = [n for n in named_networks(opt, is_train) if _is_buildable(n.opt)]
    judged = opt.get('model_type') in (*BASICSR_MODELS, *KDSR_MODELS)
    for network in networks:
        built = _built(network.opt)
        if isinstance(built, str):
            yield Problem(network.path, f'{network.opt["type"]} refuses its arguments: {built}')
        if judged:
            yield from _scale_problems(network, opt.get('scale'))
    yield from _channel_problems(opt, networks)
    yield from _aggregator_problems(opt, networks)
    if is_train:
        yield from _window_problems(opt, networks)
        yield from _tap_problems(opt, networks)


def _is_buildable(network: Any) -> bool:
    """Return whether names and arguments are in order: the registry checks have told else."""
    kind = network.get('type') if isinstance(network, Mapping) else None
    return (
        isinstance(kind, str) and kind in ARCH_REGISTRY and not any(argument_problems(ARCH_REGISTRY.get(kind), network))
    )


class _WithoutWeights(TorchFunctionMode):
    """Creates tensors that layers only allocate without memory, and leaves them as they are; all else is computed."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.empty and kwargs.get('device') is None:
            kwargs['device'] = 'meta'
        first = args[0] if args else kwargs.get('tensor')
        if isinstance(first, torch.Tensor) and first.is_meta and func.__name__ in _INITIALISERS:
            return first
        return func(*args, **kwargs)


def _built(opt: Mapping[str, Any]) -> nn.Module | str | None:
    """Return a network without weights, what it says against its arguments, or None where it cannot be built so."""
    return _build(json.dumps(opt, sort_keys=True, default=str)) if _is_buildable(opt) else None


@functools.lru_cache(maxsize=64)
def _build(options: str) -> nn.Module | str | None:
    opt = json.loads(options)
    registered = ARCH_REGISTRY.get(opt['type'])
    if getattr(registered, 'brings_weights', False):  # it would read a file
        return None
    arguments = {key: value for key, value in opt.items() if key != 'type'}
    with torch.random.fork_rng(devices=[]):
        try:
            with _WithoutWeights():
                return registered(**arguments)
        except Exception:  # networks may do with their weights what cannot be done without memory
            pass
        try:
            return registered(**arguments)
        except (ValueError, TypeError, AssertionError) as error:
            return str(error) or type(error).__name__
        except Exception:  # a compiled operator or a file that is not there: not a matter of the options
            return None


def scale_of(network: Mapping[str, Any]) -> tuple[str, Any] | None:
    """Return the argument that says how many times a network enlarges, given or by default; None if it has none."""
    for name in _SCALES:
        scale = argument_of(network, name)
        if scale is not None:
            return name, scale
    return None


def _scale_problems(network: NamedNetwork, scale: Any) -> Iterator[Problem]:
    named = scale_of(network.opt)
    if named is None or type(scale) is not int or network.role == OTHER:
        return
    name, own = named
    keeps_size = network.role == AGGREGATOR or network.shown == 'gt'  # it is shown large images, and may keep them so
    if own == scale or (keeps_size and own == 1) or isinstance(own, (list, tuple)):
        return
    text = f'the network enlarges x{own}' if name in network.opt else f'left out, {network.opt["type"]} enlarges x{own}'
    yield Problem((*network.path, name), f'{text}, but the experiment is x{scale} (`scale`): make them agree.')


def _channel_problems(opt: Mapping[str, Any], networks: list[NamedNetwork]) -> Iterator[Problem]:
    for network in networks if opt.get('color') == 'y' else ():
        for key in ('num_in_ch', 'in_chans'):
            if network.role in (STUDENT, TEACHER) and argument_of(network.opt, key) not in (None, 1):
                yield Problem((*network.path, key), f'`color: y` gives luminance, one channel: set `{key}: 1`.')


def _aggregator_problems(opt: Mapping[str, Any], networks: list[NamedNetwork]) -> Iterator[Problem]:
    teachers = block_of(opt, 'distillation').get('teachers')
    names = [t.get('name') for t in teachers if isinstance(t, Mapping)] if isinstance(teachers, list) else []
    for network in (n for n in networks if n.role == AGGREGATOR):
        count = argument_of(network.opt, 'num_teachers')
        if names and isinstance(count, int) and count != len(names):
            yield Problem(
                (*network.path, 'num_teachers'), f'{count}, but there are {len(names)} `distillation.teachers`.'
            )
        path: Path = ('path', 'pretrain_network_g') if network.path == ('network_g',) else (*network.path[:-1], 'path')
        yield from _order_problems(path, block_of(opt, *path[:-1]).get(path[-1]), names)


def _order_problems(path: Path, file: Any, names: list[Any]) -> Iterator[Problem]:
    """Compare the teachers with those whose names stage 1 stored in the aggregator's checkpoint."""
    if not isinstance(file, str) or not os.path.isfile(os.path.expanduser(file)):
        return
    try:
        trained_for = read_checkpoint(file).get('teachers')
    except UserError as error:
        yield Problem(path, str(error))
        return
    if trained_for is None:
        yield Problem(path, f'{file} does not say for which teachers it was trained; taken as {names}.', WARNING)
    elif list(trained_for) != names:
        yield Problem(
            path,
            f'the aggregator was trained for the teachers {", ".join(map(str, trained_for))}, in this order, but '
            f'`distillation.teachers` are {", ".join(map(str, names))}. Use the same names and order as in stage 1.',
        )


def _window_problems(opt: Mapping[str, Any], networks: list[NamedNetwork]) -> Iterator[Problem]:
    gt_size, scale = block_of(opt, 'datasets', 'train').get('gt_size'), opt.get('scale')
    if type(gt_size) is not int or type(scale) is not int or scale < 1 or gt_size % scale:
        return
    features = block_of(opt, 'distillation', 'features')
    distils = opt.get('model_type') == 'DistillationModel'
    for network in networks:
        tapped = network.role == TEACHER and any(
            _teacher_of(pair, networks) == network.name for pair in features.values()
        )
        unpadded = network.role == STUDENT and (distils or network.opt['type'] in _NEEDS_WINDOWS)
        shown, window = gt_size // scale, argument_of(network.opt, 'window_size')
        window = window if type(window) is int and window > 0 else 1
        if network.shown == 'lq' and (tapped or unpadded) and shown % window:
            who = f'teacher {network.name}, which is tapped,' if tapped else 'the network'
            fitting = (shown // window + 1) * window * scale
            yield Problem(
                ('datasets', 'train', 'gt_size'),
                f'{gt_size} gives LR crops of {shown}, but {who} needs a multiple of its window, {window}: for example '
                f'{fitting}.',
            )


def _teacher_of(pair: Any, networks: list[NamedNetwork]) -> str:
    """Return the name of the teacher that a feature is taken from."""
    if not isinstance(pair, Mapping):
        return ''
    names = [network.name for network in networks if network.role == TEACHER]
    return str(pair.get('from') or (names[0] if len(names) == 1 else ''))


def _tap_problems(opt: Mapping[str, Any], networks: list[NamedNetwork]) -> Iterator[Problem]:
    """Look for module paths in networks that have no weights yet."""
    skeletons = {network.name: network.skeleton() for network in networks if network.role == TEACHER}
    student = next((network.skeleton() for network in networks if network.role == STUDENT), None)
    block = block_of(opt, 'distillation')
    for name, pair in block_of(block, 'features').items():
        for who, network in (('student', student), ('teacher', skeletons.get(_teacher_of(pair, networks)))):
            point = pair.get(who) if isinstance(pair, Mapping) else None
            if network is not None and isinstance(point, str):
                yield from _missing_module(('distillation', 'features', name, who), network, point)
    init = block_of(block, 'init_from')
    teacher, module = skeletons.get(str(init.get('teacher'))), init.get('module')
    if teacher is not None and isinstance(module, str):
        yield from _missing_module(('distillation', 'init_from', 'module'), teacher, module)
    if (
        student is not None
        and block_of(opt, 'train').get('imitation_opt')
        and 'encoder' not in dict(student.named_children())
    ):
        text = f'{type(student).__name__} has no `encoder` to be compared: leave it out, or train a PISRTeacher.'
        yield Problem(('train', 'imitation_opt'), text)


def _missing_module(path: Path, network: nn.Module, point: str) -> Iterator[Problem]:
    try:
        if path[1] == 'features':
            FeatureTap(network, {path[2]: point})
        else:
            module_at(network, point, '')
    except UserError as error:
        yield Problem(path, str(error).split(': ', 1)[-1])
