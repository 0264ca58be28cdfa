"""Training patches in which the teacher is worse than a student trained alone (FACD, Fig. 2)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from basicsr.data import build_dataset
from torch import Tensor

from kdsr.distillation.outputs import Batch
from kdsr.distillation.padding import run_padded
from kdsr.errors import UserError
from kdsr.inspection.patch_comparison import BATCH
from kdsr.networks.subjects import read_networks
from kdsr.networks.trained_run import TrainedRun

WORST = 5  # patches that are kept for the picture


@dataclass(frozen=True)
class TrainingPatch:
    """One patch. Images are (1, C, h, w) or (1, C, S*h, S*w), in [0, 1].

    Attributes:
        lq, gt: The pair.
        student: The image of the student that was trained alone.
        teacher: The image of the teacher.
        loss: mean |T - G| - mean |S - G|: how much worse the teacher is.
    """

    lq: Tensor
    gt: Tensor
    student: Tensor
    teacher: Tensor
    loss: float


@dataclass(frozen=True)
class TrainingShare:
    """How many of how many training patches the teacher is worse in, and the worst of them.

    Attributes:
        patches: All that were looked at.
        rejected: Those in which the teacher is worse.
        student: Whose images the teacher's are compared with, in words.
        worst: The patches in which the teacher is worst, the worst first.
    """

    patches: int
    rejected: int
    student: str
    worst: tuple[TrainingPatch, ...]


@torch.no_grad()
def count_training_patches(run: TrainedRun, count: int, alone: str | None = None) -> TrainingShare:
    """Cut patches from the training set as a training does, and compare teacher and student on them.

    Args:
        run: The trained experiment; its teacher is looked at.
        count: How many patches. They are spread over the images; crops, flips and turns are those of seed 0.
        alone: The student that was trained alone: its option file or weights (`NAME=` may stand before it); the run's
            own student when None.

    Raises:
        UserError: the training set is not there, or `alone` is another kind of network.
    """
    if count < 1:
        raise UserError(f'--training-patches must be at least 1, is {count}.')
    answer, name = _find_student(run, alone)
    rejected, worst = 0, []
    for batch in _batches(run, count):
        student, teacher = answer(batch.lq), run.model.teacher(batch).image
        if student.shape != teacher.shape:
            raise UserError(
                f'{name} makes {tuple(student.shape[1:])} of a patch, the teacher {tuple(teacher.shape[1:])}.'
            )
        ours, theirs = ((image - batch.require('gt')).abs().flatten(1).mean(1) for image in (student, teacher))
        rejected += int((ours < theirs).sum())
        images = [image.cpu().split(1) for image in (batch.lq, batch.require('gt'), student, teacher)]
        losses = (theirs - ours).tolist()
        worst += [TrainingPatch(*patch) for patch in zip(*images, losses) if patch[-1] > 0]
        worst = sorted(worst, key=lambda patch: -patch.loss)[:WORST]
    return TrainingShare(count, rejected, name, tuple(worst))


def _find_student(run: TrainedRun, alone: str | None) -> tuple[Callable[[Tensor], Tensor], str]:
    if alone is None:
        network = run.model.get_bare_model(run.model.net_g)
        return lambda lq: run_padded(network, lq, run.model.window()), "the run's own student"
    (subject, *_), _ = read_networks(alone, network_opt=None, device=str(run.model.device))
    return subject.run, subject.name


def _batches(run: TrainedRun, count: int) -> Iterator[Batch]:
    """Yield batches of training patches. The random numbers of the process stay as they were."""
    options = {**run.experiment.datasets['train'], 'phase': 'train', 'scale': run.scale}
    states = random.getstate(), np.random.get_state()
    random.seed(0)
    np.random.seed(0)
    try:
        dataset = build_dataset(options)
        pairs = (dataset[k * len(dataset) // count % len(dataset)] for k in range(count))
        chunk: list[dict[str, Tensor]] = []
        for number, pair in enumerate(pairs, 1):
            chunk.append(pair)
            if len(chunk) == BATCH or number == count:
                run.model.feed_data({key: torch.stack([one[key] for one in chunk]) for key in ('lq', 'gt')})
                chunk = []
                yield run.model.batch()
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
