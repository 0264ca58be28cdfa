"""What one training step of an option file costs, counted on shapes alone: no weights, no data, nothing computed."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import MODEL_REGISTRY
from torch import Tensor, nn

from kdsr.compat.short_errors import find_vgg19
from kdsr.cost.gan_step import DEGRADATION, DISCRIMINATOR, Adversary, VggFeatures, count_degradation, degrades
from kdsr.cost.meta_model import Cuts, CutTap, MeteredTeacher, build_on_meta
from kdsr.cost.on_meta import autocast_on_meta
from kdsr.cost.operation_counter import Operation, OperationCounter
from kdsr.distillation.outputs import Batch
from kdsr.errors import UserError
from kdsr.experiment import Experiment, read_experiment
from kdsr.models.student_model import StudentModel

STUDENT, TEACHERS, LOSSES = 'student', 'teachers', 'losses'
_MOMENTS = {'SGD': 1, 'RMSprop': 1, 'ASGD': 1}  # tensors as large as the weights; Adam and the others keep two


@dataclass(frozen=True)
class StepCost:
    """What one iteration costs on one device.

    Attributes:
        operations: STUDENT, TEACHERS (with aggregator), LOSSES (with their helpers and VGG), DISCRIMINATOR, forward
            and backward, and DEGRADATION, to the operations that they run and how often.
        parameters: The same parts to the number of their weights.
        memory: Bytes of weights, gradients, optimiser, moving average and all tensors that are alive at a time.
    """

    operations: Mapping[str, Counter[Operation]]
    parameters: Mapping[str, int]
    memory: int


def count_step(opt: Mapping[str, Any]) -> StepCost:
    """Count what one training step costs.

    The model of the option file is built with all its networks, teachers and losses, and runs forward and backward at
    the crop and batch of the file, on the meta device. Weight files are not read, except by networks that are what
    their file is (`Spandrel`).

    Args:
        opt: Checked options of a training, see :func:`kdsr.options.load_experiment`.

    Raises:
        UserError: a model that is not SRModel's kind (video, StyleGAN2), or something that needs numbers to run.
    """
    experiment = read_experiment(opt, is_train=True)
    if not _is_image_model(experiment):
        text = 'only image models that derive from SRModel can'
        raise UserError(f'`model_type: {experiment.model.name}` cannot be estimated: {text}.')
    try:
        with autocast_on_meta(), torch.random.fork_rng(devices=[]):
            cost = _count(build_on_meta(_remove_files(opt)), experiment, opt)
        return _add_degradation(cost, opt, experiment) if degrades(opt) else cost
    except (RuntimeError, NotImplementedError) as error:
        raise UserError(f'{experiment.name} cannot be estimated: {error}') from error


def find_dry_run_problem(opt: Mapping[str, Any]) -> str | None:
    """Take one training step on shapes alone, and return what it refuses: features, losses and views that do not fit.

    Args:
        opt: Checked options of a training, see :func:`kdsr.options.load_experiment`.

    Returns:
        The message of a start; None where all fits, and where the step needs files or numbers that are not there.
    """
    experiment = read_experiment(opt, is_train=True)
    if experiment.model.objective == 'other' or _downloads(experiment):
        return None
    try:
        with autocast_on_meta(), torch.random.fork_rng(devices=[]):
            _count(build_on_meta(_remove_files(opt)), experiment, opt)
    except UserError as error:
        return str(error)
    except Exception:  # networks of others do what shapes alone cannot; a start runs them with numbers
        return None
    return None


def _is_image_model(experiment: Experiment) -> bool:
    name = experiment.model.name
    registered = next((MODEL_REGISTRY.get(n) for n in (name, f'{name}_basicsr') if n in MODEL_REGISTRY), None)
    return isinstance(registered, type) and issubclass(registered, SRModel) and not experiment.model.video


def _add_degradation(cost: StepCost, opt: Mapping[str, Any], experiment: Experiment) -> StepCost:
    operations, alive = count_degradation(opt, experiment)
    weights = 4 * sum(cost.parameters.values())
    memory = max(cost.memory, weights + alive)
    return StepCost({**cost.operations, DEGRADATION: operations}, cost.parameters, memory)


def _downloads(experiment: Experiment) -> bool:
    """Return whether building the losses would download VGG19."""
    vgg = any(loss.get('extractor') == 'vgg19' for loss in experiment.losses.values())
    return vgg and find_vgg19() is None


def _remove_files(opt: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of the same step that need no file and compute no numbers before it."""
    train = {key: value for key, value in opt['train'].items() if key not in ('perceptual_opt', 'compile')}
    train.update(ema_decay=0, optim_g={'type': 'Adam', 'lr': 0.0})  # what these keep is counted by its number of values
    one_process = {'is_train': True, 'dist': False, 'rank': 0, 'world_size': 1, 'num_gpu': 0}
    block = {'distillation': {**opt['distillation'], 'health_check': False}} if opt.get('distillation') else {}
    return copy.deepcopy({**opt, **one_process, **block, 'train': train, 'path': {}})


