"""What one training step of an option file costs, counted on shapes alone: no weights, no data, nothing computed."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import kdsr.archs
import kdsr.losses  # noqa: F401 - registers the networks and losses
from kdsr.checks.skeletons import skeleton_of
from kdsr.cost.on_meta import autocast_on_meta, on_meta
from kdsr.cost.operation_counter import Operation, OperationCounter
from kdsr.distillation.building import build_loss_at, build_network_at
from kdsr.distillation.cached_teachers import CachedTeachers, without_border
from kdsr.distillation.feature_tap import FeatureTap
from kdsr.distillation.outputs import Batch, NetworkOutput, Teacher
from kdsr.distillation.padding import run_padded
from kdsr.distillation.precision import at_least_float32, autocast, set_memory_format, to_memory_format
from kdsr.distillation.teacher import build_teachers
from kdsr.distillation.views import View, build_view, view_terms
from kdsr.errors import UserError
from kdsr.experiment import Experiment, Network, Training, read_experiment
from kdsr.hourglass import decoder_of
from kdsr.options.model_classes import MODEL_CLASSES

STUDENT, TEACHERS, LOSSES = 'student', 'teachers', 'losses'
MODELS = tuple(row.name for row in MODEL_CLASSES.values() if row.objective != 'other')
_META = torch.device('meta')
_MOMENTS = {'SGD': 1, 'RMSprop': 1, 'ASGD': 1}  # tensors as large as the weights; Adam and the others keep two
_ENCODING = 'encoding'


@dataclass(frozen=True)
class StepCost:
    """What one iteration costs on one device.

    Attributes:
        operations: STUDENT, TEACHERS (with aggregator) and LOSSES (with their helpers), forward and backward, to what
            they run how often.
        parameters: The same parts to their weights.
        memory: Bytes of weights, gradients, optimiser, moving average and all tensors that are alive at a time.
    """

    operations: Mapping[str, Counter[Operation]]
    parameters: Mapping[str, int]
    memory: int


@dataclass
class _Parts:
    """Networks and losses of a step, on the meta device.

    Attributes:
        student: What is trained, in training mode; its features are taken by `tap`.
        teachers: None where there are none, or where they do not run.
        image_loss: `train.pixel_opt`.
        imitation: `train.imitation_opt` of a privileged teacher.
        losses: `distillation.losses`, with their helpers.
    """

    experiment: Experiment
    student: nn.Module
    tap: FeatureTap
    teachers: Teacher | None = None
    image_loss: nn.Module | None = None
    imitation: nn.Module | None = None
    losses: nn.ModuleDict = field(default_factory=nn.ModuleDict)
    views: dict[str, View] = field(default_factory=dict)
    margin: int = 0

    @property
    def training(self) -> Training:
        """How a step is taken."""
        return self.experiment.training


class _Cuts:
    """Cuts the graph between the student and the losses, so that the backward pass of each is counted by itself."""

    def __init__(self) -> None:
        self._pairs: list[tuple[Tensor, Tensor]] = []

    def __call__(self, tensor: Tensor) -> Tensor:
        leaf = tensor.detach().requires_grad_()
        self._pairs.append((tensor, leaf))
        return leaf

    def backward(self) -> None:
        """Go on where the losses' backward pass ended."""
        reached = [(tensor, leaf.grad) for tensor, leaf in self._pairs if leaf.grad is not None]
        self._pairs.clear()
        torch.autograd.backward([tensor for tensor, _ in reached], [gradient for _, gradient in reached])


def step_cost(opt: Mapping[str, Any] | Experiment) -> StepCost:
    """Count what one training step costs.

    Every network, teacher and loss is built and run, forward and backward, at the crop and batch of the option file,
    on the meta device. Weight files are not read, except by networks that are what their file is (`Spandrel`).

    Args:
        opt: Checked options of a training, see :func:`kdsr.options.load_experiment`, or the experiment itself.

    Raises:
        UserError: another model than `MODELS`, or something that needs numbers to be run.
    """
    experiment = read_experiment(opt)
    if experiment.model.name not in MODELS:
        raise UserError(f'`model_type: {experiment.model.name}` cannot be estimated: only {", ".join(MODELS)} can.')
    try:
        with autocast_on_meta(), torch.random.fork_rng(devices=[]):
            return _count(_build(experiment))
    except (RuntimeError, NotImplementedError) as error:
        raise UserError(f'{experiment.name} cannot be estimated: {error}') from error


