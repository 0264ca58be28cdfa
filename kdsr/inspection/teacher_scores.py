"""How good the student, each teacher, their mean and the aggregator of an experiment are on its validation sets."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from functools import partial

import torch
from basicsr.metrics import calculate_psnr, calculate_ssim
from basicsr.utils import tensor2img
from torch import Tensor

from kdsr.distillation.outputs import Batch
from kdsr.distillation.padding import run_padded
from kdsr.networks.trained_run import TrainedRun

# row to (PSNR, SSIM), the means over a set
Scores = dict[str, tuple[float, float]]


def teacher_scores(run: TrainedRun, count: int | None = None) -> dict[str, Scores]:
    """Score whoever gives an image: on luminance, rounded to 8 bits, `scale` pixels of border left out.

    Args:
        run: The experiment; its teachers run live, as whole images.
        count: At most so many images of each set; all when None.

    Returns:
        Set name to the scores of every row.
    """
    return {name: _means(_of_set(run, name, count)) for name in run.set_names()}


def _of_set(run: TrainedRun, set_name: str, count: int | None) -> Iterator[Scores]:
    for _, lq, gt in run.images(set_name, count):
        yield {who: _score(image, gt, run.scale) for who, image in _images(run, Batch(lq, gt)).items()}


def _means(images: Iterator[Scores]) -> Scores:
    scores = list(images)
    return {
        who: (statistics.fmean(s[who][0] for s in scores), statistics.fmean(s[who][1] for s in scores))
        for who in (scores[0] if scores else ())
    }


@torch.no_grad()
def _images(run: TrainedRun, batch: Batch) -> dict[str, Tensor]:
    """Return the image of the student, of each teacher, and of what fuses several."""
    model, teachers = run.model, run.model.teacher
    shown = model.shown(batch)
    images = {'student': run_padded(model.get_bare_model(model.net_g), shown, multiple=model.window())}
    own = list(teachers.images(batch).chunk(len(teachers.names), dim=1))
    images.update({f'teacher {name}': image for name, image in zip(teachers.names, own)})
    if len(own) > 1:
        images['mean of the teachers'] = torch.stack(own).mean(dim=0)
    if teachers.aggregator is not None:
        images['aggregator'] = teachers.aggregator(torch.cat(own, dim=1)).sr
    return images


def _score(image: Tensor, gt: Tensor, border: int) -> tuple[float, float]:
    pair = [tensor2img(one) for one in (image, gt)]
    luminance = image.shape[1] == 1  # is already there; tensor2img leaves (H, W)
    pair = [one[..., None] for one in pair] if luminance else pair
    metrics = (
        partial(metric, crop_border=border, test_y_channel=not luminance) for metric in (calculate_psnr, calculate_ssim)
    )
    psnr, ssim = (float(metric(*pair)) for metric in metrics)
    return psnr, ssim
