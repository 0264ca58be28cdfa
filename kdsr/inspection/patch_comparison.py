"""Student and teachers of a trained run on patches: errors of their images, and PSNR of the features."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from kdsr.distillation.adapters import helper_key
from kdsr.distillation.outputs import Batch, NetworkOutput
from kdsr.distillation.precision import at_least_float32
from kdsr.errors import UserError
from kdsr.experiment import Experiment, argument_of
from kdsr.losses.facd_loss import adaptive_indicator
from kdsr.metrics import psnr_of_error
from kdsr.models.distilling import Distilling
from kdsr.networks.trained_run import TrainedRun
from kdsr.progress_bars import ProgressBar

BATCH = 16  # patches
SMALLEST_ERROR = 1e-12  # equal features get 168 dB instead of infinity


@dataclass
class SetCount:
    """The images and patches of one validation set, and the patches in which the teacher is worse."""

    images: int = 0
    patches: int = 0
    rejected: int = 0


@dataclass
class FeatureSum:
    """The sums of the PSNRs of one feature on one set, in dB.

    Attributes:
        patches: How many patches were summed.
        raw: Of the features as they are; None where their shapes differ.
        mapped: Of the student's feature after the helper that a loss trained; None where there is none.
    """

    patches: int = 0
    raw: float | None = None
    mapped: float | None = None

    def add(self, raw: Tensor | None, mapped: Tensor | None) -> None:
        """Add the PSNRs of some patches, (N,) each."""
        self.patches += len(raw if raw is not None else mapped)  # type: ignore[arg-type]
        self.raw = None if raw is None else (self.raw or 0) + float(raw.sum())
        self.mapped = None if mapped is None else (self.mapped or 0) + float(mapped.sum())


@dataclass
class Findings:
    """The result of :func:`compare_patches`.

    Attributes:
        size: Side of a patch in low-resolution pixels.
        peaks: Feature to the peak of its PSNR: the range of the teacher's network.
        sets: Set to its counts.
        features: Feature to the sums of each set.
        through: Feature to the loss whose helper maps it.
        not_comparable: Names of the other features, with the reason.
    """

    size: int
    peaks: dict[str, float]
    sets: dict[str, SetCount] = field(default_factory=dict)
    features: dict[str, dict[str, FeatureSum]] = field(default_factory=dict)
    through: dict[str, str] = field(default_factory=dict)
    not_comparable: dict[str, str] = field(default_factory=dict)


def find_peaks(experiment: Experiment) -> dict[str, float]:
    """Return the range of the network behind each of the teachers' features: its `img_range`, else 1.

    EDSR and RCAN compute on 0..255 inside, whatever range their images have outside; PISR's networks on 0..1.
    """
    return {
        tap.name: float(argument_of(teacher.opt, 'img_range') or 1)
        for teacher in experiment.teachers
        for tap in experiment.taps(teacher.name)
    }


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
    found = Findings(size, find_peaks(run.experiment))
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
                _add_features(found, set_name, run.model.losses, student, teacher)
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


def _run_both(model: Distilling, batch: Batch) -> tuple[NetworkOutput, NetworkOutput]:
    with model.tap as features:
        sr = model.net_g(model.network_input(batch))
    return NetworkOutput(sr, features), model.teacher(batch)


def _add_features(
    found: Findings, set_name: str, losses: nn.ModuleDict, student: NetworkOutput, teacher: NetworkOutput
) -> None:
    for name, ours in student.features.items():
        theirs, peak = teacher.features[name], found.peaks[name]
        through, helper = _find_helper(losses, name)
        mapped = helper(ours) if through else ours
        if isinstance(mapped, tuple):  # an estimator's mean and spread
            mapped = mapped[0]
        raw_psnr = compute_feature_psnr(ours, theirs, peak) if ours.shape == theirs.shape else None
        mapped_psnr = compute_feature_psnr(mapped, theirs, peak) if through and mapped.shape == theirs.shape else None
        if raw_psnr is None and mapped_psnr is None:
            found.not_comparable[name] = (
                f'its shapes are {tuple(ours.shape[1:])} and {tuple(theirs.shape[1:])}, and no loss trains a helper'
            )
            continue
        if through:
            found.through[name] = through
        found.features.setdefault(name, {}).setdefault(set_name, FeatureSum()).add(raw_psnr, mapped_psnr)


def _find_helper(losses: nn.ModuleDict, feature: str) -> tuple[str, nn.Module]:
    """Return the name of the first loss with a helper for a feature, and that helper; ('', identity) if none has."""
    key = helper_key(feature)
    for name, loss in losses.items():
        for module in loss.modules():
            if isinstance(module, nn.ModuleDict) and key in module:
                return name, module[key]
    return '', nn.Identity()


def compute_feature_psnr(ours: Tensor, theirs: Tensor, peak: float = 255.0) -> Tensor:
    """Return the PSNR in dB of the features of each sample (FACD, Table 4).

    Args:
        ours: (N, C, H, W): the student's.
        theirs: (N, C, H, W): the teacher's.
        peak: Of the range of the features.

    Returns:
        (N,).
    """
    error = (at_least_float32(ours) - at_least_float32(theirs)).square().flatten(1).mean(1)
    return torch.tensor([psnr_of_error(value, peak) for value in error.clamp(min=SMALLEST_ERROR).tolist()])