def _skeleton(network: Network) -> nn.Module:
    """Build a network on the meta device, if it can be without making its weights first."""
    skeleton = skeleton_of(network.opt)
    return on_meta(build_network_at(network.where, network.opt) if skeleton is None else skeleton)


def _batch(experiment: Experiment, size: int) -> Batch:
    """Return a batch of the training's crops: (N, C, h, w) and (N, C, S*h, S*w), with what a cache delivers."""
    crop, scale, channels = experiment.training.crop, experiment.scale or 1, experiment.channels
    lq, gt = (torch.empty(size, channels, side, side, device=_META) for side in (crop // scale, crop))
    if experiment.used_cache is None:
        return Batch(lq, gt)
    if experiment.content == 'code':
        return Batch(lq, gt, code=torch.empty_like(lq))
    images = len(experiment.teachers) if experiment.content == 'teacher_images' else 1
    return Batch(lq, gt, torch.cat([gt] * images, dim=1))


def _build(experiment: Experiment) -> _Parts:
    training = experiment.training
    student = set_memory_format(_skeleton(experiment.trained), training.channels_last).train()
    points = {feature.name: feature.student for feature in experiment.features}
    if 'imitation_opt' in training.image_losses:
        points = {_ENCODING: 'encoder'}
    parts = _Parts(experiment, student, FeatureTap(student, points))
    for key, attribute in (('pixel_opt', 'image_loss'), ('imitation_opt', 'imitation')):
        if key in training.image_losses:
            setattr(parts, attribute, on_meta(build_loss_at(f'train.{key}', training.image_losses[key])))
    if experiment.model.teachers != 'unused':
        parts.teachers, parts.margin = _teachers(experiment)
    if experiment.model.objective == 'distillation':
        _add_losses(parts)
    else:
        parts.tap.calibrate(partial(student, _input_of(parts, _batch(experiment, 2))))
    return parts


def _teachers(experiment: Experiment) -> tuple[Teacher, int]:
    """Return the teachers, all on one device, and the margin of their cache."""
    networks = tuple(replace(network, device=None) for network in experiment.networks)
    cache, experiment = experiment.used_cache, replace(experiment, networks=networks)
    if cache is None:
        return build_teachers(experiment, build=_skeleton), 0
    if experiment.content == 'code':
        return build_teachers(experiment, decoder_of, _skeleton), 0
    return CachedTeachers(experiment.teacher_names), cache.margin


def _add_losses(parts: _Parts) -> None:
    """Build losses, their helpers, and views as a dry run on two samples shapes them."""
    assert parts.teachers is not None
    experiment = parts.experiment
    batch = _batch(experiment, 2)
    parts.tap.calibrate(partial(parts.student, batch.lq))
    parts.teachers.calibrate(batch)
    with torch.no_grad():
        student, teacher = _run_student(parts, batch.lq), parts.teachers(batch)
    for name, loss_opt in experiment.losses.items():
        loss = build_loss_at(f'distillation.losses.{name}', loss_opt)
        loss.build_helpers(student, teacher)  # type: ignore[operator]
        parts.losses[name] = on_meta(loss)
    for name, view_opt in experiment.views.items():
        parts.views[name] = build_view(f'distillation.views.{name}', view_opt, parts.losses, batch)


def _run_student(parts: _Parts, image: Tensor, tapped: bool = True) -> NetworkOutput:
    channels_last = parts.training.channels_last
    with parts.tap if tapped else contextlib.nullcontext({}) as features, autocast(_META, parts.training.amp):
        sr = parts.student(to_memory_format(image, channels_last))
    return NetworkOutput(at_least_float32(sr.contiguous() if channels_last else sr), features)


def _input_of(parts: _Parts, batch: Batch) -> Tensor:
    """Return what the network that is trained is shown."""
    kind = parts.experiment.trained.input
    if kind == 'teacher_images' and batch.teacher_images is None:
        assert parts.teachers is not None
        return parts.teachers.images(batch)
    return batch.require(kind)


def _count(parts: _Parts) -> StepCost:
    counter, rounds = OperationCounter(), parts.training.accumulate
    batch = _batch(parts.experiment, max(1, parts.training.batch_size // rounds))
    teachers = parts.teachers if isinstance(parts.teachers, nn.Module) else nn.Module()
    modules = {STUDENT: parts.student, TEACHERS: teachers, LOSSES: parts.losses}
    for module in modules.values():
        for tensor in (*module.parameters(), *module.buffers()):
            counter.add(tensor)
    learnt = [p for part in (STUDENT, LOSSES) for p in modules[part].parameters() if p.requires_grad]
    with counter:
        for _ in range(min(rounds, 2)):  # from the second on, the gradients of the first are there too
            counter.operations.clear()
            _run(parts, batch, counter)
    average = 1 if parts.training.ema_decay > 0 else 0
    moments = _MOMENTS.get(parts.training.optimiser['type'], 2)
    kept = moments * sum(p.numel() for p in learnt) + average * sum(p.numel() for p in parts.student.parameters())
    return StepCost(
        {part: Counter({o: rounds * n for o, n in counted.items()}) for part, counted in counter.operations.items()},
        {part: sum(p.numel() for p in module.parameters()) for part, module in modules.items()},
        counter.peak + 4 * kept,
    )


def _run(parts: _Parts, batch: Batch, counter: OperationCounter) -> None:
    """Run forward and backward as the models do: the student, the teachers, the losses, the views."""
    for tensor in (batch.lq, batch.gt, batch.teacher_images, batch.code):
        if tensor is not None:
            counter.add(tensor)
    cuts = _Cuts()

    def student(image: Tensor, tapped: bool = False) -> NetworkOutput:
        with counter.counted_as(STUDENT):
            output = _run_student(parts, image, tapped)
        return NetworkOutput(cuts(output.image), {name: cuts(feature) for name, feature in output.features.items()})

    with counter.counted_as(TEACHERS):
        image = _input_of(parts, batch)
    answer = student(image, tapped=True)
    with counter.counted_as(LOSSES):
        terms = [*_terms(parts, answer, batch, counter), *_view_terms(parts, batch, student, counter)]
        torch.stack(terms).sum().backward()
        del terms, answer
    with counter.counted_as(STUDENT):
        cuts.backward()


def _terms(parts: _Parts, answer: NetworkOutput, batch: Batch, counter: OperationCounter) -> Iterator[Tensor]:
    if parts.image_loss is not None:
        yield parts.image_loss(answer.image, batch.gt)
    if parts.imitation is not None:
        yield parts.imitation(answer.features[_ENCODING], batch.lq)
    if parts.losses:
        assert parts.teachers is not None
        needs_image = any(loss.needs_teacher_image for loss in parts.losses.values())
        with counter.counted_as(TEACHERS):
            target = parts.teachers(batch, needs_image)
        compared = without_border(answer, target, batch, parts.margin)
        for loss in parts.losses.values():
            yield loss(*compared)


def _view_terms(
    parts: _Parts, batch: Batch, student: Callable[[Tensor], NetworkOutput], counter: OperationCounter
) -> Iterator[Tensor]:
    def teacher(extra: Batch) -> NetworkOutput:
        assert parts.teachers is not None
        with counter.counted_as(TEACHERS):
            return parts.teachers(extra)

    def image_terms(image: Tensor, gt: Tensor | None) -> dict[str, Tensor]:
        return {} if parts.image_loss is None else {'l_pix': parts.image_loss(image, gt)}

    network = partial(run_padded, lambda image: student(image).image, multiple=parts.experiment.trained.multiple)
    for view in parts.views.values():
        yield from view_terms(view, batch, network, teacher, parts.losses, image_terms).values()
