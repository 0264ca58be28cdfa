"""A picture of where a student errs, and where it differs from its teacher: LSFD's attention map."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import matplotlib as mpl
import numpy as np
import torch
from basicsr.utils import tensor2img
from basicsr.utils.color_util import rgb2ycbcr_pt
from torch import Tensor

from kdsr.distillation.outputs import Batch
from kdsr.distillation.padding import run_padded
from kdsr.losses.lsfd_loss import selective_map
from kdsr.networks.trained_run import TrainedRun

mpl.use('Agg')
from matplotlib import pyplot as plt

SIDE = 384  # pixels of the super-resolved part that is shown
TITLES = ('low resolution', 'student S', 'teacher T', 'error |S - G|', 'attention map |T - S|')
BRIGHTEST = 99.5  # percentile of a map at which its colours end


@dataclass(frozen=True)
class Panel:
    """One line of the picture.

    Attributes:
        name: Of set and image.
        lq: (1, C, h, w), RGB or Y in [0, 1], like the others.
        gt: (1, C, S*h, S*w).
        student: Its image, (1, C, S*h, S*w).
        teacher: Its image, the same.
    """

    name: str
    lq: Tensor
    gt: Tensor
    student: Tensor
    teacher: Tensor


@torch.no_grad()
def panels(run: TrainedRun, count: int) -> Iterator[Panel]:
    """Yield what is to be shown of the first `count` validation images: their middle, as student and teacher see it."""
    side = max(SIDE // run.scale, 1)
    for set_name in run.set_names():
        for name, lq, gt in run.images(set_name, count):
            top, left = (max(length - side, 0) // 2 for length in lq.shape[-2:])
            low = lq[..., top : top + side, left : left + side]
            high = gt[..., run.scale * top :, run.scale * left :][..., : run.scale * side, : run.scale * side]
            batch = Batch(low, high)
            student = run_padded(run.model.net_g, run.model.shown(batch), run.model.window())
            yield Panel(f'{set_name} {name}', low, high, student, run.model.teacher(batch).sr)
            count -= 1


def draw(lines: list[Panel], path: str) -> None:
    """Draw one line per image: input, student, teacher, the student's error, and the attention map.

    Args:
        lines: At least one.
        path: PNG file to write.
    """
    figure, axes = plt.subplots(
        len(lines), len(TITLES), figsize=(2.6 * len(TITLES), 2.75 * len(lines)), squeeze=False, layout='constrained'
    )
    for axis, title in zip(axes[0], TITLES):
        axis.set_title(title, fontsize=10)
    for row, line in zip(axes, lines):
        border = line.gt.shape[-1] // line.lq.shape[-1]
        _show(row[0], line.lq, line.name)
        _show(row[1], line.student, f'PSNR {_psnr(line.student, line.gt, border):.2f} dB')
        _show(row[2], line.teacher, f'PSNR {_psnr(line.teacher, line.gt, border):.2f} dB')
        _heat(figure, row[3], (line.student - line.gt).abs().mean(1)[0])
        _heat(figure, row[4], selective_map(line.student, line.teacher, line.lq.shape[-2:])[0, 0])
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _show(axis: plt.Axes, image: Tensor, caption: str) -> None:
    pixels = tensor2img(image)
    if pixels.ndim == 2:
        axis.imshow(pixels, cmap='gray', vmin=0, vmax=255, interpolation='nearest')
    else:
        axis.imshow(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), interpolation='nearest')
    axis.set_xlabel(caption, fontsize=9)
    _bare(axis)


def _heat(figure: plt.Figure, axis: plt.Axes, values: Tensor) -> None:
    levels = 255 * values.float().cpu().numpy()
    top = max(float(np.percentile(levels, BRIGHTEST)), 1e-3)
    shown = axis.imshow(levels, cmap='magma', vmin=0, vmax=top, interpolation='nearest')
    bar = figure.colorbar(shown, ax=axis, fraction=0.046, pad=0.02, extend='max')
    bar.ax.tick_params(labelsize=7)
    axis.set_xlabel(f'mean {levels.mean():.2f}', fontsize=9)
    _bare(axis)


def _bare(axis: plt.Axes) -> None:
    axis.set_xticks([])
    axis.set_yticks([])


def _psnr(image: Tensor, gt: Tensor, border: int) -> float:
    """Return the PSNR on Y of what is shown, `border` pixels left out."""
    if image.shape[1] == 3:
        image, gt = (rgb2ycbcr_pt(x.clamp(0, 1), y_only=True) for x in (image, gt))
    difference = (image.clamp(0, 1) - gt)[..., border:-border, border:-border]
    return -10 * float(difference.square().mean().clamp(min=1e-12).log10())
