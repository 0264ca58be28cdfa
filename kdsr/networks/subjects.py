"""Networks to look at, out of option files and weight files: students, teachers, aggregators with their teachers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kdsr import options, plugins
from kdsr.distillation.building import build_network_at
from kdsr.distillation.checkpoint import load_weights
from kdsr.distillation.padding import run_padded
from kdsr.distillation.teacher import FrozenNetwork, TeacherEnsemble, build_teachers
from kdsr.errors import UserError
from kdsr.experiment import Experiment, read_experiment, window_of
from kdsr.networks.facts import find_input_channels, scale_of
from kdsr.networks.weight_files import build, identify

OPTION_FILES = ('.yml', '.yaml')


@dataclass(frozen=True)
class Subject:
    """A network with its weights.

    Attributes:
        name: For figures and tables.
        run: Maps (N, C, h, w) in [0, 1], any size, to (N, C', S*h, S*w); differentiable, its weights are frozen.
        luminance: Whether its image is Y (C = 1) instead of RGB.
        scale: S; 0 where it is not known before a run.
    """

    name: str
    run: Callable[[Tensor], Tensor]
    luminance: bool = False
    scale: int = 0


@dataclass(frozen=True)
class Fusion:
    """An aggregator and the teachers whose images it fuses (MTKD).

    Attributes:
        name: Of the run.
        teachers: In the order of their images.
        images: Maps the low-quality image to (N, 3*T, S*h, S*w), teacher by teacher.
        fuse: Maps these images to (N, 3, S*h, S*w).
    """

    name: str
    teachers: Sequence[Subject]
    images: Callable[[Tensor], Tensor]
    fuse: Callable[[Tensor], Tensor]

    def whole(self) -> Subject:
        """Return teachers and aggregator as one network (MT in MTKD's tables)."""
        return Subject('MT', lambda lq: self.fuse(self.images(lq)), scale=self.teachers[0].scale)


def read_networks(
    source: str,
    network_opt: Mapping[str, Any] | None = None,
    iteration: str = 'latest',
    with_teachers: bool = False,
    device: str = 'cpu',
    overrides: Sequence[str] = (),
) -> tuple[list[Subject], Fusion | None]:
    """Build the networks that a source names.

    Args:
        source: Option file of a run or test, or file of weights: what `kdsr convert` or spandrel recognises, or any
            that `network_opt` describes. `NAME=` may stand before it.
        network_opt: `type` and arguments of the network whose weights a file holds.
        iteration: Which checkpoint of a run, a number or 'latest'.
        with_teachers: Take the teachers of an option file too; those of an aggregator always come with it.
        device: Where they are put.
        overrides: As after `--force_yml`, for an option file.

    Returns:
        The networks, and the fusion if the option file has an aggregator and its teachers are taken.

    Raises:
        UserError: a file is missing, not recognised, or does not fit.
    """
    name, equals, file = source.rpartition('=')
    if not equals:
        name = ''
    if file.endswith(OPTION_FILES):
        return _read_option_file(file, name, iteration, with_teachers, device, overrides)
    label = name or os.path.splitext(os.path.basename(file))[0]
    found, weights = identify(file, network_opt)
    network = build(label, found, weights, file)
    scale = scale_of(network, found)
    return [_make_subject(label, network.to(device), window_of(found), scale, found)], None


def _make_subject(
    name: str, network: nn.Module, window: int, scale: int, network_opt: Mapping[str, Any] | None = None
) -> Subject:
    network = network.eval().requires_grad_(False)
    multiple = int(getattr(network, 'multiple', window))
    return Subject(
        name, partial(run_padded, network, multiple=multiple), find_input_channels(network, network_opt) == 1, scale
    )


def _read_option_file(
    file: str, name: str, iteration: str, with_teachers: bool, device: str, overrides: Sequence[str]
) -> tuple[list[Subject], Fusion | None]:
    opt = options.load_experiment(file, overrides)
    plugins.import_named(opt.get('import_modules'))
    experiment = read_experiment(opt)
    trained, scale = experiment.trained, experiment.scale
    if trained.input == 'gt':
        raise UserError(f'{file}: the input of its network is the ground truth; there is nothing to super-resolve.')
    name = name or experiment.name
    network = read_weights_of(experiment, lambda: find_weights(experiment, iteration, file), device)
    own = _make_subject(name, network, trained.multiple, scale, trained.opt)
    aggregates = trained.role == 'aggregator'
    if not (experiment.teachers and (with_teachers or aggregates)):
        return [own], None
    options.check(opt)
    ensemble = build_teachers(experiment).to(device)
    teachers = [
        _make_teacher(member_name, member, scale)
        for member_name, member in zip(ensemble.names, ensemble.members)
        if ensemble.inputs[member_name] == 'lq'
    ]
    fuse = own.run if aggregates else _make_fuser(ensemble)
    if fuse is None:
        return [own, *teachers], None
    fusion = Fusion(name, teachers, lambda lq: torch.cat([t.run(lq) for t in teachers], dim=1), fuse)
    return [*([] if aggregates else [own]), *teachers, fusion.whole()], fusion


def _make_teacher(name: str, member: FrozenNetwork, scale: int) -> Subject:
    # the network itself: the frozen one answers without gradients
    return _make_subject(name, member.network, member.multiple, scale)


def _make_fuser(ensemble: TeacherEnsemble) -> Callable[[Tensor], Tensor] | None:
    aggregator = ensemble.aggregator
    return None if aggregator is None else partial(run_padded, aggregator.network, multiple=aggregator.multiple)


def read_weights_of(experiment: Experiment, checkpoint: Callable[[], str], device: str) -> nn.Module:
    """Build the network of an experiment with its weights, the averaged ones where a checkpoint has them.

    Args:
        experiment: The run.
        checkpoint: Asked for the file, unless the network brings its weights.
        device: Where it is put.
    """
    network = build_network_at('network_g', experiment.trained.opt)
    if not getattr(network, 'brings_weights', False):
        load_weights(network, checkpoint(), name=experiment.name)
    return network.eval().requires_grad_(False).to(device)


def find_weights(experiment: Experiment, iteration: str, file: str) -> str:
    """Return the path of a run's checkpoint, or else of the weights that a test file or fine-tuning starts from.

    Raises:
        UserError: neither is there.
    """
    trained = os.path.join('experiments', experiment.name, 'models', f'net_g_{iteration}.pth')
    places = [path for path in (trained, experiment.trained.weights) if path]
    found = next((path for path in places if os.path.isfile(path)), None)
    if found is None:
        raise UserError(f'{file}: its network has no weights yet; looked for {" and ".join(map(repr, places))}.')
    return found
