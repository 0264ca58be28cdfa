"""Rules that the parts of an experiment must keep together. `kdsr check` reports them, and the models refuse them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from basicsr.utils import get_root_logger
from torch import nn

from kdsr.compat.loading import read_checkpoint
from kdsr.errors import UserError
from kdsr.experiment.experiment import Experiment
from kdsr.experiment.network import Network, argument_of
from kdsr.options import WARNING, KeyPath, Problem

_NEEDS_WINDOWS = ('SwinIR',)  # networks of BasicSR that do not pad their input
_CHANNELS = ('num_in_ch', 'in_chans')


def enforce(problems: Iterable[Problem]) -> None:
    """Log the warnings among problems, and refuse the others.

    Raises:
        UserError: there are others.
    """
    problems = list(problems)
    for problem in problems:
        if problem.kind == WARNING:
            get_root_logger().warning(str(problem))
    wrong = [str(problem) for problem in problems if problem.kind != WARNING]
    if wrong:
        raise UserError('\n'.join(wrong))


def find_crop_problems(experiment: Experiment, multiples: Mapping[str, int] | None = None) -> Iterator[Problem]:
    """Check that the training crops fit the scale, and every network that sees them without padding.

    These are a student that distils, SwinIR, and teachers with taps: features of padded images cannot be compared.

    Args:
        experiment: A training.
        multiples: Name of a teacher to what its input sides must be multiples of, where the built network knows better
            than its options.
    """
    crop, scale = experiment.training.crop, experiment.scale
    if not crop or not scale:
        return
    where: KeyPath = ('datasets', 'train', 'gt_size')
    if crop % scale:
        near = max(1, round(crop / scale)) * scale
        yield Problem(where, f'{crop} is not a multiple of `scale: {scale}`; {near} is.')
        return
    for network in experiment.networks:
        multiple = (multiples or {}).get(network.name, network.multiple)
        if not _sees_bare_crops(experiment, network) or crop // scale % multiple == 0:
            continue
        who = f'teacher {network.name}, which is tapped,' if network.role == 'teacher' else 'the network'
        fitting = (crop // scale // multiple + 1) * multiple * scale
        yield Problem(
            where,
            f'{crop} gives LR crops of {crop // scale}, but {who} needs a multiple of its window, {multiple}: '
            f'for example {fitting}.',
        )


def _sees_bare_crops(experiment: Experiment, network: Network) -> bool:
    if network.input != 'lq':
        return False
    if network.role == 'teacher':
        return bool(experiment.taps(network.name))
    distils = experiment.model.objective == 'distillation'
    return network.role == 'student' and (distils or network.opt.get('type') in _NEEDS_WINDOWS)


def find_step_problems(experiment: Experiment) -> Iterator[Problem]:
    """Check that a batch can be divided into `train.accumulate` parts, and that options of a step go together."""
    parts, size = experiment.training.accumulate, experiment.training.batch_size
    if size and size % parts:
        yield Problem(
            ('train', 'accumulate'), f'{parts} equal parts of a batch of `batch_size_per_gpu: {size}` are not possible.'
        )
    clip = experiment.training.clip_grad_norm
    if clip is not None and not clip > 0:
        yield Problem(('train', 'clip_grad_norm'), f'must be above 0, is {clip}; leave it out to not clip.')
    if experiment.training.quantise and (experiment.training.amp or experiment.training.compile):
        other = 'amp' if experiment.training.amp else 'compile'
        yield Problem(('train', 'quantise'), f'int8 is simulated in plain single precision: leave out `{other}`.')


def find_channel_problems(experiment: Experiment) -> Iterator[Problem]:
    """Check that networks take one channel where their input is luminance."""
    for network in experiment.networks if experiment.channels == 1 else ():
        for key in (
            _CHANNELS if experiment.uses(network) and network.role in ('student', 'teacher', 'privileged') else ()
        ):
            if argument_of(network.opt, key) not in (None, 1):
                yield Problem((*network.path, key), f'`color: y` means luminance, one channel: set `{key}: 1`.')


def find_teacher_count_problems(experiment: Experiment) -> Iterator[Problem]:
    """Check that an aggregator is made for as many teachers as there are."""
    names = experiment.teacher_names
    for network in _aggregators(experiment):
        count = argument_of(network.opt, 'num_teachers')
        if names and isinstance(count, int) and count != len(names):
            yield Problem(
                (*network.path, 'num_teachers'), f'{count}, but there are {len(names)} `distillation.teachers`.'
            )


def find_teacher_order_problems(experiment: Experiment) -> Iterator[Problem]:
    """Read the checkpoint of each aggregator, and compare its teachers with those of the experiment."""
    for network in _aggregators(experiment):
        if network.weights is None or not os.path.isfile(os.path.expanduser(network.weights)):
            continue
        try:
            content = read_checkpoint(network.weights)
        except UserError as error:
            yield Problem(network.weights_path, str(error))
        else:
            yield from find_trained_for_problems(network, content, experiment.teacher_names)


def find_trained_for_problems(
    aggregator: Network, content: Mapping[str, Any], teachers: list[str]
) -> Iterator[Problem]:
    """Compare the teachers at hand with those that an aggregator was trained for.

    Args:
        aggregator: With weights.
        content: Of its checkpoint; stage 1 stores the names of the teachers in it.
        teachers: Names of the teachers at hand, in their order.
    """
    path, file, trained_for = aggregator.weights_path, aggregator.weights, content.get('teachers')
    if trained_for is None:
        yield Problem(path, f'{file} does not say for which teachers it was trained; taken as {teachers}.', WARNING)
    elif list(trained_for) != teachers:
        yield Problem(
            path,
            f'the aggregator {file} was trained for the teachers {", ".join(map(str, trained_for))}, in this order, '
            f'but `distillation.teachers` are {", ".join(teachers)}. Use the same names and order as in stage 1.',
        )


def _aggregators(experiment: Experiment) -> list[Network]:
    return [n for n in experiment.networks if n.role == 'aggregator' and experiment.uses(n)]


def find_objective_problems(experiment: Experiment) -> Iterator[Problem]:
    """Check that something is minimised, and that a distillation distils something."""
    training, objective = experiment.training, experiment.model.objective
    if objective == 'other' or (objective == 'distillation' and experiment.losses):
        return
    if not training.has_image_loss:
        yield Problem(('train', 'pixel_opt'), 'missing: no loss is left, for example {type: L1Loss, loss_weight: 1.0}.')
    elif objective == 'distillation' and experiment.init_from is None:
        yield Problem(('distillation', 'losses'), 'nothing is distilled. For the baseline: StudentModel.')


def find_start_problems(experiment: Experiment) -> Iterator[Problem]:
    """Check that only one key says how the student starts."""
    if experiment.init_from is not None and experiment.trained.weights is not None and not experiment.resumes:
        yield Problem(
            ('distillation', 'init_from'), 'this and `path.pretrain_network_g` both say how the student starts.'
        )


def find_imitation_problems(experiment: Experiment, network: nn.Module) -> Iterator[Problem]:
    """Check that a network has the encoder whose output `train.imitation_opt` compares.

    Args:
        experiment: A training.
        network: Its `network_g`; weights do not matter.
    """
    if 'imitation_opt' in experiment.training.image_losses and 'encoder' not in dict(network.named_children()):
        text = f'{type(network).__name__} has no `encoder` to be compared: leave it out, or train a PISRTeacher.'
        yield Problem(('train', 'imitation_opt'), text)
