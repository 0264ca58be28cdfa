"""Check before training that every teacher is better than bicubic upsampling."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from kdsr.distillation.outputs import Batch
from kdsr.distillation.teacher import TeacherEnsemble
from kdsr.errors import UserError
from kdsr.metrics import psnr_of_error

BICUBIC = 'bicubic upsampling'
FUSED = 'all teachers fused'
SMOOTH = 1e-7  # mean squared error of bicubic upsampling (70 dB) below which images are too smooth for a comparison


def check_teacher(teacher: TeacherEnsemble, batches: Iterable[Batch], scale: int, slack: float = 0.0) -> str:
    """Compare each teacher, and their fused image, with bicubic upsampling on a few training pairs.

    PSNR over all pixels and channels of all pairs, images clamped to [0, 1]. Bicubic is torch's own (a = -0.75, no
    antialiasing, which matters only when images shrink), some hundredths of a dB from MATLAB's. In a distributed run
    every process calls this with its own pairs, and all get the same result.

    Args:
        teacher: One or many.
        batches: With ground truth, RGB (or Y) in [0, 1].
        scale: S.
        slack: dB below bicubic upsampling that are accepted: networks trained for perception lose PSNR on purpose.

    Returns:
        A line for the log.

    Raises:
        UserError: a teacher is worse than bicubic upsampling, or its images have another size; the message names it.
    """
    names = [BICUBIC, *teacher.names]
    if len(teacher.names) > 1 or teacher.aggregator is not None:
        names.append(FUSED)
    sums = sum(_sum_squared_errors(teacher, batch, scale, names) for batch in batches)
    if not isinstance(sums, Tensor):
        raise UserError('the check of the teachers was given no training pairs.')
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(sums)
    errors = dict(zip(names, (sums[:-1] / sums[-1]).tolist()))
    if errors[BICUBIC] < SMOOTH:
        return 'Teachers not checked: bicubic upsampling restores these training images exactly.'
    _refuse_worse_than_bicubic(errors, slack)
    return 'Teachers on training pairs: ' + ', '.join(
        f'{name} {_compute_psnr(error):.2f} dB' for name, error in errors.items()
    )


def _refuse_worse_than_bicubic(errors: Mapping[str, float], slack: float) -> None:
    for name, error in errors.items():
        if error <= errors[BICUBIC] * 10 ** (slack / 10):
            continue
        who = f'{FUSED} reach' if name == FUSED else f'teacher {name!r} reaches'
        raise UserError(
            f'{who} {_compute_psnr(error):.2f} dB on training pairs, less than bicubic upsampling '
            f'({_compute_psnr(errors[BICUBIC]):.2f} dB). Wrong range (images are 0..1), colour order (RGB), scale or '
            'weights? `distillation.health_check: false` trains with it anyway.'
        )


def _compute_psnr(error: float) -> float:
    return psnr_of_error(max(error, 1e-12), peak=1.0)  # a NaN stays one


@torch.no_grad()
def _sum_squared_errors(teacher: TeacherEnsemble, batch: Batch, scale: int, names: list[str]) -> Tensor:
    """Return the sum of squared errors of each name, and the number of values."""
    gt = batch.require('gt', 'the check of the teachers')
    images = {BICUBIC: F.interpolate(batch.lq, scale_factor=scale, mode='bicubic', align_corners=False)}
    for name, member in zip(teacher.names, teacher.members):
        images[name] = TeacherEnsemble({name: member}, teacher.inputs)(batch).image
        if images[name].shape != gt.shape:
            raise UserError(
                f'teacher {name!r}: its image is {tuple(images[name].shape[1:])}, the ground truth '
                f'{tuple(gt.shape[1:])}. Is it a network for x{scale}?'
            )
    if FUSED in names:
        images[FUSED] = teacher(batch).image
    gt = gt.float()
    sums = [(images[name].float().clamp(0, 1) - gt).square().sum() for name in names]
    return torch.stack([*sums, gt.new_tensor(gt.numel())])
