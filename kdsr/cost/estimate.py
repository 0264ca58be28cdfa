"""The memory and time that trainings need on common GPUs: computed, not measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kdsr import options
from kdsr.checks.experiment import refuse_errors
from kdsr.cost.gpus import Gpu
from kdsr.cost.operation_counter import Operation
from kdsr.cost.training_step import StepCost, count_step
from kdsr.errors import UserError
from kdsr.experiment import Experiment, read_experiment

GIB = 1 << 30
Verdict = Literal['fits', 'tight', 'too small', 'no bf16']
FITS: Verdict = 'fits'
TIGHT: Verdict = 'tight'
TOO_SMALL: Verdict = 'too small'
NO_BF16: Verdict = 'no bf16'


@dataclass(frozen=True)
class Assumptions:
    """The assumptions of an estimate, each as (best case, worst case).

    Attributes:
        utilisation: Share of a card's peak performance that convolutions and matrix products reach, in 0..1.
        bandwidth: Share of the memory bandwidth that kernels reach, in 0..1.
        launch: Least time of a kernel in seconds: the host needs it to start one.
        iteration: Least time of an iteration in seconds: the host's loop, the batch and the optimiser.
        memory: Factor on the bytes of living tensors, for fragments that the allocator cannot use, and workspaces.
        context: Bytes that the driver and the libraries use.
    """

    utilisation: tuple[float, float] = (0.40, 0.15)
    bandwidth: tuple[float, float] = (0.9, 0.5)
    launch: tuple[float, float] = (5e-6, 15e-6)
    iteration: tuple[float, float] = (2e-3, 10e-3)
    memory: tuple[float, float] = (1.0, 1.4)
    context: tuple[int, int] = (GIB // 2, GIB)


@dataclass(frozen=True)
class Estimate:
    """The cost of the training of one option file.

    Attributes:
        name: Name of the run.
        iterations: `train.total_iter`.
        batch: Samples of one iteration on one GPU.
        crop: Side of the low-resolution crop in pixels.
        cost: The cost of one iteration.
        precisions: The precisions that student and teachers use: 'fp32', 'bf16', 'fp16'.
        notes: What is not counted, in words.
    """

    name: str
    iterations: int
    batch: int
    crop: int
    cost: StepCost
    precisions: frozenset[str]
    notes: tuple[str, ...] = ()

    def fits(self, gpu: Gpu, assumed: Assumptions) -> Verdict:
        """Return whether the training fits on a card; TIGHT means in the best case only."""
        if 'bf16' in self.precisions and not gpu.bf16:
            return NO_BF16
        best, worst = (self.cost.memory * f + c for f, c in zip(assumed.memory, assumed.context))
        return FITS if worst <= gpu.memory else TIGHT if best <= gpu.memory else TOO_SMALL

    def days(self, gpu: Gpu, assumed: Assumptions) -> tuple[float, float]:
        """Return the days of the training on a card, in the best and in the worst case."""
        settings = zip(assumed.utilisation, assumed.bandwidth, assumed.launch)
        each = (estimate_seconds(self.cost, gpu, *setting) for setting in settings)
        best, worst = (self.iterations * max(pair) / 86400 for pair in zip(each, assumed.iteration))
        return best, worst


def estimate_seconds(cost: StepCost, gpu: Gpu, utilisation: float, bandwidth: float, launch: float) -> float:
    """Return the time of one iteration: for each kernel the longest of arithmetic, memory traffic and launch, summed.

    Args:
        cost: The cost of the iteration.
        gpu: The card.
        utilisation: Share of the peak performance that is reached.
        bandwidth: Share of the memory bandwidth that is reached.
        launch: Least time of a kernel in seconds.

    Returns:
        Seconds.
    """
    operations: Counter[Operation] = sum(cost.operations.values(), Counter())
    return sum(
        times * max(o.flop / (gpu.peak(o.kind) * utilisation), o.moved / (gpu.bandwidth * bandwidth), launch)
        for o, times in operations.items()
    )


def make_assumptions(utilisation: Sequence[float] | None) -> Assumptions:
    """Return the assumptions, with another range of the utilisation if one is given.

    Args:
        utilisation: Two shares of the peak performance, in any order; None for the default.

    Raises:
        UserError: a share is not in (0, 1].
    """
    if utilisation is None:
        return Assumptions()
    if not all(0 < share <= 1 for share in utilisation):
        raise UserError('--utilisation needs two shares of the peak, above 0 and at most 1, for example 0.15 0.4')
    return Assumptions(utilisation=(max(utilisation), min(utilisation)))


def estimate(path: str, overrides: Sequence[str] = ()) -> Estimate:
    """Count the cost of the training of an option file. Neither weights nor data are needed.

    Args:
        path: Option file.
        overrides: Options to replace, as after `--force_yml`.

    Raises:
        UserError: the file trains nothing, has mistakes, or cannot be counted.
    """
    file = options.read(path, overrides)
    if 'train' not in (file.opt.get('datasets') or {}) or not isinstance(file.opt.get('train'), dict):
        raise UserError(
            f'{path} trains nothing (no `train:` and `datasets.train`): name the option file of a training.'
        )
    refuse_errors(file, is_train=True)
    opt = options.complete(options.clean(file), path)
    experiment = read_experiment(opt, is_train=True)
    training = experiment.training
    _require(path, {'datasets.train.gt_size': training.crop, 'scale': experiment.scale,
                 'datasets.train.batch_size_per_gpu': training.batch_size,
                 'train.total_iter': training.iterations, 'train.optim_g': training.optimiser})  # fmt: skip
    return Estimate(
        name=experiment.name,
        iterations=training.iterations,
        batch=training.batch_size,
        crop=training.crop // experiment.scale,
        cost=count_step(opt),
        precisions=frozenset(_describe_precisions(experiment)),
        notes=tuple(_write_notes(experiment)),
    )


def _require(path: str, values: Mapping[str, Any]) -> None:
    missing = [key for key, value in values.items() if not value]
    if missing:
        raise UserError(f'{path}: missing for an estimate: {", ".join(missing)}.')


def _describe_precisions(experiment: Experiment) -> Iterator[str]:
    yield from filter(None, [experiment.training.amp])
    if experiment.used_cache is None:
        yield from (network.precision for network in experiment.frozen)


def _write_notes(experiment: Experiment) -> Iterator[str]:
    if not experiment.model.known:
        yield f'what {experiment.model.name} does beyond the step of BasicSR is not counted'
    if experiment.model.makes_lq:
        yield 'the degradation is one random draw; the kernels that the loader makes are not counted'
    if experiment.training.compile:
        yield '`train.compile` is assumed to save nothing'
    if experiment.used_cache is not None:
        yield 'making the teacher cache (`kdsr cache`) is not counted'
    if any(network.device for network in experiment.frozen):
        yield "teachers on another `device` are counted on the student's"
