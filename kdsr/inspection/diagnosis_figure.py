"""The picture of `kdsr diagnose`: the student's error, and LSFD's attention map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import matplotlib as mpl
import numpy as np
import torch
from basicsr.utils import tensor2img
from torch import Tensor

from kdsr.distillation.outputs import Batch
from kdsr.distillation.padding import run_padded
from kdsr.inspection.training_patches import TrainingPatch
from kdsr.losses.lsfd_loss import selective_map
from kdsr.metrics import check_finite, score
from kdsr.networks.trained_run import TrainedRun

mpl.use('Agg')
from matplotlib import pyplot as plt

SIDE = 384  # super-resolved pixels of the crop that is drawn
TITLES = ('low resolution', 'student S', 'teacher T', 'error |S - G|', 'attention map |T - S|')
BRIGHTEST = 99.5  # percentile of a map at which its colours end


@dataclass(frozen=True)
class Panel:
    """One row of the picture. All images are RGB or Y in [0, 1].

    Attributes:
        name: Names of set and image.
        lq: (1, C, h, w): the input.
        gt: (1, C, S*h, S*w): the ground truth.
        student: (1, C, S*h, S*w): the output of the student.
        teacher: (1, C, S*h, S*w): the output of the teacher.
    """

    name: str
    lq: Tensor
    gt: Tensor
    student: Tensor
    teacher: Tensor


@torch.no_grad()
def make_panels(run: TrainedRun, count: int) -> Iterator[Panel]:
    """Run student and teacher on the middle of the first `count` validation images, set after set; yield the rows."""
    side = max(SIDE // run.scale, 1)
    for set_name in run.set_names():
        for name, lq, gt in run.images(set_name, count):
            top, left = (max(length - side, 0) // 2 for length in lq.shape[-2:])
            low = lq[..., top : top + side, left : left + side]
            high = gt[..., run.scale * top :, run.scale * left :][..., : run.scale * side, : run.scale * side]
            batch = Batch(low, high)
            student = run_padded(run.model.net_g, run.model.network_input(batch), run.model.window())
            yield Panel(f'{set_name} {name}', low, high, student, run.model.teacher(batch).image)
            count -= 1


def draw_panels(rows: list[Panel], path: str) -> None:
    """Draw one row per image: input, student, teacher, the student's error, and the attention map.

    Args:
        rows: At least one.
        path: PNG file to write.
    """
    figure, axes = plt.subplots(
        len(rows), len(TITLES), figsize=(2.6 * len(TITLES), 2.75 * len(rows)), squeeze=False, layout='constrained'
    )
    for axis, title in zip(axes[0], TITLES):
        axis.set_title(title, fontsize=10)
    for axes_of_row, panel in zip(axes, rows):
        border = panel.gt.shape[-1] // panel.lq.shape[-1]
        _show(axes_of_row[0], panel.lq, panel.name)
        _show(axes_of_row[1], panel.student, f'PSNR {_measure_psnr(panel.student, panel.gt, border):.2f} dB')
        _show(axes_of_row[2], panel.teacher, f'PSNR {_measure_psnr(panel.teacher, panel.gt, border):.2f} dB')
        _draw_heat(figure, axes_of_row[3], (panel.student - panel.gt).abs().mean(1)[0])
        _draw_heat(figure, axes_of_row[4], selective_map(panel.student, panel.teacher, panel.lq.shape[-2:])[0, 0])
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_worst(patches: Sequence[TrainingPatch], path: str) -> None:
    """Draw the training patches in which the teacher is worst: input, student alone, teacher, ground truth, and where.

    The last column is |T - G| - |S - G|, mean over the channels: red where the teacher is worse, blue where better.

    Args:
        patches: At least one, the worst first.
        path: PNG file to write.
    """
    titles = ('low resolution', 'student alone S', 'teacher T', 'ground truth G', '|T - G| - |S - G|')
    figure, axes = plt.subplots(
        len(patches), len(titles), figsize=(2.3 * len(titles), 2.5 * len(patches)), squeeze=False, layout='constrained'
    )
    for axis, title in zip(axes[0], titles):
        axis.set_title(title, fontsize=10)
    for row, patch in zip(axes, patches):
        errors = (255 * float((image - patch.gt).abs().mean()) for image in (patch.student, patch.teacher))
        captions = ('', *(f'mean error {error:.2f} of 255' for error in errors), '')
        for axis, image, caption in zip(row, (patch.lq, patch.student, patch.teacher, patch.gt), captions):
            _show(axis, image, caption)
        _draw_balance(figure, row[-1], (patch.teacher - patch.gt).abs() - (patch.student - patch.gt).abs())
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _show(axis: plt.Axes, image: Tensor, caption: str) -> None:
    pixels = tensor2img(check_finite(image, caption))
    if pixels.ndim == 2:
        axis.imshow(pixels, cmap='gray', vmin=0, vmax=255, interpolation='nearest')
    else:
        axis.imshow(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), interpolation='nearest')
    axis.set_xlabel(caption, fontsize=9)
    _hide_axis(axis)


def _draw_heat(figure: plt.Figure, axis: plt.Axes, values: Tensor) -> None:
    levels = 255 * values.float().cpu().numpy()
    top = max(float(np.percentile(levels, BRIGHTEST)), 1e-3)
    shown = axis.imshow(levels, cmap='magma', vmin=0, vmax=top, interpolation='nearest')
    bar = figure.colorbar(shown, ax=axis, fraction=0.046, pad=0.02, extend='max')
    bar.ax.tick_params(labelsize=7)
    axis.set_xlabel(f'mean {levels.mean():.2f}', fontsize=9)
    _hide_axis(axis)


def _draw_balance(figure: plt.Figure, axis: plt.Axes, difference: Tensor) -> None:
    levels = 255 * difference[0].mean(0).float().cpu().numpy()
    top = max(float(np.percentile(np.abs(levels), BRIGHTEST)), 1e-3)
    shown = axis.imshow(levels, cmap='coolwarm', vmin=-top, vmax=top, interpolation='nearest')
    bar = figure.colorbar(shown, ax=axis, fraction=0.046, pad=0.02, extend='both')
    bar.ax.tick_params(labelsize=7)
    axis.set_xlabel(f'mean {levels.mean():+.2f}', fontsize=9)
    _hide_axis(axis)


def _hide_axis(axis: plt.Axes) -> None:
    axis.set_xticks([])
    axis.set_yticks([])


def _measure_psnr(image: Tensor, gt: Tensor, border: int) -> float:
    """Return the PSNR on Y of the images as they are drawn, in 8 bits, `border` pixels cut from each side."""
    return score(tensor2img(image), tensor2img(gt), border)[0]
