"""Crops and error maps of a comparison: its finished students, their teachers and bicubic on the validation images."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from basicsr.data import build_dataset
from basicsr.utils import tensor2img
from basicsr.utils.color_util import rgb2ycbcr_pt
from torch import Tensor
from tqdm import tqdm

from kdsr import options
from kdsr.comparison.plan import validation_sets
from kdsr.comparison.summary import RunResult, Summary
from kdsr.data.matlab_bicubic import upsample_bicubic
from kdsr.distillation.outputs import Batch
from kdsr.distillation.padding import run_padded
from kdsr.distillation.quadrants import run_in_quadrants
from kdsr.distillation.teacher import TeacherEnsemble, build_teachers, window_of
from kdsr.errors import UserError
from kdsr.models.validation import colour_image
from kdsr.networks.subjects import find_weights, read_weights_of
from kdsr.pictures.folders import with_boxes
from kdsr.pictures.photo_rows import BICUBIC, Box, Row, most_telling_rows

MOST_IMAGES = 24  # of all validation sets together that are looked at
Answer = Callable[[Batch], np.ndarray]  # lq and gt, RGB, to (S*h, S*w, 3), uint8, BGR


def chosen_rows(
    summary: Summary, count: int, size: int = 96, crops: Mapping[str, Sequence[Box]] | None = None
) -> tuple[list[Row], list[str]]:
    """Run what a comparison has trained over its validation images, and choose what to show.

    Args:
        summary: Of the runs; each label is shown with its first finished seed.
        count: Photos to show, those in which the methods differ most.
        size: Side of the crops.
        crops: By hand: image to boxes, instead.

    Returns:
        The photos, and what could not be shown and why.

    Raises:
        UserError: a crop is not inside an image.
    """
    methods, teachers, problems = _methods(summary)
    if not methods:
        return [], problems
    references = frozenset({BICUBIC, *teachers})
    rows = _rows(summary, {**methods, **teachers}, references, list(crops) if crops else None)
    try:
        return (with_boxes(rows, crops) if crops else most_telling_rows(rows, count, size)), problems
    except FileNotFoundError as error:
        return [], [*problems, f'No crops were drawn: {error}']


def _methods(summary: Summary) -> tuple[dict[str, Answer], dict[str, Answer], list[str]]:
    """Return title to what answers, the baseline first; the same of the teachers; and what is missing."""
    comparison, problems = summary.comparison, []
    labels = sorted(comparison.shown, key=lambda label: label != comparison.baseline)
    methods: dict[str, Answer] = {}
    teachers: dict[str, Answer] = {}
    for label in labels:
        result = next((r for r in summary.results[label] if r.finished), None)
        if result is None:
            continue
        try:
            methods[result.run.title] = _student(result)
            teachers.update(_teachers(result.run.opt, teachers))
        except UserError as error:
            problems.append(f'{label} is not among the crops: {error}')
    return methods, teachers, problems


def _device() -> str:
    return 'cuda' if torch.cuda.is_available() else 'cpu'


def _student(result: RunResult) -> Answer:
    opt = result.run.opt
    network = read_weights_of(opt, lambda: find_weights(opt, 'latest', result.run.label), _device())
    if opt['model_type'] == 'AggregationModel':
        teachers = build_teachers(opt).to(_device())
        return lambda batch: _picture(network(teachers.images(batch)))
    privileged = opt['model_type'] == 'PrivilegedTeacherModel'
    window = int(opt['scale']) if privileged else window_of(opt['network_g'])
    padded = partial(run_padded, network, multiple=window)
    run = partial(run_in_quadrants, padded) if (opt.get('val') or {}).get('quadrants') else padded
    return partial(_answer, lambda batch: run(batch.gt if privileged else batch.lq), opt.get('color') == 'y')


def _teachers(opt: Mapping[str, Any], known: Mapping[str, Answer]) -> dict[str, Answer]:
    """Return the teachers of a run as one answer, unless the same ones are known."""
    block = opt.get('distillation') or {}
    if not block.get('teachers') or opt['model_type'] == 'AggregationModel':
        return {}
    name = ' + '.join(teacher['name'] for teacher in block['teachers'])
    title = f'teacher {name}' if len(block['teachers']) == 1 else f'fused {name}'
    if title in known:
        return {}
    options.check(dict(opt))
    ensemble: TeacherEnsemble = build_teachers(opt).to(_device())
    return {title: partial(_answer, lambda batch: ensemble(batch).sr, opt.get('color') == 'y')}


def _answer(run: Callable[[Batch], Tensor], luminance: bool, batch: Batch) -> np.ndarray:
    """Run a network on RGB images, or on their luminance with the chroma enlarged bicubically."""
    if not luminance or batch.lq.shape[1] == 1:
        return _picture(run(batch))
    lq, gt = (rgb2ycbcr_pt(image, y_only=True) for image in (batch.lq, batch.gt))
    return colour_image(run(Batch(lq, gt)).float().cpu(), batch.lq.cpu())


def _picture(image: Tensor) -> np.ndarray:
    pixels = tensor2img(image.float())
    return cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR) if pixels.ndim == 2 else pixels


@torch.no_grad()
def _rows(
    summary: Summary, methods: Mapping[str, Answer], references: frozenset[str], names: Sequence[str] | None
) -> Iterator[Row]:
    """Yield the validation images: the first ones of each set, or those that are named."""
    opt = summary.comparison.of(summary.comparison.baseline)[0].opt
    scale, sets = int(opt['scale']), validation_sets(opt)
    share = max(1, MOST_IMAGES // len(sets))
    for dataset_opt in sets.values():
        for title, lq, gt in tqdm(_images(dataset_opt, scale, share, names), desc='crops', unit='image', leave=False):
            images = {BICUBIC: upsample_bicubic(_picture(lq), scale)}
            batch = Batch(lq.to(_device()), gt.to(_device()))
            images.update((method, answer(batch)) for method, answer in methods.items())
            yield Row(title, _picture(gt), images, references=references)


def _images(
    dataset_opt: Mapping[str, Any], scale: int, count: int, names: Sequence[str] | None
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield name, lq and gt, (1, C, ...) in [0, 1], of the first images of a set, or of those that are named."""
    dataset = build_dataset({**dataset_opt, 'phase': 'val', 'scale': scale})
    for i in range(len(dataset) if names else min(count, len(dataset))):
        data = dataset[i]
        name = os.path.splitext(os.path.basename(data['lq_path']))[0]
        if 'gt' in data and (not names or name in names):
            lq, gt = (data[key][None] for key in ('lq', 'gt'))
            yield name, *(image.float() / 255 if image.dtype == torch.uint8 else image for image in (lq, gt))