def _make_example(experiment: Experiment) -> Batch:
    """Return a part of a batch on the meta device, with the entries that a cache delivers."""
    training, channels = experiment.training, experiment.channels
    count, scale = max(1, training.batch_size // training.accumulate), experiment.scale or 1
    lq, gt = (
        torch.empty(count, channels, side, side, device='meta') for side in (training.crop // scale, training.crop)
    )
    if experiment.used_cache is None:
        return Batch(lq, gt)
    if experiment.content == 'code':
        return Batch(lq, gt, code=torch.empty_like(lq))
    images = len(experiment.teachers) if experiment.content == 'teacher_images' else 1
    return Batch(lq, gt, torch.cat([gt] * images, dim=1))


def _count(model: StudentModel, experiment: Experiment, opt: Mapping[str, Any]) -> StepCost:
    counter, training = OperationCounter(), experiment.training
    student: nn.Module = model.net_g
    teachers, losses = (getattr(model, name, None) or nn.Module() for name in ('teacher', 'losses'))
    if experiment.model.trains == 'aggregator':
        teachers = getattr(model, '_teachers', None) or nn.Module()
    modules: dict[str, nn.Module] = {STUDENT: student, TEACHERS: teachers, LOSSES: losses}
    adversary = Adversary(opt) if opt.get('network_d') and opt['train'].get('gan_opt') else None
    if adversary is not None:
        modules[DISCRIMINATOR] = model.net_d = adversary.network
    for module in modules.values():
        for tensor in (*module.parameters(), *module.buffers()):
            counter.add(tensor)
    step = _Step(model, counter, adversary, _make_vgg(opt))
    for _ in range(min(training.accumulate, 2)):  # from the second part on, there are the gradients of the first
        counter.operations.clear()
        step.run(_make_example(experiment))
    average = sum(p.numel() for p in student.parameters()) if training.ema_decay > 0 else 0
    moments = _MOMENTS.get(training.optimiser['type'], 2) * sum(p.numel() for p in model.learnt() if p.requires_grad)
    if adversary is not None:
        moments += 2 * sum(p.numel() for p in adversary.network.parameters())
    return StepCost(
        {
            part: Counter({operation: training.accumulate * n for operation, n in counted.items()})
            for part, counted in counter.operations.items()
        },
        {part: sum(p.numel() for p in module.parameters()) for part, module in modules.items()},
        counter.peak + 4 * (moments + average),
    )


def _make_vgg(opt: Mapping[str, Any]) -> VggFeatures | None:
    perceptual = opt['train'].get('perceptual_opt')
    return VggFeatures(perceptual['layer_weights'], perceptual.get('vgg_type', 'vgg19')) if perceptual else None


class _Step:
    """Takes a step of a model, and counts it by parts.

    The graph is cut between the student and the losses, so that the backward pass of each is counted by itself.

    Args:
        model: On the meta device.
        counter: Of the operations.
        adversary: The discriminator, in a GAN training.
        vgg: Of the perceptual loss, if there is one.
    """

    def __init__(
        self, model: StudentModel, counter: OperationCounter, adversary: Adversary | None, vgg: VggFeatures | None
    ) -> None:
        self.model, self.counter, self.cuts = model, counter, Cuts()
        self.adversary, self.vgg = adversary, vgg
        model.run = self._run_student(model.run)  # type: ignore[method-assign]
        if hasattr(model, 'tap'):
            model.tap = CutTap(model.tap, self.cuts)
        if hasattr(model, 'teacher'):
            model.teacher = MeteredTeacher(model.teacher, lambda: counter.counted_as(TEACHERS))

    def _run_student(self, run: Any) -> Any:
        def counted(image: Tensor, network: nn.Module | None = None) -> Tensor:
            with self.counter.counted_as(STUDENT):
                output = run(image, network)
            return self.cuts(output)

        return counted

    def run(self, batch: Batch) -> None:
        """Run forward and backward on a part of a batch."""
        model = self.model
        for tensor in (batch.lq, batch.gt, batch.teacher_images, batch.code):
            if tensor is not None:
                self.counter.add(tensor)
        with self.counter, self.counter.counted_as(TEACHERS):
            batch = model.complete(batch)
        with self.counter, self.counter.counted_as(LOSSES):
            terms = model.loss_terms(batch)
            if self.vgg is not None:
                terms['l_percep'] = self.vgg.compare(model.output, batch.require('gt'))
            torch.stack(list(terms.values())).sum().backward()
            del terms
        if self.adversary is not None:
            with self.counter, self.counter.counted_as(DISCRIMINATOR):
                self.adversary.judge_output(model.output, batch.require('gt'))
        with self.counter, self.counter.counted_as(STUDENT):
            self.cuts.backward()
        if self.adversary is not None:
            with self.counter, self.counter.counted_as(DISCRIMINATOR):
                self.adversary.learn(model.output, batch.require('gt'))
