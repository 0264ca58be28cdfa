"""PSNR and SSIM of an experiment's student, of each teacher, of their mean, and of the aggregator."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import torch
from basicsr.utils import tensor2img
from torch import Tensor

from kdsr.distillation.outputs import Batch
from kdsr.distillation.padding import run_padded
from kdsr.distillation.teacher import TeacherEnsemble
from kdsr.metrics import check_finite, score
from kdsr.networks.shown_images import ShownImages
from kdsr.networks.trained_run import TrainedRun

# row to (PSNR, SSIM), the means over a set
Scores = dict[str, tuple[float, float]]


def score_teachers(run: TrainedRun, count: int | None = None) -> dict[str, Scores]:
    """Score all networks of an experiment on its validation sets.

    Scores are on luminance, of images rounded to 8 bits, with `scale` pixels cut from each border. The teachers run
    on whole images; a cache is not used.

    Args:
        run: The experiment.
        count: How many images of each set to take, from the first; None for all.

    Returns:
        Name of the set to the scores of every row.
    """
    return {name: _average(_score_images(run, name, count)) for name in run.set_names()}


def _score_images(run: TrainedRun, set_name: str, count: int | None) -> Iterator[Scores]:
    for _, lq, gt in run.images(set_name, count):
        truth = tensor2img(gt)
        images = _run_all(run, Batch(lq, gt))
        yield {row: score(tensor2img(check_finite(image, row)), truth, run.scale) for row, image in images.items()}


def _average(images: Iterator[Scores]) -> Scores:
    scores = list(images)
    return {
        row: (statistics.fmean(s[row][0] for s in scores), statistics.fmean(s[row][1] for s in scores))
        for row in (scores[0] if scores else ())
    }


@torch.no_grad()
def _run_all(run: TrainedRun, batch: Batch) -> dict[str, Tensor]:
    """Return the outputs of the student, of each teacher, and of what combines several teachers."""
    model, teachers = run.model, run.model.teacher
    assert isinstance(teachers, TeacherEnsemble)  # they run live
    student_input = model.network_input(batch)
    student = run_padded(model.get_bare_model(model.net_g), student_input, multiple=model.window())
    return {'student': student, **run_teachers(teachers, batch)}


@torch.no_grad()
def run_teachers(teachers: TeacherEnsemble, batch: Batch) -> dict[str, Tensor]:
    """Return the image of each teacher, of the mean of several, and of the aggregator, by its name in reports."""
    outputs = list(teachers.images(batch).chunk(len(teachers.names), dim=1))
    images = {f'teacher {name}': image for name, image in zip(teachers.names, outputs)}
    if len(outputs) > 1:
        images['mean of the teachers'] = torch.stack(outputs).mean(dim=0)
    if teachers.aggregator is not None:
        images['aggregator'] = teachers.aggregator(torch.cat(outputs, dim=1)).image
    return images


def score_teachers_alone(
    teachers: TeacherEnsemble, shown: ShownImages, scale: int, count: int | None = None
) -> dict[str, Scores]:
    """Score teachers and their aggregator before there is a student.

    Args:
        teachers: With the aggregator, if there is one.
        shown: The images.
        scale: S, the border that is cut.
        count: How many images of each set to take, from the first; None for all.

    Returns:
        Name of the set to the scores of every row.
    """
    device = next(iter(teachers.parameters())).device

    def scores_of(name: str) -> Iterator[Scores]:
        for _, lq, gt in shown.images(name, count):
            truth = tensor2img(gt)
            images = run_teachers(teachers, Batch(*(image.to(device) for image in (lq, gt))))
            yield {row: score(tensor2img(check_finite(image, row)), truth, scale) for row, image in images.items()}

    return {name: _average(scores_of(name)) for name in shown.names()}
