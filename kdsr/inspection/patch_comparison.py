"""Student and teachers of a trained run on patches: errors of their images, and PSNR of the features."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from kdsr.distillation.adapters import helper_key
from kdsr.distillation.outputs import Batch, NetworkOutput
from kdsr.distillation.precision import at_least_float32
from kdsr.errors import UserError
from kdsr.losses.facd_loss import adaptive_indicator
from kdsr.metrics import psnr_of_error
from kdsr.models.distillation_model import DistillationModel
from kdsr.networks.trained_run import TrainedRun
from kdsr.progress_bars import ProgressBar

BATCH = 16  # patches
PEAK = 255.0  # of features: FACD does not state it; 255 gives values of the size that it prints
SMALLEST_ERROR = 1e-12  # equal features get 168 dB instead of infinity


@dataclass
class SetCount:
    """The images and patches of one validation set, and the patches in which the teacher is worse."""

    images: int = 0
    patches: int = 0
    rejected: int = 0


@dataclass
class FeatureSum:
    """The sum of the PSNRs of one feature.

    Attributes:
        through: The loss whose helper maps the student's feature to the teacher's width; empty for none.
        psnr: The sum over patches, in dB.
        patches: How many patches were summed.
    """

    through: str
    psnr: float = 0.0
    patches: int = 0


@dataclass
class Findings:
    """The result of :func:`compare_patches`.

    Attributes:
        size: Side of a patch in low-resolution pixels.
        sets: Validation set to its counts.
        features: Name of each comparable feature to the sum of its PSNRs.
        not_comparable: Names of the other features, with the reason.
    """

    size: int
    sets: dict[str, SetCount] = field(default_factory=dict)
    features: dict[str, FeatureSum] = field(default_factory=dict)
    not_comparable: dict[str, str] = field(default_factory=dict)


@torch.no_grad()
def compare_patches(run: TrainedRun, images: int | None = None) -> Findings:
    """Run student and teacher on validation images, cut into patches of the training size.

    Args:
        run: The trained experiment.
        images: How many images of each set to take, from the first; None for all.

    Raises:
        UserError: no image is as large as a training patch.
    """
    size = run.experiment.training.crop // run.scale
    found = Findings(size)
    for set_name in run.set_names():
        count = found.sets[set_name] = SetCount()
        for _, lq, gt in ProgressBar(
            run.images(set_name, images), desc=set_name, unit='image', disable=None, leave=False
        ):
            count.images += 1
            for low, high in zip(
                cut_into_tiles(lq, size).split(BATCH), cut_into_tiles(gt, size * run.scale).split(BATCH)
            ):
                if not len(low):  # the image is smaller than a patch
                    continue
                student, teacher = _run_both(run.model, Batch(low, high))
                alpha = adaptive_indicator(student.image, teacher.image, high)
                count.patches += len(alpha)
                count.rejected += int((alpha == 0).sum())
                _add_features(found, run.model.losses, student, teacher)
    if not sum(count.patches for count in found.sets.values()):
        raise UserError(f'no validation image is as large as a training patch of {size}x{size} (LR) pixels.')
    return found


def cut_into_tiles(image: Tensor, size: int) -> Tensor:
    """Cut an image into squares side by side, from the top left. A remainder at the right or bottom is dropped.

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


def _run_both(model: DistillationModel, batch: Batch) -> tuple[NetworkOutput, NetworkOutput]:
    with model.tap as features:
        sr = model.net_g(model.network_input(batch))
    return NetworkOutput(sr, features), model.teacher(batch)


def _add_features(found: Findings, losses: nn.ModuleDict, student: NetworkOutput, teacher: NetworkOutput) -> None:
    for name, ours in student.features.items():
        through, helper = _find_helper(losses, name)
        theirs, mapped = teacher.features[name], helper(ours)
        if isinstance(mapped, tuple):  # an estimator's mean and spread
            mapped = mapped[0]
        if mapped.shape != theirs.shape:
            found.not_comparable[name] = (
                f'its shapes are {tuple(ours.shape[1:])} and {tuple(theirs.shape[1:])}, and no loss trains a helper'
            )
            continue
        total = found.features.setdefault(name, FeatureSum(through))
        total.psnr += float(compute_feature_psnr(mapped, theirs).sum())
        total.patches += len(ours)


def _find_helper(losses: nn.ModuleDict, feature: str) -> tuple[str, nn.Module]:
    """Return the name of the first loss with a helper for a feature, and that helper; ('', identity) if none has."""
    key = helper_key(feature)
    for name, loss in losses.items():
        for module in loss.modules():
            if isinstance(module, nn.ModuleDict) and key in module:
                return name, module[key]
    return '', nn.Identity()


def compute_feature_psnr(ours: Tensor, theirs: Tensor) -> Tensor:
    """Return the PSNR in dB of the features of each sample, with peak 255 (FACD, Table 4).

    Args:
        ours: (N, C, H, W): the student's, mapped to the teacher's width.
        theirs: (N, C, H, W): the teacher's.

    Returns:
        (N,).
    """
    error = (at_least_float32(ours) - at_least_float32(theirs)).square().flatten(1).mean(1)
    return torch.tensor([psnr_of_error(value, PEAK) for value in error.clamp(min=SMALLEST_ERROR).tolist()])
