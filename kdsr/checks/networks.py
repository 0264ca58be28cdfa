"""The networks of an experiment: do their scales, crops, channels and taps fit together?"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torchvision
from basicsr.archs.arch_util import DCNv2Pack
from torch import nn

from kdsr.checks.skeletons import build_skeleton, find_refused_arguments, is_buildable
from kdsr.distillation.feature_tap import missing_module
from kdsr.experiment import Experiment, Network, argument_of, rules
from kdsr.options import KeyPath, Problem

_SCALES = ('upscale', 'scale')


def find_network_problems(experiment: Experiment) -> Iterator[Problem]:
    """Check the networks against each other and against the options.

    Args:
        experiment: The modules that it imports are imported.
    """
    usable = [network for network in experiment.networks if experiment.uses(network) and is_buildable(network.opt)]
    for network in usable:
        refused = find_refused_arguments(network.opt)
        if refused is not None:
            yield Problem(network.path, f'{network.opt["type"]} refuses its arguments: {refused}')
        yield from _find_lacking_operations(network)
        if experiment.model.known:
            yield from _find_scale_problems(network, experiment.scale)
    yield from rules.find_channel_problems(experiment)
    yield from rules.find_teacher_count_problems(experiment)
    yield from rules.find_teacher_order_problems(experiment)
    if experiment.is_train:
        yield from rules.find_crop_problems(experiment)
        yield from _find_tap_problems(experiment, usable)


def _find_lacking_operations(network: Network) -> Iterator[Problem]:
    """Report deformable convolutions (EDVR) where torchvision lacks its compiled part: the first step would fail."""
    if torchvision.extension._has_ops():
        return
    skeleton = build_skeleton(network.opt)
    if skeleton is not None and any(isinstance(module, DCNv2Pack) for module in skeleton.modules()):
        text = (
            f'{network.opt["type"]} needs the deformable convolution of torchvision, which torchvision '
            f'{torchvision.__version__} cannot load beside PyTorch {torch.__version__}: install the torchvision that '
            'belongs to this PyTorch. With it the network runs on CPUs too.'
        )
        yield Problem((*network.path, 'type'), text)


def _find_scale_problems(network: Network, scale: int) -> Iterator[Problem]:
    name = next((name for name in _SCALES if argument_of(network.opt, name) is not None), None)
    if name is None or not scale or network.role == 'other':
        return
    own = argument_of(network.opt, name)
    keeps_size = network.input in ('gt', 'code', 'teacher_images')  # such an input is large already, or encoded
    if own == scale or (keeps_size and own == 1) or isinstance(own, (list, tuple)):
        return
    text = f'the network enlarges x{own}' if name in network.opt else f'left out, {network.opt["type"]} enlarges x{own}'
    text = f'{text}, but the experiment is x{scale} (`scale`): make them agree.'
    yield Problem((*network.path, name), text, rivals=(('scale',),))


def _find_tap_problems(experiment: Experiment, usable: list[Network]) -> Iterator[Problem]:
    """Look for module paths in networks that have no weights yet."""
    teachers = {network.name: build_skeleton(network.opt) for network in usable if network.role == 'teacher'}
    trained = next((n for n in usable if not n.frozen and n.role in ('student', 'privileged')), None)
    student = None if trained is None else build_skeleton(trained.opt)
    for feature in experiment.features:
        where = ('distillation', 'features', feature.name)
        yield from _report_missing_module((*where, 'student'), student, feature.student)
        yield from _report_missing_module((*where, 'teacher'), teachers.get(feature.source), feature.teacher)
    judge = next((n for n in usable if n.path == ('network_d',)), None)
    discriminator = None if judge is None else build_skeleton(judge.opt)
    for name, point in experiment.discriminator_features.items():
        yield from _report_missing_module(('distillation', 'discriminator_features', name), discriminator, point)
    init = experiment.init_from
    if init is not None:
        yield from _report_missing_module(
            ('distillation', 'init_from', 'module'), teachers.get(init.teacher), init.module
        )
    if student is not None:
        yield from rules.find_imitation_problems(experiment, student)


def _report_missing_module(path: KeyPath, network: nn.Module | None, point: str) -> Iterator[Problem]:
    text = None if network is None or not point else missing_module(network, point)
    if text is not None:
        yield Problem(path, text)
