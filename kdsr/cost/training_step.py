"""What one training step of an option file costs, counted on shapes alone: no weights, no data, nothing computed."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import kdsr.archs
import kdsr.losses  # noqa: F401 - registers the networks and losses
from kdsr import options
from kdsr.checks.networks import OTHER, NamedNetwork
from kdsr.cost.on_meta import autocast_on_meta, on_meta
from kdsr.cost.operation_counter import Operation, OperationCounter
from kdsr.distillation.building import build_loss_at, build_network_at
from kdsr.distillation.cached_teachers import CachedTeachers, without_border
from kdsr.distillation.feature_tap import FeatureTap
from kdsr.distillation.outputs import Batch, NetworkOutput
from kdsr.distillation.padding import run_padded
from kdsr.distillation.precision import at_least_float32, autocast, laid_out, lay_out
from kdsr.distillation.teacher import TeacherEnsemble, build_teachers, window_of
from kdsr.distillation.views import View, build_view, view_terms
from kdsr.errors import UserError

STUDENT, TEACHERS, LOSSES = 'student', 'teachers', 'losses'
MODELS = ('SRModel', 'SwinIRModel', 'StudentModel', 'DistillationModel', 'AggregationModel', 'PrivilegedTeacherModel')
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

    opt: Mapping[str, Any]
    student: nn.Module
    tap: FeatureTap
    teachers: TeacherEnsemble | None = None
    image_loss: nn.Module | None = None
    imitation: nn.Module | None = None
    losses: nn.ModuleDict = field(default_factory=nn.ModuleDict)
    views: dict[str, View] = field(default_factory=dict)
    margin: int = 0

    @property
    def train_opt(self) -> Mapping[str, Any]:
        """The `train` section."""
        return self.opt['train']


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


def step_cost(opt: Mapping[str, Any]) -> StepCost:
    """Count what one training step costs.

    Every network, teacher and loss is built and run, forward and backward, at the crop and batch of the option file,
    on the meta device. Weight files are not read, except by networks that are what their file is (`Spandrel`).

    Args:
        opt: Checked options of a training, see :func:`kdsr.options.load_experiment`.

    Raises:
        UserError: another model than `MODELS`, or something that needs numbers to be run.
    """
    kind = opt.get('model_type')
    if kind not in MODELS:
        raise UserError(f'`model_type: {kind}` cannot be estimated: only {", ".join(MODELS)} can.')
    try:
        with autocast_on_meta(), torch.random.fork_rng(devices=[]):
            return _count(_build(opt))
    except (RuntimeError, NotImplementedError) as error:
        raise UserError(f'{opt["name"]} cannot be estimated: {error}') from error


def _skeleton(where: str, opt: Mapping[str, Any]) -> nn.Module:
    """Build a network on the meta device, if it can be without making its weights first."""
    network = NamedNetwork((where,), dict(opt), OTHER).skeleton()
    return on_meta(build_network_at(where, opt) if network is None else network)


def _batch(opt: Mapping[str, Any], size: int) -> Batch:
    """Return a batch of the training's crops: (N, C, h, w) and (N, C, S*h, S*w), with what a cache delivers."""
    train_set, scale = opt['datasets']['train'], int(opt.get('scale', 1))
    gt_size = int(train_set['gt_size'])
    channels = 1 if 'y' in (opt.get('color'), train_set.get('color')) else 3
    lq, gt = (torch.empty(size, channels, side, side, device=_META) for side in (gt_size // scale, gt_size))
    if not options.used_cache(opt):
        return Batch(lq, gt)
    if options.caches_code(opt):
        return Batch(lq, gt, torch.empty_like(lq))
    teachers = len(opt['distillation']['teachers']) if opt.get('model_type') == 'AggregationModel' else 1
    return Batch(lq, gt, torch.cat([gt] * teachers, dim=1))


def _build(opt: Mapping[str, Any]) -> _Parts:
    train_opt = opt['train']
    channels_last = bool(train_opt.get('channels_last', False))
    student = lay_out(_skeleton('network_g', opt['network_g']), channels_last).train()
    block = opt.get('distillation') or {} if opt['model_type'] == 'DistillationModel' else {}
    points = {name: pair['student'] for name, pair in (block.get('features') or {}).items() if pair is not None}
    if train_opt.get('imitation_opt'):
        points = {_ENCODING: 'encoder'}
    parts = _Parts(opt, student, FeatureTap(student, points))
    for key, attribute in (('pixel_opt', 'image_loss'), ('imitation_opt', 'imitation')):
        if train_opt.get(key):
            setattr(parts, attribute, on_meta(build_loss_at(f'train.{key}', train_opt[key])))
    if opt['model_type'] in ('DistillationModel', 'AggregationModel'):
        parts.teachers, parts.margin = _teachers(opt)
    if block:
        _add_losses(parts, block)
    else:
        parts.tap.calibrate(partial(student, _shown(parts, _batch(opt, 2))))
    return parts


def _teachers(opt: Mapping[str, Any]) -> tuple[TeacherEnsemble, int]:
    """Return the teachers, all on one device, and the margin of their cache."""
    block = dict(opt['distillation'])
    networks = [{**teacher, 'device': None} for teacher in block['teachers']]
    block['teachers'] = networks
    if block.get('aggregator'):
        block['aggregator'] = {**block['aggregator'], 'device': None}
    cache, from_code = options.used_cache(opt), options.caches_code(opt)
    if cache and not from_code:
        return CachedTeachers([teacher['name'] for teacher in networks]), cache.margin
    return build_teachers({**opt, 'distillation': block}, bool(cache), _skeleton), 0


def _add_losses(parts: _Parts, block: Mapping[str, Any]) -> None:
    """Build losses, their helpers, and views as a dry run on two samples shapes them."""
    assert parts.teachers is not None
    batch = _batch(parts.opt, 2)
    parts.tap.calibrate(partial(parts.student, batch.lq))
    parts.teachers.calibrate(batch)
    with torch.no_grad():
        student, teacher = _run_student(parts, batch.lq), parts.teachers(batch)
    for name, loss_opt in (block.get('losses') or {}).items():
        if loss_opt is None:  # a variant switches off a loss of its base
            continue
        loss = build_loss_at(f'distillation.losses.{name}', loss_opt)
        loss.build_helpers(student, teacher)  # type: ignore[operator]
        parts.losses[name] = on_meta(loss)
    for name, view_opt in (block.get('views') or {}).items():
        if view_opt is not None:
            parts.views[name] = build_view(f'distillation.views.{name}', view_opt, parts.losses, batch)


def _run_student(parts: _Parts, image: Tensor, tapped: bool = True) -> NetworkOutput:
    train_opt = parts.train_opt
    channels_last = bool(train_opt.get('channels_last', False))
    with parts.tap if tapped else contextlib.nullcontext({}) as features, autocast(_META, train_opt.get('amp')):
        sr = parts.student(laid_out(image, channels_last))
    return NetworkOutput(at_least_float32(sr.contiguous() if channels_last else sr), features)


def _shown(parts: _Parts, batch: Batch) -> Tensor:
    """Return what the network that is trained is shown."""
    kind = parts.opt['model_type']
    if kind == 'AggregationModel':
        assert parts.teachers is not None
        return parts.teachers.images(batch)
    return batch.gt if kind == 'PrivilegedTeacherModel' else batch.lq  # type: ignore[return-value]


def _count(parts: _Parts) -> StepCost:
    counter, rounds = OperationCounter(), int(parts.train_opt.get('accumulate') or 1)
    batch = _batch(parts.opt, max(1, int(parts.opt['datasets']['train']['batch_size_per_gpu']) // rounds))
    modules = {STUDENT: parts.student, TEACHERS: parts.teachers or nn.Module(), LOSSES: parts.losses}
    for module in modules.values():
        for tensor in (*module.parameters(), *module.buffers()):
            counter.add(tensor)
    learnt = [p for part in (STUDENT, LOSSES) for p in modules[part].parameters() if p.requires_grad]
    with counter:
        for _ in range(min(rounds, 2)):  # from the second on, the gradients of the first are there too
            counter.operations.clear()
            _run(parts, batch, counter)
    average = 1 if float(parts.train_opt.get('ema_decay') or 0) > 0 else 0
    moments = _MOMENTS.get(parts.train_opt['optim_g']['type'], 2)
    kept = moments * sum(p.numel() for p in learnt) + average * sum(p.numel() for p in parts.student.parameters())
    return StepCost(
        {part: Counter({o: rounds * n for o, n in counted.items()}) for part, counted in counter.operations.items()},
        {part: sum(p.numel() for p in module.parameters()) for part, module in modules.items()},
        counter.peak + 4 * kept,
    )


def _run(parts: _Parts, batch: Batch, counter: OperationCounter) -> None:
    """Run forward and backward as the models do: the student, the teachers, the losses, the views."""
    for tensor in (batch.lq, batch.gt, batch.cached):
        if tensor is not None:
            counter.add(tensor)
    cuts = _Cuts()

    def student(image: Tensor, tapped: bool = False) -> NetworkOutput:
        with counter.counted_as(STUDENT):
            output = _run_student(parts, image, tapped)
        return NetworkOutput(cuts(output.sr), {name: cuts(feature) for name, feature in output.features.items()})

    with counter.counted_as(TEACHERS):
        image = _shown(parts, batch)
    answer = student(image, tapped=True)
    with counter.counted_as(LOSSES):
        terms = [*_terms(parts, answer, batch, counter), *_view_terms(parts, batch, student, counter)]
        torch.stack(terms).sum().backward()
        del terms, answer
    with counter.counted_as(STUDENT):
        cuts.backward()


def _terms(parts: _Parts, answer: NetworkOutput, batch: Batch, counter: OperationCounter) -> Iterator[Tensor]:
    if parts.image_loss is not None:
        yield parts.image_loss(answer.sr, batch.gt)
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

    network = partial(run_padded, lambda image: student(image).sr, multiple=window_of(parts.opt['network_g']))
    for view in parts.views.values():
        yield from view_terms(view, batch, network, teacher, parts.losses, image_terms).values()
