"""Student and teachers of a trained run on patches: who is nearer to the truth, and how near their features are."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from tqdm import tqdm

from kdsr.distillation.adapters import helper_key
from kdsr.distillation.outputs import Batch, NetworkOutput
from kdsr.distillation.precision import at_least_float32
from kdsr.errors import UserError
from kdsr.losses.facd_loss import adaptive_indicator
from kdsr.models.distillation_model import DistillationModel
from kdsr.networks.trained_run import TrainedRun

AT_ONCE = 16  # patches
PEAK = 255.0  # of features: FACD does not state it, and 255 gives values of its size
SMALLEST_ERROR = 1e-12  # equal features have 168 dB instead of infinitely many


@dataclass
class SetCount:
    """Of one validation set: how many images and patches there are, and in how many the teacher is worse."""

    images: int = 0
    patches: int = 0
    rejected: int = 0


@dataclass
class FeatureSum:
    """Of one feature: the loss whose helper brings the student's to the teacher's width, and the sum of the PSNRs."""

    through: str
    psnr: float = 0.0
    patches: int = 0


@dataclass
class Findings:
    """What :func:`compare_patches` finds.

    Attributes:
        size: Side of a patch of the low-resolution image.
        sets: Validation set to its counts.
        features: Feature to the sum of its PSNRs; those that can be compared.
        apart: Features that cannot be compared, with the reason.
    """

    size: int
    sets: dict[str, SetCount] = field(default_factory=dict)
    features: dict[str, FeatureSum] = field(default_factory=dict)
    apart: dict[str, str] = field(default_factory=dict)


@torch.no_grad()
def compare_patches(run: TrainedRun, images: int | None = None) -> Findings:
    """Run student and teacher on patches of the training size, cut side by side out of the validation images.

    Args:
        run: The trained experiment.
        images: At most so many of each set.

    Raises:
        UserError: no image is as large as a training patch.
    """
    size = int(run.opt['datasets']['train']['gt_size']) // run.scale
    found = Findings(size)
    for set_name in run.set_names():
        count = found.sets[set_name] = SetCount()
        for _, lq, gt in tqdm(run.images(set_name, images), desc=set_name, unit='image', disable=None, leave=False):
            count.images += 1
            for low, high in zip(tiles(lq, size).split(AT_ONCE), tiles(gt, size * run.scale).split(AT_ONCE)):
                if not len(low):  # the image is smaller than a patch
                    continue
                student, teacher = _answers(run.model, Batch(low, high))
                alpha = adaptive_indicator(student.sr, teacher.sr, high)
                count.patches += len(alpha)
                count.rejected += int((alpha == 0).sum())
                _add_features(found, run.model.losses, student, teacher)
    if not sum(count.patches for count in found.sets.values()):
        raise UserError(f'no validation image is as large as a training patch, {size}x{size} (LR).')
    return found


def tiles(image: Tensor, size: int) -> Tensor:
    """Cut an image into squares side by side, from the top left; what is left over is dropped.

    Args:
        image: (1, C, h, w).
        size: Side of a square.

    Returns:
        (n, C, size, size), row by row.
    """
    rows, columns = image.shape[-2] // size, image.shape[-1] // size
    image = image[0, :, : rows * size, : columns * size]
    grid = image.unflatten(2, (columns, size)).unflatten(1, (rows, size))
    return grid.permute(1, 3, 0, 2, 4).flatten(0, 1)


def _answers(model: DistillationModel, batch: Batch) -> tuple[NetworkOutput, NetworkOutput]:
    with model.tap as features:
        sr = model.net_g(model.shown(batch))
    return NetworkOutput(sr, features), model.teacher(batch)


def _add_features(found: Findings, losses: nn.ModuleDict, student: NetworkOutput, teacher: NetworkOutput) -> None:
    for name, ours in student.features.items():
        through, helper = _helper(losses, name)
        theirs, brought = teacher.features[name], helper(ours)
        if isinstance(brought, tuple):  # an estimator's mean and spread
            brought = brought[0]
        if brought.shape != theirs.shape:
            found.apart[name] = f'{tuple(ours.shape[1:])} and {tuple(theirs.shape[1:])}, and no loss trains a helper'
            continue
        total = found.features.setdefault(name, FeatureSum(through))
        total.psnr += float(feature_psnr(brought, theirs).sum())
        total.patches += len(ours)


def _helper(losses: nn.ModuleDict, feature: str) -> tuple[str, nn.Module]:
    """Return the first loss that trains a helper for a feature, and the helper; an identity if none does."""
    key = helper_key(feature)
    for name, loss in losses.items():
        for module in loss.modules():
            if isinstance(module, nn.ModuleDict) and key in module:
                return name, module[key]
    return '', nn.Identity()


def feature_psnr(ours: Tensor, theirs: Tensor) -> Tensor:
    """Return the PSNR in dB of each sample's feature against the teacher's, peak 255 (FACD, Table 4).

    Args:
        ours: (N, C, H, W), brought to the teacher's width.
        theirs: Same shape.

    Returns:
        (N,).
    """
    error = (at_least_float32(ours) - at_least_float32(theirs)).square().flatten(1).mean(1)
    return -10 * torch.log10(error.clamp(min=SMALLEST_ERROR) / PEAK**2)
