"""The photos of a report: outputs of the finished students, their teachers and bicubic on validation images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import cv2
import numpy as np
import torch
from basicsr.utils import tensor2img
from basicsr.utils.color_util import rgb2ycbcr_pt
from torch import Tensor

from kdsr import options
from kdsr.comparison.planned_runs import PlannedRun
from kdsr.comparison.summary import RunResult, Summary
from kdsr.comparison.validation_images import read_images
from kdsr.data.matlab_bicubic import upsample_bicubic
from kdsr.distillation.outputs import Batch
from kdsr.distillation.padding import run_padded
from kdsr.distillation.quadrants import run_in_quadrants
from kdsr.distillation.teacher import TeacherEnsemble, build_teachers
from kdsr.errors import UserError
from kdsr.metrics import NotFiniteError, check_finite
from kdsr.models.validation import colour_image
from kdsr.networks.subjects import find_weights, read_weights_of
from kdsr.pictures.folders import choose_boxes
from kdsr.pictures.photo_rows import BICUBIC, Box, Row, choose_rows_by_difference
from kdsr.progress_bars import ProgressBar

MOST_IMAGES = 24  # how many images of all validation sets together are searched for differences
# lq and gt, RGB, and the name of their set, to (S*h, S*w, 3), uint8, BGR
_Run = Callable[[Batch, str], np.ndarray]


def choose_rows(
    summary: Summary, count: int, size: int = 96, crops: Mapping[str, Sequence[Box]] | None = None
) -> tuple[list[Row], list[str]]:
    """Run the finished students on validation images, and choose the photos to show.

    Args:
        summary: The comparison; each label is shown with its first finished seed.
        count: How many photos to choose: those in which the methods differ most.
        size: Side of the crops in pixels.
        crops: Image to boxes, to show instead.

    Returns:
        The photos, and what cannot be shown and why.

    Raises:
        UserError: a crop is not inside an image.
    """
    methods, teachers, problems = _build_methods(summary)
    if not methods:
        return [], problems
    references = frozenset({BICUBIC, *teachers})
    rows = _run_on_images(summary, {**methods, **teachers}, references, list(crops) if crops else None)
    try:
        return (choose_boxes(rows, crops) if crops else choose_rows_by_difference(rows, count, size)), problems
    except (FileNotFoundError, NotFiniteError) as error:
        return [], [*problems, f'No crops were drawn: {error}']


def _build_methods(summary: Summary) -> tuple[dict[str, _Run], dict[str, _Run], list[str]]:
    """Return title to student, the baseline first; title to teacher; and what cannot be shown and why."""
    comparison, problems = summary.comparison, []
    labels = sorted(comparison.shown, key=lambda label: label != comparison.baseline)
    methods: dict[str, _Run] = {}
    teachers: dict[str, _Run] = {}
    for label in labels:
        result = next((r for r in summary.results[label] if r.finished), None)
        if result is None:
            continue
        try:
            methods[result.run.title] = _build_student(result)
            teachers.update(_build_teachers(result.run, teachers))
        except UserError as error:
            problems.append(f'{label} is not among the crops: {error}')
    return methods, teachers, problems


def _choose_device() -> str:
    return 'cuda' if torch.cuda.is_available() else 'cpu'


def _build_student(result: RunResult) -> _Run:
    experiment = result.run.experiment
    network = read_weights_of(
        experiment, lambda: find_weights(experiment, 'latest', result.run.label), _choose_device()
    )
    trained = experiment.trained
    padded = partial(run_padded, network, multiple=trained.multiple)
    teachers = build_teachers(experiment).to(_choose_device()) if trained.input == 'teacher_images' else None

    def run_trained(batch: Batch, set_name: str) -> Tensor:
        if teachers is not None:
            batch = replace(batch, teacher_images=teachers.images(batch))
        image = batch.require(trained.input, trained.name)
        return run_in_quadrants(padded, image) if experiment.validation.in_quadrants(set_name) else padded(image)

    return partial(_run_in_colour, run_trained, experiment.luminance)


def _build_teachers(run: PlannedRun, known: Mapping[str, _Run]) -> dict[str, _Run]:
    """Return the teachers of a run as one network, unless they are known already."""
    experiment = run.experiment
    names = experiment.teacher_names
    if not names or experiment.student is None:
        return {}
    title = f'teacher {names[0]}' if len(names) == 1 else f'fused {" + ".join(names)}'
    if title in known:
        return {}
    options.check(run.opt)
    ensemble: TeacherEnsemble = build_teachers(experiment).to(_choose_device())
    return {title: partial(_run_in_colour, lambda batch, _: ensemble(batch).image, experiment.luminance)}


def _run_in_colour(run: Callable[[Batch, str], Tensor], luminance: bool, batch: Batch, set_name: str) -> np.ndarray:
    """Run a network on RGB images, or on their luminance with bicubic chroma."""
    if not luminance or batch.lq.shape[1] == 1:
        return _to_pixels(run(batch, set_name))
    lq, gt = (rgb2ycbcr_pt(image, y_only=True) for image in (batch.lq, batch.gt))
    image = check_finite(run(Batch(lq, gt), set_name).float(), 'a network of the comparison')
    return colour_image(image.cpu(), batch.lq.cpu())


def _to_pixels(image: Tensor) -> np.ndarray:
    pixels = tensor2img(check_finite(image.float(), 'a network of the comparison'))
    return cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR) if pixels.ndim == 2 else pixels


@torch.no_grad()
def _run_on_images(
    summary: Summary, methods: Mapping[str, _Run], references: frozenset[str], names: Sequence[str] | None
) -> Iterator[Row]:
    """Yield the first validation images of each set, or the named ones, with the outputs of all methods."""
    experiment = summary.comparison.baseline_run.experiment
    scale, sets = experiment.scale, experiment.validation_sets
    share = max(1, MOST_IMAGES // len(sets))
    for set_name, dataset_opt in sets.items():
        images_of_set = read_images(dataset_opt, scale, share, names or ())
        for title, lq, gt in ProgressBar(images_of_set, desc='crops', unit='image', leave=False):
            images = {BICUBIC: upsample_bicubic(_to_pixels(lq), scale)}
            batch = Batch(lq.to(_choose_device()), gt.to(_choose_device()))
            images.update((method, run(batch, set_name)) for method, run in methods.items())
            yield Row(title, _to_pixels(gt), images, references=references)
